//! Machines reached over SSH: real servers of OpenSSH, and hostile ones of ours.

mod harness;
