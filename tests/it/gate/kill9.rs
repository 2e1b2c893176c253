//! R01, R04, R10: `kill -9` at random moments, with publishers at work.

use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::ledger::{Ledger, check_distinct};
use super::size;
use crate::support::{Daemon, Random, eventually, signal};

#[test]
fn r01_r04_r10_kill9_loses_nothing_that_was_acknowledged() {
    let rounds = size(500, 50);
    let mut random = Random::fresh("kill9");
    let mut daemon = Daemon::start();
    let (mut all, mut unasked, mut restarts) = (Ledger::default(), 0, Vec::new());
    let mut since = "0".to_owned();
    for _ in 0..rounds {
        let round = publish_until_killed(&daemon, random.millis(20..150));
        daemon = Daemon::start_in(daemon.kill9());
        restarts.push(daemon.ready_after);
        let mut round = round;
        unasked += round.check(&daemon, &since);
        round.resend(&daemon);
        round.check(&daemon, &since);
        if let Some(newest) = round.acked.values().max_by_key(|cursor| seq(cursor)) {
            since = newest.clone();
        }
        all.absorb(round);
    }
    all.check(&daemon, "0");
    let rows = check_distinct(&daemon);
    restarts.sort();
    println!(
        "kill9: {rounds} rounds, {} acknowledged, 0 lost, {unasked} stored without an answer, \
         {rows} rows, restart p50 {:?} p99 {:?}",
        all.acked.len(),
        restarts[restarts.len() / 2],
        restarts[restarts.len() * 99 / 100],
    );
    assert!(all.acked.len() >= rounds * 20, "only {} acknowledged: void", all.acked.len());
}

/// Eight publishers, and the daemon's death after `life`.
fn publish_until_killed(daemon: &Daemon, life: Duration) -> Ledger {
    let (stop, pid, begun) = (AtomicBool::new(false), daemon.pid(), Instant::now());
    std::thread::scope(|scope| {
        let killer = scope.spawn(move || {
            eventually("its time has come", || begun.elapsed() >= life);
            signal(pid, Signal::SIGKILL);
        });
        let ledger = Ledger::publish(daemon, 8, usize::MAX, &stop);
        killer.join().expect("the killer");
        ledger
    })
}

fn seq(cursor: &str) -> u64 {
    cursor.split_once(':').and_then(|(_, seq)| seq.parse().ok()).expect("a cursor")
}
