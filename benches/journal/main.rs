//! What the journal and the bus can do, each figure beside a floor that was
//! measured in the same run: `cargo bench --bench journal [-- PART…]`, where a
//! part is `publish`, `fan-out`, `idle`, `replay` or `open`.
//!
//! A floor does the same work with the least that could do it: the same
//! publishers and channels over a bare file with `fdatasync`, the same readers
//! on a broadcast channel. Figures are medians of [`RUNS`] runs, the two kinds
//! taking turns, so that whatever else the machine does meets both.

#![allow(
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a benchmark prints its figures, and one that cannot be taken ends it"
)]

mod fanout;
mod floor;
mod publish;
mod replay;
mod world;

use tokio::runtime::Runtime;

/// Each figure is the median of so many.
const RUNS: usize = 5;

fn main() {
    // Cargo itself passes `--bench`.
    let parts: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let wanted = |part: &str| parts.is_empty() || parts.iter().any(|name| name == part);
    Runtime::new().expect("a runtime").block_on(async {
        println!("journal and bus; medians of {RUNS} runs\n");
        if wanted("publish") {
            publish::durable().await;
        }
        if wanted("fan-out") {
            fanout::fan_out().await;
        }
        if wanted("idle") {
            fanout::idle_subscriptions().await;
        }
        if wanted("replay") {
            replay::replay().await;
        }
        if wanted("open") {
            replay::open().await;
        }
    });
}
