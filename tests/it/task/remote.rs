//! Tasks on members: real sshd, real daemon, the real scripts in between.

mod cuts;
mod ends;
mod rig;
mod stall;
mod work;
