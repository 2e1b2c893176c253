//! A place where `sh` runs and bytes move: SSH connections, kept alive.
//!
//! Theory of operation: a [`Link`] is one connection to one [`Target`], pooled
//! by identity and reconnected for ever, with a jittered back-off, until its
//! last clone is dropped. All links live on one thread of their own, off the
//! daemon's workers: there, one loop owns the SSH session of a link and every
//! channel on it, never waits inside the library, and is driven by the socket's
//! readiness. A few more threads compute key exchanges and signatures while
//! something connects, and go away afterwards. A guard cuts the wire of a peer
//! that keeps the library busy in one call.
//!
//! The loop has its own idea of life: when nothing was heard for an interval it
//! asks the peer something that must be answered, and when the answer does not
//! come within the budget the connection is lost. Host keys are checked by our
//! own reading of `known_hosts` before anything is offered to the peer. Agent,
//! X11, ports and environment are never forwarded.

mod channel;
mod connect;
mod driver;
mod error;
mod exec;
mod files;
mod jump;
mod keeper;
mod known_hosts;
mod link;
mod options;
mod owner;
mod plain;
mod pool;
mod secret;
mod ssh_config;
mod target;

pub use error::{FileProblem, ReachError};
pub use exec::{Answer, Chunk, End, Exec, Input, Limits};
pub use files::{Download, Entry, EntryKind, Files, Put, Stat, Upload};
pub use known_hosts::HostKey;
pub use link::{Cause, Link, LinkState, Phase};
pub use options::{Keepalive, ReachOptions, Retry};
pub use pool::Reach;
pub use secret::Secret;
pub use target::{Auth, Facts, Identity, Target};
