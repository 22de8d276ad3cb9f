//! What the load costs: processor time and memory of the daemon, of this process, and of the machine.
//!
//! Called by `vouch bench`. The daemon is found by the credentials of its end of the socket (`SO_PEERCRED`, unix(7)) and looked at through
//! `/proc` (proc(5)). Where that says nothing (the daemon is in another PID namespace, a service manager holds the socket, `/proc` hides
//! processes), the figures are absent and it is said why. Left out: cost on a GPU.

use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use nix::sys::time::TimeValLike as _;
use nix::unistd::{SysconfVar, sysconf};
use serde::Serialize;

use super::load::Meter;
use crate::ops::process::available_cores;

/// What the daemon's process is called.
const DAEMON: &str = "vouchd";

/// The machine that was measured on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Machine {
    /// As `/proc/cpuinfo` calls it; empty where it names none.
    pub cpu: String,
    /// That this process may use.
    pub cores: usize,
    /// Release of the kernel.
    pub kernel: String,
}

impl Machine {
    pub fn here() -> Self {
        let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        Self {
            cpu: model.map_or_else(String::new, |(_, name)| name.trim().to_owned()),
            cores: available_cores(),
            kernel: std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned(),
        }
    }
}

/// The daemon's process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Process {
    pub pid: i32,
}

impl Process {
    /// The process that listens at a socket.
    ///
    /// # Errors
    /// Why it cannot be looked at, in words.
    pub fn behind(socket: &Path) -> Result<Self, String> {
        let stream = UnixStream::connect(socket).map_err(|error| error.to_string())?;
        let peer = getsockopt(&stream, PeerCredentials).map_err(|error| error.to_string())?;
        let pid = peer.pid();
        if pid <= 0 {
            return Err("the daemon runs in another PID namespace".into());
        }
        // A service manager that passes the socket on is its peer, and not the daemon.
        let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        match name.trim() {
            "" => Err(format!("/proc shows no process {pid}")),
            DAEMON => Self::of(pid),
            other => Err(format!("the socket was opened by {other} (process {pid}); name the daemon with --pid")),
        }
    }

    /// The process of this number.
    ///
    /// # Errors
    /// If `/proc` does not show it.
    pub fn of(pid: i32) -> Result<Self, String> {
        let process = Self { pid };
        process.usage().map(|_| process).ok_or_else(|| format!("/proc does not show process {pid}"))
    }

    /// What it has used so far; `None` if it has ended.
    fn usage(self) -> Option<Usage> {
        let read = |name: &str| std::fs::read_to_string(format!("/proc/{}/{name}", self.pid)).ok();
        let ticks_a_second = sysconf(SysconfVar::CLK_TCK).ok()?.filter(|ticks| *ticks > 0)?;
        let cpu_s = ticks(&read("stat")?)? as f64 / ticks_a_second as f64;
        Some(Usage { cpu_s, resident_bytes: resident_bytes(&read("status")?)? })
    }
}

/// User and system time of all threads, in clock ticks, from `/proc/PID/stat`. The second field is a name that may hold spaces and
/// brackets, so fields are counted from its end.
fn ticks(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let mut next = || fields.next()?.parse::<u64>().ok();
    Some(next()? + next()?)
}

/// `VmRSS` from `/proc/PID/status`, which says kB and means 1024 bytes.
fn resident_bytes(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Usage {
    cpu_s: f64,
    resident_bytes: u64,
}

/// Processor time of the whole machine since it was started, in clock ticks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cores {
    busy: u64,
    idle: u64,
    /// Taken by the host that this machine is a guest of.
    stolen: u64,
}

impl Cores {
    fn now() -> Option<Self> {
        Self::read(&std::fs::read_to_string("/proc/stat").ok()?)
    }

    /// The first line of `/proc/stat`: user nice system idle iowait irq softirq steal. Waiting for a disk is idleness.
    fn read(stat: &str) -> Option<Self> {
        let numbers: Vec<u64> = stat
            .lines()
            .next()?
            .strip_prefix("cpu ")?
            .split_whitespace()
            .map_while(|field| field.parse().ok())
            .collect();
        let [user, nice, system, idle, waiting, interrupts, soft, stolen, ..] = numbers[..] else { return None };
        Some(Self { busy: user + nice + system + interrupts + soft, idle: idle + waiting, stolen })
    }
}

/// What a step's window cost.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Cost {
    /// Absent where the daemon's process cannot be looked at.
    pub daemon: Option<DaemonCost>,
    /// Processor time of this process, the load's own: seconds, and cores kept busy.
    pub generator_cpu_s: f64,
    pub generator_cores: f64,
    /// Cores kept busy by all that is neither the daemon nor this process. Absent where the daemon or `/proc/stat` cannot be looked at.
    pub other_cores: Option<f64>,
    /// Cores without work.
    pub idle_cores: Option<f64>,
    /// Cores that the host of this virtual machine gave to others.
    pub stolen_cores: Option<f64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct DaemonCost {
    /// Processor time within the window, in seconds.
    pub cpu_s: f64,
    /// Cores that it kept busy.
    pub cores: f64,
    /// Resident memory when the window began and ended, and the most seen in between, ten times a second.
    pub resident_bytes_begin: u64,
    pub resident_bytes_end: u64,
    pub resident_bytes_peak: u64,
}

/// Readings of one window.
#[derive(Debug)]
pub struct Readings {
    daemon: Option<Process>,
    begin: Option<Reading>,
    end: Option<Reading>,
    peak_bytes: u64,
}

#[derive(Debug, Clone, Copy)]
struct Reading {
    daemon: Option<Usage>,
    own_s: f64,
    machine: Option<Cores>,
}

impl Readings {
    pub fn of(daemon: Option<Process>) -> Self {
        Self { daemon, begin: None, end: None, peak_bytes: 0 }
    }

    fn read(&mut self) -> Reading {
        let daemon = self.daemon.and_then(Process::usage);
        self.peak_bytes = self.peak_bytes.max(daemon.map_or(0, |usage| usage.resident_bytes));
        Reading { daemon, own_s: own_cpu_s(), machine: Cores::now() }
    }

    /// What the window of this length cost. Nothing if it was never ended, or has no length.
    pub fn cost(&self, window: Duration) -> Cost {
        let (Some(begin), Some(end), false) = (self.begin, self.end, window.is_zero()) else { return Cost::default() };
        let seconds = window.as_secs_f64();
        let daemon = begin.daemon.zip(end.daemon).map(|(begin, end)| DaemonCost {
            cpu_s: end.cpu_s - begin.cpu_s,
            cores: (end.cpu_s - begin.cpu_s) / seconds,
            resident_bytes_begin: begin.resident_bytes,
            resident_bytes_end: end.resident_bytes,
            resident_bytes_peak: self.peak_bytes,
        });
        let generator_cpu_s = end.own_s - begin.own_s;
        let ticks_a_second = sysconf(SysconfVar::CLK_TCK).ok().flatten().filter(|ticks| *ticks > 0);
        let machine = begin.machine.zip(end.machine).zip(ticks_a_second);
        let cores = |of: fn(Cores) -> u64| {
            let ((begin, end), ticks_a_second) = machine?;
            Some(of(end).saturating_sub(of(begin)) as f64 / ticks_a_second as f64 / seconds)
        };
        let own = daemon.map(|daemon| (daemon.cpu_s + generator_cpu_s) / seconds);
        Cost {
            daemon,
            generator_cpu_s,
            generator_cores: generator_cpu_s / seconds,
            // Ticks are coarse: less than nothing is nothing.
            other_cores: cores(|all| all.busy).zip(own).map(|(busy, own)| (busy - own).max(0.0)),
            idle_cores: cores(|all| all.idle),
            stolen_cores: cores(|all| all.stolen),
        }
    }
}

impl Meter for Readings {
    fn begin(&mut self) {
        self.peak_bytes = 0;
        self.begin = Some(self.read());
    }

    fn sample(&mut self) {
        let bytes = self.daemon.and_then(Process::usage).map_or(0, |usage| usage.resident_bytes);
        self.peak_bytes = self.peak_bytes.max(bytes);
    }

    fn end(&mut self) {
        self.end = Some(self.read());
    }
}

/// User and system time of this process.
fn own_cpu_s() -> f64 {
    getrusage(UsageWho::RUSAGE_SELF).map_or(0.0, |usage| {
        (usage.user_time().num_microseconds() + usage.system_time().num_microseconds()) as f64 / 1e6
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_and_spaces_does_not_shift_the_fields() {
        let stat = "4242 (vouchd) (x y) S 1 4242 4242 0 -1 4194560 100 0 0 0 1234 56 7 8 20 0 12 0 100 0 0";
        assert_eq!(ticks(stat), Some(1234 + 56));
        for broken in ["", "1 (a", "1 (a) S 1 2", "1 (a) S 1 2 3 4 5 6 7 8 9 10 x 5"] {
            assert_eq!(ticks(broken), None, "{broken}");
        }
    }

    #[test]
    fn resident_memory_is_in_kib() {
        assert_eq!(resident_bytes("Name:\tvouchd\nVmRSS:\t    2048 kB\nThreads: 4\n"), Some(2 << 20));
        assert_eq!(resident_bytes("Name:\tkthreadd\n"), None);
    }

    #[test]
    fn the_machine_is_busy_idle_or_stolen() {
        let read = Cores::read("cpu  10 1 20 300 40 2 3 50 0 0\ncpu0 1 1 1 1 1 1 1 1 0 0\n");
        assert_eq!(read, Some(Cores { busy: 36, idle: 340, stolen: 50 }));
        assert_eq!(Cores::read("cpu  10 1 20\n"), None);
    }

    #[test]
    fn this_process_has_used_time_and_memory() {
        let own = Process::of(std::process::id() as i32).unwrap();
        let mut readings = Readings::of(Some(own));
        readings.begin();
        let mut sum = 0u64;
        while own_cpu_s() - readings.begin.unwrap().own_s < 0.05 {
            sum = sum.wrapping_mul(31).wrapping_add(7);
        }
        readings.end();
        let cost = readings.cost(Duration::from_millis(100));
        assert!(cost.generator_cpu_s >= 0.05, "{cost:?} {sum}");
        let daemon = cost.daemon.unwrap();
        assert!(daemon.cpu_s > 0.0 && daemon.resident_bytes_peak >= daemon.resident_bytes_begin, "{cost:?}");
        assert!(Process::of(i32::MAX).is_err());
    }
}
