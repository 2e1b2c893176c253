//! Tasks on members: real sshd, real daemon, the real scripts in between.

mod cuts;
mod deaths;
mod ends;
mod hostile;
mod rig;
mod stall;
mod work;
