//! Machines reached over SSH: real servers of OpenSSH, and hostile ones of ours.
//! fleetd's own programs do not reach anything yet, so its library is used.

mod auth;
mod commands;
mod files;
mod harness;
mod hostile;
mod jump;
mod life;
mod rig;
mod trust;
