//! What the system knows about processes.

use std::io;
use std::os::fd::RawFd;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

/// A process, and not another one that got the same number later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    pub pid: u32,
    /// In the system's own unit; `None` if it does not say.
    pub start: Option<u64>,
}

/// One life of a machine. The boot id alone does not change inside a new
/// namespace or container; the start of process 1 does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Boot {
    pub id: Option<String>,
    pub init_start: Option<u64>,
}

// An error below means that it cannot be known now (no descriptor is free, say),
// which is no fact about any process: ask again, never conclude.

impl Identity {
    pub fn of(pid: u32) -> io::Result<Self> {
        Ok(Self { pid, start: start_time(pid)? })
    }

    /// Whether this very process is still there, perhaps as a zombie.
    pub fn is_present(self) -> io::Result<bool> {
        Ok(start_time(self.pid)?.is_some_and(|start| self.start == Some(start)))
    }
}

impl Boot {
    pub fn current() -> io::Result<Self> {
        Ok(Self { id: boot_id()?, init_start: start_time(1)? })
    }
}

/// Reads a file that the system shows us, or does not.
#[cfg(target_os = "linux")]
fn shown(path: &str) -> io::Result<Option<String>> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        // A process that ends between opening and reading is told as ESRCH.
        Err(error) if error.raw_os_error() == Some(nix::libc::ESRCH) => Ok(None),
        Err(error) => match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied => Ok(None),
            _ => Err(error),
        },
    }
}

#[cfg(target_os = "linux")]
fn boot_id() -> io::Result<Option<String>> {
    Ok(shown("/proc/sys/kernel/random/boot_id")?.map(|id| id.trim().to_owned()))
}

#[cfg(not(target_os = "linux"))]
fn boot_id() -> io::Result<Option<String>> {
    Ok(sysinfo::System::boot_time().ok().map(|time| time.to_string()))
}

/// Field 22 of `/proc/PID/stat`, in clock ticks since the boot.
#[cfg(target_os = "linux")]
fn start_time(pid: u32) -> io::Result<Option<u64>> {
    let stat = shown(&format!("/proc/{pid}/stat"))?;
    Ok(stat.and_then(|stat| stat_field(&stat, 22)?.parse().ok()))
}

#[cfg(not(target_os = "linux"))]
fn start_time(pid: u32) -> io::Result<Option<u64>> {
    let pid = sysinfo::Pid::from_u32(pid);
    let mut system = sysinfo::System::new().map_err(io::Error::other)?;
    system.refresh_processes(sysinfo::ProcessesToUpdate::Some(&[pid]), false);
    Ok(system.process(pid).map(sysinfo::Process::start_time))
}

/// A field of a stat line, counted from 1 as in proc(5). The second field may
/// hold anything, so counting begins after its closing bracket.
#[cfg(target_os = "linux")]
fn stat_field(stat: &str, number: usize) -> Option<&str> {
    stat.get(stat.rfind(')')? + 2..)?.split_ascii_whitespace().nth(number.checked_sub(3)?)
}

/// All that descends from `root`, children of dead children included if `root`
/// is a subreaper.
#[cfg(target_os = "linux")]
pub fn descendants(root: u32) -> Vec<u32> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let pairs: Vec<(u32, u32)> = entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(|pid: u32| {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            Some((pid, stat_field(&stat, 4)?.parse().ok()?))
        })
        .collect();
    let mut found = Vec::new();
    let mut parents = vec![root];
    while let Some(parent) = parents.pop() {
        for (pid, _) in pairs.iter().filter(|(_, of)| *of == parent) {
            found.push(*pid);
            parents.push(*pid);
        }
    }
    found
}

/// CPU time of all that descends from `root`, and of all that it and they have
/// waited for; not that of `root` itself. `None` if it is gone. Asks for these
/// processes alone, where the kernel lists children: a look at all there are
/// costs milliseconds.
#[cfg(target_os = "linux")]
pub fn cpu_below(root: u32) -> Option<Duration> {
    // Fields 14 to 17: its own time in user and system mode, and that of its children.
    let ticks = |pid: u32, fields: std::ops::RangeInclusive<usize>| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        fields.map(|field| stat_field(&stat, field)?.parse::<u64>().ok()).sum::<Option<u64>>()
    };
    let mut sum = ticks(root, 16..=17)?;
    let mut found = children(root).unwrap_or_else(|| descendants(root));
    while let Some(pid) = found.pop() {
        sum += ticks(pid, 14..=17).unwrap_or(0);
        found.extend(children(pid).unwrap_or_default());
    }
    let second = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK).ok()??;
    Some(Duration::from_millis(sum * 1000 / u64::try_from(second).ok()?.max(1)))
}

/// `None` if this kernel does not list them, or `pid` is gone.
#[cfg(target_os = "linux")]
fn children(pid: u32) -> Option<Vec<u32>> {
    let mut found = Vec::new();
    for thread in std::fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten() {
        let list = std::fs::read_to_string(thread.path().join("children")).ok()?;
        found.extend(list.split_ascii_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
    }
    Some(found)
}

/// Without what has ended: this system does not say.
#[cfg(not(target_os = "linux"))]
pub fn cpu_below(root: u32) -> Option<Duration> {
    use sysinfo::{ProcessRefreshKind, ProcessesToUpdate};
    let mut system = sysinfo::System::new().ok()?;
    let kind = ProcessRefreshKind::nothing().with_cpu();
    system.refresh_processes_specifics(ProcessesToUpdate::All, true, kind);
    let below = |process: &sysinfo::Process| {
        let mut parent = process.parent();
        while let Some(pid) = parent {
            if pid.as_u32() == root {
                return true;
            }
            parent = system.process(pid).and_then(sysinfo::Process::parent);
        }
        false
    };
    let found = system.processes().values().filter(|process| below(process));
    Some(Duration::from_millis(found.map(sysinfo::Process::accumulated_cpu_time).sum()))
}

/// Without a subreaper the command's own group is what can be found.
#[cfg(not(target_os = "linux"))]
pub fn descendants(_root: u32) -> Vec<u32> {
    Vec::new()
}

/// Sends `signal` to everything below this process, and to the group of `leader`,
/// which has to be a process that was not reaped yet: its number is still its own.
pub fn signal_tree(leader: Option<u32>, signal: Signal) {
    let send = |pid: i32| {
        // Gone already: that is what we want.
        let _ = kill(Pid::from_raw(pid), signal);
    };
    if let Some(leader) = leader.and_then(|leader| i32::try_from(leader).ok()) {
        send(-leader);
    }
    descendants(std::process::id())
        .into_iter()
        .filter_map(|pid| pid.try_into().ok())
        .for_each(send);
}

/// Closes every descriptor but 0 to 2: whatever leaked into the daemon from its
/// starter must not reach commands. Call before opening anything.
pub fn close_inherited() {
    let Ok(entries) = std::fs::read_dir("/dev/fd") else { return };
    let open: Vec<RawFd> =
        entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect();
    for fd in open.into_iter().filter(|fd| *fd > 2) {
        // The listing's own descriptor is among them and closed by now.
        let _ = nix::unistd::close(fd);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_told_from_one_with_its_number() {
        let me = Identity::of(std::process::id()).unwrap();
        assert!(me.is_present().unwrap());
        assert!(!Identity { start: me.start.map(|start| start + 1), ..me }.is_present().unwrap());
        assert!(!Identity { start: None, ..me }.is_present().unwrap(), "unknown is not the same");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_strange_name_does_not_shift_the_fields() {
        let stat = "7 (a) b (c)) S 1 7 7 0 -1 4 0 0 0 0 0 0 0 0 20 0 1 0 12345 99";
        assert_eq!(stat_field(stat, 4), Some("1"));
        assert_eq!(stat_field(stat, 22), Some("12345"));
    }
}
