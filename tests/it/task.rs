//! Local tasks with real processes: the supervisor is the built `fleetd`.

mod ends;
mod flood;
mod recovery;
mod remote;
pub mod rig;
mod scarce;
mod stall;
mod stops;
mod streams;
pub mod whole;
