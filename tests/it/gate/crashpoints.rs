//! R03: death at every system call that changes something.
//!
//! `strace` kills the daemon as it enters the n-th call of a kind. Its counter
//! runs per thread, which is what is wanted: the writer's n-th call and the
//! main thread's are different points, and whichever comes first is tried.

use std::sync::atomic::AtomicBool;

use super::ledger::Ledger;
use super::size;
use crate::support::{Daemon, Home};

/// Calls by which the daemon changes the disk, or tells somebody about it.
const CALLS: [&str; 12] = [
    "pwrite64",
    "write",
    "fdatasync",
    "fsync",
    "ftruncate",
    "rename",
    "renameat",
    "unlink",
    "mkdir",
    "openat",
    "sendto",
    "writev",
];

/// Events published in one life: enough that the writer passes many calls.
const EVENTS: usize = 60;

/// How one life under the tracer ended.
enum Life {
    /// At the point that was asked for, after this was acknowledged.
    Cut(Home, Ledger),
    /// It made fewer such calls.
    NotReached,
}

fn live(home: Home, call: &str, n: usize) -> Life {
    let mut command = home.command("strace");
    command.args(["-f", "-qq", "-o", "/dev/null"]);
    command.args(["-e", &format!("trace={call}")]);
    command.args(["-e", &format!("inject={call}:signal=SIGKILL:when={n}")]);
    command.args(["--", env!("CARGO_BIN_EXE_fleetd")]);
    match Daemon::try_start_as(home, command) {
        Err((home, _)) => Life::Cut(home, Ledger::default()),
        Ok(mut daemon) => {
            let stop = AtomicBool::new(false);
            let ledger = Ledger::publish(&daemon, 1, EVENTS, &stop);
            if ledger.unknown.is_empty() && daemon.ended(std::time::Duration::ZERO).is_none() {
                return Life::NotReached;
            }
            Life::Cut(daemon.kill9(), ledger)
        }
    }
}

/// Dies at the `n`-th `call`, starts again without help, and is checked.
/// Returns what was acknowledged and the HOME, or `None` beyond the last call.
fn point(home: Home, call: &str, n: usize) -> Option<(usize, usize, Home)> {
    let Life::Cut(home, mut ledger) = live(home, call, n) else { return None };
    let daemon = Daemon::start_in(home);
    let unasked = ledger.check(&daemon, "0");
    ledger.resend(&daemon);
    ledger.check(&daemon, "0");
    Some((ledger.acked.len(), unasked, daemon.kill9()))
}

#[test]
fn r03_no_crash_point_loses_an_event_or_needs_a_hand() {
    let most = size(200, 20);
    let (mut points, mut acked, mut unasked) = (0, 0, 0);
    for call in CALLS {
        let mut reached = 0;
        // Dense where files are made, wider apart where it repeats itself.
        let mut n = 1;
        while n <= most {
            // A new HOME, whose files are just being made, and then the same again.
            let mut home = Home::new();
            let mut cut = false;
            for _ in 0..2 {
                let Some((more, stray, after)) = point(home, call, n) else { break };
                (points, acked, unasked, cut) = (points + 1, acked + more, unasked + stray, true);
                home = after;
            }
            if !cut {
                break;
            }
            reached = n;
            n += if n < 20 || most > 100 { 1 } else { 3 };
        }
        println!("crashpoints: {call}: killed at calls 1 to {reached}");
    }
    println!(
        "crashpoints: {points} points, {acked} acknowledged, 0 lost, \
         {unasked} stored without an answer"
    );
    assert!(points >= size(300, 40), "only {points} points were reached: void");
}
