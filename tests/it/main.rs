//! The integration tests: real programs, real files, real sockets. One binary,
//! whose modules rhyme with `src`. Names begin with the statement they hold
//! (`r38_…`, `s03_…`), where there is one.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by a panic; clippy knows #[test] functions only"
)]

mod edge;
mod life;
mod live;
