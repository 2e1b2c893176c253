//! The harness: real `fleetd` and `fleetctl` processes in a throw-away HOME,
//! and a client that shares no code with them.
//!
//! Nothing here uses fleetd's own client, parser or encoder: a defect that both
//! sides share would be invisible. Server-sent events are read with
//! `eventsource-stream`, HTTP is written byte by byte, so that malformed
//! requests can be sent as well.

mod body;
mod daemon;
mod event;
mod home;
mod http;
mod process;
mod random;
mod rpc;
mod sse;
mod wait;

pub use daemon::Daemon;
pub use event::{custom_event, distinct_id};
pub use home::Home;
pub use http::{Answer, Conn, Request};
pub use process::{is_alive, rss_kib, run, signal, wait_for};
pub use random::Random;
pub use sse::{Event, Stream};
pub use wait::{PATIENCE, eventually, within};
