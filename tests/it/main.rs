//! The integration tests: real programs, real files, real sockets. One binary,
//! whose modules rhyme with `src`.

mod support;
mod tidy;
