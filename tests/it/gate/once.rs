//! R28: death between intent, dispatch, start and record.
//!
//! `strace` is attached to the ready daemon, and kills it as one of its threads
//! enters its n-th call of a kind while tasks are taken. It lets go of whatever
//! is executed, so that supervisors live, or holds them too, so that they die
//! at their own n-th call. The next daemon may be killed at its start in the same
//! way. Then a daemon is left alone, and the books are compared: counter files,
//! answers, rows, events.

use std::process::{Child, Stdio};
use std::time::Duration;

use super::adoption::{Counted, counted, counter, ends, settled, start};
use super::size;
use crate::support::{Daemon, Home, as_root, within};

/// Calls by which a task comes into being, here and in its supervisor.
const CALLS: [&str; 12] = [
    "mkdir",
    "openat",
    "write",
    "fdatasync",
    "fsync",
    "linkat",
    "pwrite64",
    "clone3",
    "rename",
    "unlink",
    "read",
    "sendto",
];

/// Tasks that one life is asked to take.
const TASKS: usize = 3;

/// The deepest n that is tried.
const DEEPEST: usize = 20;

/// Who is killed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Whom {
    Daemon,
    SupervisorsToo,
}

/// What all points came to.
#[derive(Debug, Default)]
struct Sum {
    points: usize,
    killed: usize,
    answered: usize,
    completed: usize,
    never_ran: usize,
    unknown: usize,
}

/// A tracer that was attached; ends with its tracee, or when it is dropped.
pub struct Tracer(Child);

impl Drop for Tracer {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn inject(call: &str, n: usize, whom: Whom) -> Vec<String> {
    let mut args = vec!["-f".to_owned(), "-qq".into(), "-o".into(), "/dev/null".into()];
    if whom == Whom::Daemon {
        args.extend(["-b".into(), "execve".into()]);
    }
    args.extend(["-e".into(), format!("trace={call}")]);
    args.extend(["-e".into(), format!("inject={call}:signal=SIGKILL:when={n}")]);
    args
}

/// Attaches a tracer and waits until it holds every thread.
pub fn attach(daemon: &Daemon, call: &str, n: usize, whom: Whom) -> Tracer {
    let pid = daemon.pid();
    let mut command = as_root("strace");
    command.args(inject(call, n, whom)).args(["-p", &pid.to_string()]);
    let child = command.stdin(Stdio::null()).stderr(Stdio::null()).spawn();
    let mut tracer = Tracer(child.expect("strace is installed (tests/setup)"));
    within(Duration::from_secs(10), "the tracer holds every thread, or has killed one", || {
        let ended = tracer.0.try_wait().expect("a child").is_some();
        (ended || held(pid)).then_some(())
    });
    tracer
}

/// Whether every thread has a tracer, or none is left.
fn held(pid: u32) -> bool {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return true };
    threads.flatten().all(|thread| {
        let status = std::fs::read_to_string(thread.path().join("status")).unwrap_or_default();
        !status.contains("TracerPid:\t0\n")
    })
}

/// A daemon that dies at its `n`-th `call` while it takes tasks. Returns what
/// it answered, and whether it died.
fn live(daemon: Daemon, call: &str, n: usize, whom: Whom) -> (Home, Vec<Counted>, bool) {
    let tracer = attach(&daemon, call, n, whom);
    let taken: Vec<Counted> =
        (0..TASKS).filter_map(|at| start(&daemon, &at.to_string(), 100, at)).collect();
    let died = taken.len() < TASKS || !crate::support::is_alive(daemon.pid());
    let home = daemon.kill9();
    drop(tracer);
    (home, taken, died)
}

/// The next daemon, which dies at the same call of its start if it reaches it.
fn start_badly(home: Home, call: &str, n: usize) -> Home {
    let mut command = home.command("strace");
    command.args(inject(call, n, Whom::Daemon)).arg("--").arg(env!("CARGO_BIN_EXE_fleetd"));
    match Daemon::try_start_as(home, command) {
        Ok(daemon) => {
            let pid = daemon.pid();
            let home = daemon.kill9();
            // Its parent was the tracer, so nobody here has waited for its end.
            within(Duration::from_secs(10), "the last thread has ended", || {
                let threads = std::fs::read_dir(format!("/proc/{pid}/task"));
                let left = threads.map_or(0, Iterator::count);
                (left <= 1 && !crate::support::is_alive(pid)).then_some(())
            });
            home
        }
        Err((home, _)) => home,
    }
}

/// One death and its books. Returns whether the daemon came to that call.
fn point(call: &str, n: usize, whom: Whom, sum: &mut Sum) -> bool {
    let (home, taken, died) = live(Daemon::start(), call, n, whom);
    let daemon = Daemon::start_in(start_badly(home, call, n));
    let rows = settled(&daemon);
    let what = format!("{whom:?} killed at {call} {n}");
    for task in &taken {
        // A client that was given an id finds its task, whatever became of it.
        assert!(rows.iter().any(|row| row["task_id"] == *task.id), "{what}: {} is lost", task.id);
    }
    let ran: usize = (0..TASKS)
        .map(|at| counted(&counter(daemon.home(), &at.to_string())))
        .inspect(|times| assert!(*times <= 1, "{what}: a command ran {times} times"))
        .sum();
    let mut may_have_run = 0;
    for row in &rows {
        let id = row["task_id"].as_str().expect("an id");
        assert_eq!(ends(&daemon, id), 1, "{what}: {row}");
        let reason = row["reason"].as_str().unwrap_or_default();
        match row["state"].as_str() {
            Some("unknown") => (sum.unknown, may_have_run) = (sum.unknown + 1, may_have_run + 1),
            _ if !row["exit_code"].is_null() => {
                (sum.completed, may_have_run) = (sum.completed + 1, may_have_run + 1);
            }
            Some("failed") if !reason.is_empty() => sum.never_ran += 1,
            _ => panic!("{what}: neither an end nor a reason: {row}"),
        }
    }
    // What is said to have ended ran; what is said never to have run did not.
    assert!(ran <= may_have_run, "{what}: {ran} ran, {may_have_run} may have: {rows:#?}");
    let ended = rows.iter().filter(|row| !row["exit_code"].is_null()).count();
    assert!(ran >= ended, "{what}: {ran} ran, {ended} ended: {rows:#?}");
    sum.points += 1;
    sum.killed += usize::from(died);
    sum.answered += taken.len();
    died
}

#[test]
fn r28_no_command_runs_twice_whenever_its_daemon_dies() {
    let (mut sum, wanted) = (Sum::default(), size(100, 10));
    // The first n that a call did not reach: it is not asked for again.
    let mut beyond = [DEEPEST + 1; CALLS.len()];
    'sweep: for round in 0..DEEPEST * 10 {
        let n = 1 + round % DEEPEST;
        for (at, call) in CALLS.iter().enumerate() {
            if n >= beyond[at] {
                continue;
            }
            let whom = [Whom::Daemon, Whom::SupervisorsToo][(at + n) % 2];
            if !point(call, n, whom, &mut sum) {
                beyond[at] = n;
            }
            if sum.killed == wanted {
                break 'sweep;
            }
        }
    }
    println!("once: {sum:?}; none ran twice, none is lost, each told one end");
    assert_eq!(sum.killed, wanted, "the daemon rarely died: void: {sum:?}");
}
