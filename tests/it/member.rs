//! Members, by the real daemon, the real fleetctl and a real sshd.

mod keys;
mod link;
mod permissions;
mod register;
pub mod rig;
