//! Files to members and back, by the real daemon, the real fleetctl and a real sshd.

mod contain;
mod copy;
mod cut;
mod race;
mod rig;
mod tell;
