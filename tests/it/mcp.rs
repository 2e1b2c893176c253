//! The MCP component over its face: a real store, bus and fleet behind it, HTTP
//! requests in, answers and streams out.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may fail")]

mod apart;
mod clients;
mod crowd;
mod events;
mod everyone;
mod feed;
mod guest;
mod idle;
mod kept;
mod listen;
mod live;
mod modern;
mod refusals;
mod replay;
mod resources;
mod rig;
mod schema;
mod sdk;
mod sessions;
mod sets;
mod sse;
mod stdio;
mod stream;
mod tasks;
mod work;
