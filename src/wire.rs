//! Pure encodings that the daemon and its clients share.
//!
//! Theory of operation: bytes in, values out, and back; no I/O, no clock, no
//! locks. Whatever can be wrong with foreign bytes is found here, once.

mod cloudevent;
mod lines;
mod sse;
pub mod tools;
pub mod wake;

pub use cloudevent::{EncodedEvent, decode_batch, decode_event, encode_event, encode_signal};
pub use lines::{Line, LineSplitter, MAX_LINE_BYTES};
pub use sse::{SseFrame, SseParser, push_bookmark, push_comment, push_event, push_gap, push_retry};
