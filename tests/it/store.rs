//! The journal under faults, through the real daemon: R05, R39, R47 to R50.

mod full;
mod mutations;
mod past;
mod readonly;
mod start;
mod sync;
