//! The walls around a decoder process, which it puts up itself before it sees the first foreign byte.
//!
//! Called by `process`. After [`confine`] the process can work with the memory that it has, ask for more up to its limit, and talk over the one socket that it was given; every
//! other system call fails with EPERM, so that a library that asks for something needless goes on without it. Calls that no decoder makes and that a taken-over
//! process would make first (starting programs, sockets, other processes' memory) kill it: the daemon's log then tells of a forbidden call, and not of a mere crash.
//! Sources: seccomp(2), `Documentation/userspace-api/seccomp_filter.rst`. Left out: namespaces and a changed root. Nothing can be opened any more, so there is nothing to hide.

use std::collections::BTreeMap;
use std::io;

use nix::errno::Errno;
use nix::libc::{self, c_long};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};

use super::wire::{Refusal, Step};
use crate::imaging::pdf::STACK_BYTES;

/// The socket to the daemon.
pub const SOCKET: i32 = 0;

/// Descriptors that a decoder process has: the socket, its memory file, and a standard error that leads nowhere.
const DESCRIPTORS: u64 = 3;

/// Calls that are allowed whatever they are given.
const PLAIN: &[c_long] = &[
    // Memory. New mappings are looked at more closely below.
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_brk,
    libc::SYS_madvise,
    // Waiting for the next question.
    #[cfg(target_arch = "x86_64")]
    libc::SYS_poll,
    libc::SYS_ppoll,
    libc::SYS_restart_syscall,
    // Locks of the C and C++ libraries.
    libc::SYS_futex,
    libc::SYS_sched_yield,
    // Seeds of hash tables; the clock, where the kernel's page for it is not there.
    libc::SYS_getrandom,
    libc::SYS_clock_gettime,
    // The end, in order and by abort(3).
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_rt_sigreturn,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigaction,
    libc::SYS_getpid,
    libc::SYS_gettid,
];

/// What a new thread asks for; only where libheif, whose HEVC decoder starts one, is there.
const OF_THREADS: &[c_long] = &[libc::SYS_set_robust_list, libc::SYS_rseq, libc::SYS_sigaltstack];

/// Calls that end the process: the first steps of whoever has taken it over.
const FORBIDDEN: &[c_long] = &[
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_socket,
    libc::SYS_connect,
    libc::SYS_bind,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_pidfd_getfd,
    libc::SYS_open_by_handle_at,
    libc::SYS_mount,
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_bpf,
    libc::SYS_io_uring_setup,
    libc::SYS_userfaultfd,
    libc::SYS_keyctl,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_kexec_load,
];

/// A filter that could not be made or set.
#[derive(Debug)]
pub struct FilterError(i32);

impl From<io::Error> for FilterError {
    fn from(error: io::Error) -> Self {
        Self(error.raw_os_error().unwrap_or(libc::EINVAL))
    }
}

/// Filters ready to be set, in the order in which they must be: after the last, none can be added.
pub struct Filters(Vec<BpfProgram>);

impl Filters {
    /// The filters of this process. `threads`: new threads may be started.
    ///
    /// # Errors
    /// On an architecture for which there are none.
    pub fn new(threads: bool) -> Result<Self, FilterError> {
        let (allow, forbid) = (SeccompAction::Allow, SeccompAction::KillProcess);
        let denied = |errno: i32| SeccompAction::Errno(errno.unsigned_abs());
        let forbidden = FORBIDDEN.iter().map(|call| (*call, Vec::new())).collect();
        let mut programs = vec![compile(forbidden, allow.clone(), forbid)?];
        if threads {
            // Its flags lie in memory, where no filter sees them; without it the C library takes clone(2).
            let clone3 = BTreeMap::from([(libc::SYS_clone3, Vec::new())]);
            programs.push(compile(clone3, allow.clone(), denied(libc::ENOSYS))?);
        }
        programs.push(compile(allowed(threads)?, denied(libc::EPERM), allow)?);
        Ok(Self(programs))
    }

    /// Sets them for the calling thread, for ever. Only system calls are made, no memory is asked for.
    ///
    /// # Errors
    /// What the kernel says; filters set before the failure stay.
    pub fn set(&self) -> Result<(), Errno> {
        // SAFETY: these arguments are numbers alone.
        Errno::result(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) })?;
        for program in &self.0 {
            let program = libc::sock_fprog {
                len: u16::try_from(program.len()).map_err(|_| Errno::E2BIG)?,
                // The crate's own type has the kernel's layout, as libc's has. The kernel only reads it.
                filter: program.as_ptr().cast_mut().cast(),
            };
            // prctl and not seccomp(2): there is one thread, and services that name their calls know prctl.
            // SAFETY: `program` points to `len` instructions, which live until the call has returned.
            Errno::result(unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) })?;
        }
        Ok(())
    }
}

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

fn compile(rules: Rules, otherwise: SeccompAction, action: SeccompAction) -> Result<BpfProgram, FilterError> {
    let unknown = |_| FilterError(libc::ENOSYS);
    let arch = std::env::consts::ARCH.try_into().map_err(unknown)?;
    SeccompFilter::new(rules, otherwise, action, arch).and_then(BpfProgram::try_from).map_err(unknown)
}

fn allowed(threads: bool) -> Result<Rules, FilterError> {
    let plain = |call: &c_long| (*call, Vec::new());
    let mut rules: Rules = PLAIN.iter().map(plain).collect();
    let own_pid = std::process::id().into();
    let (exec, kind) = (libc::PROT_EXEC as u64, (libc::MAP_TYPE | libc::MAP_ANONYMOUS) as u64);
    let anonymous = (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS) as u64;
    let no_code = SeccompCmpOp::MaskedEq(exec);
    for (call, conditions) in [
        (libc::SYS_recvfrom, vec![(0, SeccompCmpOp::Eq, SOCKET as u64)]),
        // Without an address: to whom the socket is connected.
        (libc::SYS_sendto, vec![(0, SeccompCmpOp::Eq, SOCKET as u64), (4, SeccompCmpOp::Eq, 0)]),
        // Memory that is the process's own and holds no code.
        (libc::SYS_mmap, vec![(2, no_code.clone(), 0), (3, SeccompCmpOp::MaskedEq(kind), anonymous)]),
        (libc::SYS_mprotect, vec![(2, no_code, 0)]),
        // abort(3) sends a signal to its own thread.
        (libc::SYS_tgkill, vec![(0, SeccompCmpOp::Eq, own_pid)]),
    ] {
        rules.insert(call, vec![rule(conditions)?]);
    }
    if threads {
        rules.extend(OF_THREADS.iter().map(plain));
        rules.insert(libc::SYS_clone3, Vec::new());
        // A thread of this process, in no new namespace.
        let thread = (libc::CLONE_THREAD | libc::CLONE_VM) as u64;
        let namespaces = libc::CLONE_NEWNS
            | libc::CLONE_NEWCGROUP
            | libc::CLONE_NEWUTS
            | libc::CLONE_NEWIPC
            | libc::CLONE_NEWUSER
            | libc::CLONE_NEWPID
            | libc::CLONE_NEWNET;
        let looked_at = SeccompCmpOp::MaskedEq(thread | namespaces as u64);
        rules.insert(libc::SYS_clone, vec![rule(vec![(0, looked_at, thread)])?]);
    }
    Ok(rules)
}

fn rule(conditions: Vec<(u8, SeccompCmpOp, u64)>) -> Result<SeccompRule, FilterError> {
    let wrong = |_| FilterError(libc::EINVAL);
    let conditions: Result<_, _> = conditions
        .into_iter()
        .map(|(argument, operation, value)| {
            SeccompCondition::new(argument, SeccompCmpArgLen::Qword, operation, value).map_err(wrong)
        })
        .collect();
    SeccompRule::new(conditions?).map_err(wrong)
}

/// The stack that rendering PDF pages needs, for the main thread. To be called before it is used deeply.
///
/// The room is there: below the main stack the kernel leaves at least 128 MiB free (`mmap_base` in `mm/util.c`).
///
/// # Errors
/// If the limit that the daemon was started with is lower.
pub fn widen_stack() -> Result<(), Refusal> {
    let failed = |errno: Errno| Refusal { step: Step::Limits, errno: errno as i32 };
    let (_, hard) = getrlimit(Resource::RLIMIT_STACK).map_err(failed)?;
    // A part of it lies above: the arguments, and what the program itself has in use.
    let wanted = (STACK_BYTES as u64) + (8 << 20);
    setrlimit(Resource::RLIMIT_STACK, wanted, hard).map_err(failed)
}

/// Limits, then filters, then the proof that they hold. Nothing can be loaded or opened afterwards.
///
/// # Errors
/// What the host does not allow.
pub fn confine(memory_bytes: u64, processor_seconds: u64, threads: bool) -> Result<(), Refusal> {
    let failed = |step: Step| move |errno: Errno| Refusal { step, errno: errno as i32 };
    let filter = |FilterError(errno)| Refusal { step: Step::Filter, errno };
    let filters = Filters::new(threads).map_err(filter)?;
    let no_size = |_| Refusal { step: Step::Limits, errno: libc::ENOENT };
    let mapped = crate::ops::process::mapped_bytes().map_err(no_size)?;
    for (resource, most) in [
        (Resource::RLIMIT_CORE, 0),
        (Resource::RLIMIT_FSIZE, 0),
        (Resource::RLIMIT_NOFILE, DESCRIPTORS),
        // Everything that is mapped counts, so that no kind of memory is without a limit.
        (Resource::RLIMIT_AS, mapped.saturating_add(memory_bytes)),
        // While it is asked the daemon looks at the time; this ends one that works on unasked.
        (Resource::RLIMIT_CPU, processor_seconds),
    ] {
        setrlimit(resource, most, most).map_err(failed(Step::Limits))?;
    }
    filters.set().map_err(failed(Step::Filter))?;
    // SAFETY: the path is a string with its closing zero, and what is returned is a number.
    let opened = unsafe { libc::open(c"/".as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC) };
    match (opened, Errno::last()) {
        (-1, Errno::EPERM) => Ok(()),
        (_, errno) => Err(Refusal { step: Step::Proof, errno: errno as i32 }),
    }
}

#[cfg(test)]
mod tests {
    use nix::sys::wait::{WaitStatus, waitpid};
    use nix::unistd::{ForkResult, fork};

    use super::*;

    /// Makes a call in a child process under the filters: the errno (0 for success), or the signal that ended it.
    fn under_filters(threads: bool, call: impl Fn() -> c_long) -> Result<i32, i32> {
        let filters = Filters::new(threads).unwrap();
        // SAFETY: the child makes system calls alone, which is all that is allowed after a fork with threads around.
        match unsafe { fork() }.unwrap() {
            ForkResult::Child => {
                let code = match filters.set() {
                    Err(_) => 250,
                    Ok(()) if call() == -1 => Errno::last_raw(),
                    Ok(()) => 0,
                };
                // SAFETY: ends the child without running anything of the test's.
                unsafe { libc::_exit(code) }
            }
            ForkResult::Parent { child } => match waitpid(child, None).unwrap() {
                WaitStatus::Exited(_, code) => Ok(code),
                WaitStatus::Signaled(_, signal, _) => Err(signal as i32),
                other => panic!("{other:?}"),
            },
        }
    }

    /// A call by its number; what is not given is 0.
    fn call<const N: usize>(number: c_long, arguments: [usize; N]) -> impl Fn() -> c_long {
        move || {
            let at = |index: usize| arguments.get(index).copied().unwrap_or(0);
            // SAFETY: the tests below ask for nothing that would touch memory in use.
            unsafe { libc::syscall(number, at(0), at(1), at(2), at(3), at(4), at(5)) }
        }
    }

    const PRIVATE: usize = (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS) as usize;
    const SHARED: usize = (libc::MAP_SHARED | libc::MAP_ANONYMOUS) as usize;
    const NO_FILE: usize = usize::MAX;

    #[test]
    fn what_decoding_needs_works() {
        let read_write = (libc::PROT_READ | libc::PROT_WRITE) as usize;
        assert_eq!(under_filters(false, call(libc::SYS_mmap, [0, 4096, read_write, PRIVATE, NO_FILE, 0])), Ok(0));
        assert_eq!(under_filters(false, call(libc::SYS_getrandom, [0, 0, 0])), Ok(0));
        assert_eq!(under_filters(false, call(libc::SYS_sched_yield, [])), Ok(0));
        // Allowed, and answered by the kernel: descriptor 0 of a test is no socket.
        assert_ne!(under_filters(false, call(libc::SYS_recvfrom, [0, 0, 0, 0, 0, 0])), Ok(libc::EPERM));
    }

    #[test]
    fn files_other_descriptors_code_and_new_processes_are_refused() {
        let path = c"/etc/passwd".as_ptr() as usize;
        let here = libc::AT_FDCWD as usize;
        let (read, exec) = (libc::PROT_READ as usize, (libc::PROT_READ | libc::PROT_EXEC) as usize);
        let own = 4096 * 16;
        for threads in [false, true] {
            for (what, result) in [
                ("openat", under_filters(threads, call(libc::SYS_openat, [here, path, 0]))),
                ("openat2", under_filters(threads, call(libc::SYS_openat2, [here, path, 0]))),
                ("unlinkat", under_filters(threads, call(libc::SYS_unlinkat, [here, path, 0]))),
                ("read", under_filters(threads, call(libc::SYS_read, [0, 0, 0]))),
                ("write", under_filters(threads, call(libc::SYS_write, [2, path, 1]))),
                ("sendto elsewhere", under_filters(threads, call(libc::SYS_sendto, [5, path, 1]))),
                ("sendto an address", under_filters(threads, call(libc::SYS_sendto, [0, path, 1, 0, path, 16]))),
                ("sendmsg", under_filters(threads, call(libc::SYS_sendmsg, [0, path, 0]))),
                ("dup", under_filters(threads, call(libc::SYS_dup, [0]))),
                ("ioctl", under_filters(threads, call(libc::SYS_ioctl, [0, 0, 0]))),
                ("a file mapped", under_filters(threads, call(libc::SYS_mmap, [0, 4096, read, 2, 1, 0]))),
                ("shared memory", under_filters(threads, call(libc::SYS_mmap, [0, own, read, SHARED, NO_FILE, 0]))),
                ("code mapped", under_filters(threads, call(libc::SYS_mmap, [0, own, exec, PRIVATE, NO_FILE, 0]))),
                ("code made", under_filters(threads, call(libc::SYS_mprotect, [0, 4096, exec]))),
                ("fork", under_filters(threads, call(libc::SYS_clone, [libc::SIGCHLD as usize, 0]))),
                ("kill", under_filters(threads, call(libc::SYS_kill, [1, 0]))),
                ("another's thread", under_filters(threads, call(libc::SYS_tgkill, [1, 1, 0]))),
                ("prctl", under_filters(threads, call(libc::SYS_prctl, [libc::PR_SET_DUMPABLE as usize, 1]))),
                ("prlimit64", under_filters(threads, call(libc::SYS_prlimit64, [0, 0, 0, 0]))),
            ] {
                assert_eq!(result, Ok(libc::EPERM), "{what}, threads: {threads}");
            }
        }
    }

    #[test]
    fn the_first_steps_of_an_attacker_kill_the_process() {
        for number in FORBIDDEN {
            for threads in [false, true] {
                let result = under_filters(threads, call(*number, [0, 0, 0]));
                assert_eq!(result, Err(libc::SIGSYS), "call {number}, threads: {threads}");
            }
        }
    }

    /// Whatever the kernel makes of the number: the filter stands before it.
    #[test]
    fn every_other_call_is_refused() {
        const BEYOND_THE_LAST: c_long = 512;
        // uretprobe and uprobe of x86-64: newer kernels ask no filter, and who calls them from elsewhere than a probe gets SIGILL.
        const UNFILTERED: [c_long; 2] = [335, 336];
        for threads in [false, true] {
            let known = allowed(threads).unwrap();
            let others = (0..BEYOND_THE_LAST).filter(|call| !known.contains_key(call) && !FORBIDDEN.contains(call));
            for number in others.filter(|call| !UNFILTERED.contains(call)) {
                assert_eq!(
                    under_filters(threads, call(number, [0, 0, 0])),
                    Ok(libc::EPERM),
                    "call {number}, threads: {threads}"
                );
            }
        }
    }

    #[test]
    fn the_c_library_is_told_that_there_is_no_clone3() {
        assert_eq!(under_filters(true, call(libc::SYS_clone3, [0, 0])), Ok(libc::ENOSYS));
        assert_eq!(under_filters(false, call(libc::SYS_clone3, [0, 0])), Ok(libc::EPERM));
    }
}
