//! Processes as `/proc` and `kill` show them.

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::wait::poll;

/// What a finished program left.
#[derive(Debug)]
pub struct Output {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
    pub took: Duration,
}

impl Output {
    /// The exit status.
    ///
    /// # Panics
    /// If a signal ended the program.
    pub fn code(&self) -> i32 {
        self.status.code().unwrap_or_else(|| panic!("ended by a signal: {self:?}"))
    }

    /// Panics with everything the program said unless it exited with 0.
    #[track_caller]
    pub fn ok(self) -> Self {
        assert!(self.status.success(), "exit status {:?}: {self:?}", self.status.code());
        self
    }
}

/// Runs `command` to its end with `stdin`, at most for `limit`; then it is
/// killed and the test fails.
pub fn run(mut command: Command, stdin: &[u8], limit: Duration) -> Output {
    let begun = Instant::now();
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let mut input = child.stdin.take().expect("stdin is piped");
    let bytes = stdin.to_vec();
    // A program that does not read its input must not block the test.
    let feeder = std::thread::spawn(move || drop(input.write_all(&bytes)));
    let stdout = drain(child.stdout.take().expect("stdout is piped"));
    let stderr = drain(child.stderr.take().expect("stderr is piped"));
    let status = wait_for(&mut child, limit)
        .unwrap_or_else(|| panic!("{command:?} did not end within {limit:?}"));
    drop(feeder.join());
    let text = |reader: std::thread::JoinHandle<Vec<u8>>| {
        String::from_utf8_lossy(&reader.join().unwrap_or_default()).into_owned()
    };
    Output { status, stdout: text(stdout), stderr: text(stderr), took: begun.elapsed() }
}

/// The status of `child` if it ends within `limit`; killed and reaped otherwise.
pub fn wait_for(child: &mut Child, limit: Duration) -> Option<ExitStatus> {
    let status = poll(limit, || child.try_wait().ok().flatten());
    if status.is_none() {
        drop(child.kill());
        drop(child.wait());
    }
    status
}

fn drain(mut from: impl Read + Send + 'static) -> std::thread::JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        drop(from.read_to_end(&mut bytes));
        bytes
    })
}

/// Sends a signal; a process that has just ended is no failure.
pub fn signal(pid: u32, signal: Signal) {
    let _ = kill(as_pid(pid), signal);
}

/// Whether the process exists and is not a zombie.
pub fn is_alive(pid: u32) -> bool {
    stat_fields(pid).is_some_and(|fields| fields[0] != "Z" && fields[0] != "X")
}

/// Whether every thread of the process has ended, and so given its files back.
/// A leader may be a zombie while others are still on their way.
pub fn has_ended(pid: u32) -> bool {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count);
    threads <= 1 && !is_alive(pid)
}

/// Resident memory in KiB (VmRSS), 0 if the process is gone.
pub fn rss_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// CPU time used so far, in ticks of 10 ms.
pub fn cpu_ticks(pid: u32) -> u64 {
    let fields = stat_fields(pid).unwrap_or_else(|| panic!("no process {pid}"));
    // utime and stime, fields 14 and 15 of proc(5); ours begin with the third.
    [11, 12].map(|at: usize| fields[at].parse::<u64>().unwrap_or(0)).iter().sum()
}

/// Every process below `pid`, itself left out.
pub fn descendants(pid: u32) -> Vec<u32> {
    let parents: Vec<(u32, u32)> = all_pids()
        .filter_map(|child| Some((child, stat_fields(child)?[1].parse().ok()?)))
        .collect();
    let mut found = vec![pid];
    let mut at = 0;
    while at < found.len() {
        let parent = found[at];
        found.extend(parents.iter().filter(|(_, of)| *of == parent).map(|(child, _)| *child));
        at += 1;
    }
    found.split_off(1)
}

/// Every process whose environment at its start held `HOME=<home>`.
pub fn living_in(home: &Path) -> Vec<u32> {
    let wanted = format!("HOME={}", home.display());
    all_pids()
        .filter(|pid| {
            let environ = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            is_alive(*pid) && environ.split(|byte| *byte == 0).any(|var| var == wanted.as_bytes())
        })
        .collect()
}

/// The fields of `/proc/PID/stat` from the third (state) on: the second, the
/// name, may hold spaces and parentheses, so it is skipped from its end.
fn stat_fields(pid: u32) -> Option<Vec<String>> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let rest = stat.rsplit_once(')')?.1;
    Some(rest.split_whitespace().map(str::to_owned).collect())
}

fn all_pids() -> impl Iterator<Item = u32> {
    let entries = std::fs::read_dir("/proc").expect("/proc is mounted");
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}

fn as_pid(pid: u32) -> Pid {
    Pid::from_raw(i32::try_from(pid).expect("a pid fits in 31 bits"))
}
