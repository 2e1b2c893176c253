//! The long gates: crashes, power cuts, crash points, recorded histories.
//!
//! `cargo test` runs each at a tenth of its size; `tests/gate` runs them whole,
//! in release, and shows their figures.

mod adoption;
mod crashpoints;
mod freeze;
mod history;
mod kill9;
pub mod ledger;
mod once;
mod powercut;
mod slowdisk;

pub use adoption::ends;
pub use once::{Whom, attach};

/// `whole` when the gates run for themselves, else `tenth`.
fn size(whole: usize, tenth: usize) -> usize {
    if std::env::var_os("FLEETD_GATE").is_some() { whole } else { tenth }
}
