//! R12 on a slow disk: many publishers share an fsync.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::ledger::Ledger;
use super::size;
use crate::support::{Faults, Home, eventually};

const PUBLISHERS: usize = 64;

#[test]
fn r12_sixty_four_publishers_share_a_sync_of_20_ms() {
    let time = Duration::from_secs(size(10, 3) as u64);
    let faults = Faults::new();
    let daemon = faults.start(Home::new());
    faults.slow_down();
    let (stop, begun) = (AtomicBool::new(false), Instant::now());
    let ledger = std::thread::scope(|scope| {
        scope.spawn(|| {
            eventually("its time has come", || begun.elapsed() >= time);
            stop.store(true, Ordering::Relaxed);
        });
        Ledger::publish(&daemon, PUBLISHERS, usize::MAX, &stop)
    });
    let rate = ledger.acked.len() as f64 / begun.elapsed().as_secs_f64();
    println!(
        "slowdisk: {PUBLISHERS} publishers, 20 ms more per sync, {} acknowledged, {rate:.0} ev/s",
        ledger.acked.len()
    );
    assert!(ledger.unknown.is_empty(), "{:?} got no answer", ledger.unknown);
    ledger.check(&daemon, "0");
    // One publisher alone would come to fifty; unoptimised code shares a busy machine.
    let least = if cfg!(debug_assertions) { 500.0 } else { 1000.0 };
    assert!(rate >= least, "{rate:.0} ev/s");
}
