//! The integration tests: real programs, real files, real sockets. One binary,
//! whose modules rhyme with `src`. Names begin with the statement they hold
//! (`r38_…`, `s03_…`), where there is one.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test fails by a panic and shows its figures; clippy knows #[test] functions only"
)]

mod bus;
mod cli;
mod config;
mod daemon;
mod file;
mod gate;
mod http;
mod mcp;
mod member;
mod prompt;
mod reach;
mod release;
mod store;
mod support;
mod task;
mod tidy;
