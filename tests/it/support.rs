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
mod faults;
mod home;
mod http;
mod model;
mod netns;
mod pipe;
mod process;
mod program;
mod random;
mod root;
mod rpc;
mod sse;
mod sshd;
mod wait;

pub use daemon::Daemon;
pub use event::{custom_event, distinct_id};
pub use faults::Faults;
pub use home::Home;
pub use http::{Answer, Conn, Request};
pub use model::{ANSWER, Model};
pub use netns::in_own_network;
pub use pipe::Pipe;
pub use process::{Output, cpu_ticks, descendants, is_alive, living_in, rss_kib, run, signal};
pub use program::Program;
pub use random::Random;
pub use root::{SmallDisk, as_root, path_text, run_as_root, unmount};
pub use rpc::{reply, rpc, tool_request};
pub use sse::{Event, Stream};
pub use sshd::Sshd;
pub use wait::{PATIENCE, eventually, eventually_async, poll, within};
