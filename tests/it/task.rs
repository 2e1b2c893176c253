//! Local tasks with real processes: the supervisor is the built `fleetd`.

mod ends;
mod recovery;
mod rig;
mod stops;
mod streams;
