//! What the daemon knows of its own process: cores it may use, memory it holds and gives back, core dumps and telemetry it must not
//! leave.
//!
//! Called by `vouchd` at start (cores, allocator, core dumps, telemetry), by `vouch` (telemetry), by whoever sizes thread pools (cores) and by the status RPC (memory).
//! Sources: Linux `Documentation/admin-guide/cgroup-v2.rst` (cpu.max), `cgroup-v1/` and `scheduler/sched-bwc.rst`
//! (cpu.cfs_quota_us), `proc(5)`, `prctl(2)`. Left out: cpu shares and weights, which divide a busy machine and limit nothing.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sched::{CpuSet, sched_getaffinity};
use nix::sys::resource::{Resource, UsageWho, getrlimit, getrusage, setrlimit};
use nix::unistd::{Pid, SysconfVar, sysconf};

/// Cores that this process may use: those that it may be scheduled on, or fewer if a cgroup limits its time. At least 1.
///
/// A quota of 2.5 cores counts as 3: a thread more than the quota costs little, a core left idle costs a third.
/// [`std::thread::available_parallelism`] would round down.
pub fn available_cores() -> usize {
    let affinity = sched_getaffinity(Pid::from_raw(0))
        .map(|set| (0..CpuSet::count()).filter(|core| set.is_set(*core).unwrap_or(false)).count())
        .ok()
        .or_else(|| std::thread::available_parallelism().ok().map(usize::from))
        .unwrap_or(1);
    let membership = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let quota = cgroup_cores(&membership, Path::new("/sys/fs/cgroup"));
    affinity.min(quota.unwrap_or(usize::MAX)).max(1)
}

/// The smallest quota, in cores rounded up, of the cgroups that the process is in and of those around them; `None` without one.
///
/// `membership` is `/proc/self/cgroup`, `mount` where cgroups are mounted.
fn cgroup_cores(membership: &str, mount: &Path) -> Option<usize> {
    membership
        .lines()
        .filter_map(|line| {
            // hierarchy-ID:controller-list:path, see cgroups(7). Version 2 has the ID 0 and no list.
            let mut parts = line.splitn(3, ':');
            let (_, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
            let version_2 = controllers.is_empty();
            if !version_2 && !controllers.split(',').any(|controller| controller == "cpu") {
                return None;
            }
            let root = if version_2 { mount.to_owned() } else { mount.join(controllers) };
            let read: fn(&Path) -> Option<f64> = if version_2 { quota_v2 } else { quota_v1 };
            // In a container the path may name a group that is mounted as the root, so groups that are not there are passed over.
            let within = Path::new(path.trim_start_matches('/'));
            within.ancestors().filter_map(|group| read(&root.join(group))).min_by(f64::total_cmp)
        })
        .min_by(f64::total_cmp)
        .map(|cores| cores.ceil() as usize)
}

/// `cpu.max` is `QUOTA PERIOD` in microseconds, the quota `max` without a limit.
fn quota_v2(group: &Path) -> Option<f64> {
    let text = std::fs::read_to_string(group.join("cpu.max")).ok()?;
    let (quota, period) = text.trim().split_once(' ')?;
    Some(quota.parse::<f64>().ok()? / period.parse::<f64>().ok().filter(|period| *period > 0.0)?)
}

/// Two files in microseconds, the quota −1 without a limit.
fn quota_v1(group: &Path) -> Option<f64> {
    let read = |name: &str| -> Option<f64> {
        let path: PathBuf = group.join(name);
        std::fs::read_to_string(path).ok()?.trim().parse().ok().filter(|value| *value > 0.0)
    };
    Some(read("cpu.cfs_quota_us")? / read("cpu.cfs_period_us")?)
}

/// Resident memory of this process, in bytes.
///
/// # Errors
/// If `/proc` is not there or not as `proc(5)` says.
pub fn resident_bytes() -> io::Result<u64> {
    resident_bytes_in(&File::open("/proc/self/statm")?)
}

/// Resident memory of the process whose `/proc/PID/statm` is open, in bytes; 0 once it has ended.
///
/// # Errors
/// If the file is not as `proc(5)` says.
pub fn resident_bytes_in(statm: &File) -> io::Result<u64> {
    bytes_in(statm, 1)
}

/// Address space of this process: all that counts for `RLIMIT_AS`.
///
/// # Errors
/// If `/proc` is not there or not as `proc(5)` says.
pub fn mapped_bytes() -> io::Result<u64> {
    bytes_in(&File::open("/proc/self/statm")?, 0)
}

/// A field of `statm`: size resident shared text lib data dt, in pages.
fn bytes_in(statm: &File, field: usize) -> io::Result<u64> {
    // Seven numbers of twenty digits at most.
    let mut text = [0; 256];
    let length = statm.read_at(&mut text, 0)?;
    let statm = String::from_utf8_lossy(&text[..length]);
    let pages: Option<u64> = statm.split_whitespace().nth(field).and_then(|field| field.parse().ok());
    let page_bytes = sysconf(SysconfVar::PAGE_SIZE)?.and_then(|bytes| u64::try_from(bytes).ok());
    match (pages, page_bytes) {
        (Some(pages), Some(page_bytes)) => Ok(pages * page_bytes),
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, "/proc/PID/statm is not as expected")),
    }
}

/// What this process uses of its host.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Usage {
    pub resident_bytes: u64,
    /// User and system.
    pub cpu: Duration,
    pub open_files: usize,
    pub threads: usize,
}

/// # Errors
/// If `/proc` is not there or not as `proc(5)` says.
pub fn usage() -> io::Result<Usage> {
    let times = getrusage(UsageWho::RUSAGE_SELF)?;
    let seconds = |time: nix::sys::time::TimeVal| {
        let (whole, micros) = (u64::try_from(time.tv_sec()), u64::try_from(time.tv_usec()));
        Duration::from_secs(whole.unwrap_or(0)) + Duration::from_micros(micros.unwrap_or(0))
    };
    Ok(Usage {
        resident_bytes: resident_bytes()?,
        cpu: seconds(times.user_time()) + seconds(times.system_time()),
        // The one that lists them is not counted.
        open_files: std::fs::read_dir("/proc/self/fd")?.count().saturating_sub(1),
        threads: std::fs::read_dir("/proc/self/task")?.count(),
    })
}

/// Bounds what the allocator keeps of memory that was given back. To be called before the first thread is started.
///
/// Left alone, glibc gives each of the many threads that work on pictures an arena of its own, and after the first large
/// picture stops mapping such blocks apart, so that they leave holes between small ones: the resident size then grows with
/// the history of the daemon. `benches/soak.rs` measures it; ARCHITECTURE.md has the alternatives that were tried.
pub fn bound_kept_memory() {
    #[cfg(target_env = "gnu")]
    {
        use nix::libc::{M_ARENA_MAX, M_MMAP_THRESHOLD, M_TRIM_THRESHOLD, mallopt};
        /// More arenas let more threads allocate at once, which they do rarely here, and keep more.
        const ARENAS: i32 = 2;
        /// Blocks from this size on (pictures, tensors of the larger detector inputs) are mapped apart and go back to the
        /// system at once. Lowered to 1 MiB, the daemon is a tenth smaller and spends a fifth more processor time.
        const MAPPED_FROM_BYTES: i32 = 4 << 20;
        /// Free memory that an arena may keep at its end. Setting the size above lowers it to 128 KiB: constant shrinking.
        const KEPT_AT_END_BYTES: i32 = 32 << 20;
        for (parameter, value) in
            [(M_ARENA_MAX, ARENAS), (M_MMAP_THRESHOLD, MAPPED_FROM_BYTES), (M_TRIM_THRESHOLD, KEPT_AT_END_BYTES)]
        {
            // SAFETY: mallopt(3) takes two integers and changes nothing but the allocator's settings.
            unsafe { mallopt(parameter, value) };
        }
    }
}

/// Lets the allocator of a decoder process keep what it is given back, so that the next picture finds pages that are there. The process gives them back when
/// nothing is asked of it for a while ([`give_back_free_memory`]).
pub fn keep_memory() {
    #[cfg(target_env = "gnu")]
    {
        use nix::libc::{M_ARENA_MAX, M_MMAP_THRESHOLD, M_TRIM_THRESHOLD, mallopt};
        /// glibc's own largest value (`HEAP_MAX_SIZE / 2`). Larger blocks, of pictures above ten megapixels, are mapped apart and go back at once.
        const MAPPED_FROM_BYTES: i32 = 32 << 20;
        for (parameter, value) in
            [(M_ARENA_MAX, 1), (M_MMAP_THRESHOLD, MAPPED_FROM_BYTES), (M_TRIM_THRESHOLD, i32::MAX)]
        {
            // SAFETY: as in `bound_kept_memory`.
            unsafe { mallopt(parameter, value) };
        }
    }
}

/// Gives the free pages between used blocks back to the system, which the allocator by itself never does. It takes some
/// milliseconds, in which other threads may have to wait for an allocation.
pub fn give_back_free_memory() {
    #[cfg(target_env = "gnu")]
    {
        // SAFETY: malloc_trim(3) may be called at any time, from any thread.
        unsafe { nix::libc::malloc_trim(0) };
    }
}

/// Turns ONNX Runtime's telemetry off. Since 1.29 the builds for Linux write a number of the device and a data base of events into the user's cache folder and send them to
/// Microsoft; the switch of its API comes too late, as making the environment already does both. To be called before the first thread is started.
pub fn turn_telemetry_off() {
    // SAFETY: no other thread is there that could read the environment.
    unsafe { std::env::set_var("ORT_DISABLE_TELEMETRY", "1") };
}

/// Sees to it that no core dump of this process, which holds pictures of people, is ever written or piped to a collector, and
/// that no other process of the same user can read its memory.
///
/// Both calls are needed: a collector named in `core_pattern` is started whatever the size limit, but not for a process that
/// is not dumpable.
///
/// # Errors
/// If the kernel refuses, which `prctl(2)` and `setrlimit(2)` do not foresee for these values.
pub fn disable_core_dumps() -> io::Result<()> {
    setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
    nix::sys::prctl::set_dumpable(false)?;
    Ok(())
}

/// Lets this process have as many files open as it may: a service manager gives 1024 to those that do not ask, for the sake of old programs. Gives the limit.
///
/// # Errors
/// If the kernel refuses, as a filter of system calls may.
pub fn raise_descriptor_limit() -> io::Result<u64> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft < hard {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    }
    Ok(hard)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn write(root: &Path, path: &str, text: &str) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    #[test]
    fn v2_quota_is_rounded_up() {
        let root = tempfile::tempdir().unwrap();
        write(root.path(), "a/b/cpu.max", "250000 100000\n");
        assert_eq!(cgroup_cores("0::/a/b\n", root.path()), Some(3));
    }

    #[test]
    fn v2_quota_of_an_outer_group_counts() {
        let root = tempfile::tempdir().unwrap();
        write(root.path(), "cpu.max", "max 100000\n");
        write(root.path(), "a/cpu.max", "100000 100000\n");
        write(root.path(), "a/b/cpu.max", "400000 100000\n");
        assert_eq!(cgroup_cores("0::/a/b\n", root.path()), Some(1));
    }

    #[test]
    fn v2_in_a_container_the_root_of_the_mount_counts() {
        let root = tempfile::tempdir().unwrap();
        write(root.path(), "cpu.max", "150000 100000\n");
        assert_eq!(cgroup_cores("0::/\n", root.path()), Some(2));
        assert_eq!(cgroup_cores("0::/not/mounted/here\n", root.path()), Some(2));
    }

    #[test]
    fn no_quota_is_none() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(cgroup_cores("0::/a\n", root.path()), None);
        write(root.path(), "a/cpu.max", "max 100000\n");
        write(root.path(), "cpu,cpuacct/a/cpu.cfs_quota_us", "-1\n");
        write(root.path(), "cpu,cpuacct/a/cpu.cfs_period_us", "100000\n");
        assert_eq!(cgroup_cores("4:cpu,cpuacct:/a\n0::/a\n", root.path()), None);
    }

    #[test]
    fn v1_quota_is_read_from_the_cpu_controller_alone() {
        let root = tempfile::tempdir().unwrap();
        for (controllers, quota) in [("cpu,cpuacct", "350000"), ("cpuset", "100000")] {
            write(root.path(), &format!("{controllers}/a/cpu.cfs_quota_us"), quota);
            write(root.path(), &format!("{controllers}/a/cpu.cfs_period_us"), "100000\n");
        }
        let membership = "9:name=systemd:/a\n5:cpuset:/a\n4:cpu,cpuacct:/a\n";
        assert_eq!(cgroup_cores(membership, root.path()), Some(4));
    }

    #[test]
    fn damaged_files_are_no_quota() {
        let root = tempfile::tempdir().unwrap();
        for text in ["", "x y", "100000", "100000 0"] {
            write(root.path(), "cpu.max", text);
            assert_eq!(cgroup_cores("0::/\nbroken\n", root.path()), None, "{text:?}");
        }
    }

    #[test]
    fn this_process_has_a_core_and_memory() {
        assert!(available_cores() >= 1);
        let bytes = resident_bytes().unwrap();
        assert!((1 << 20..1u64 << 40).contains(&bytes), "{bytes}");
    }
}
