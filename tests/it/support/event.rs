//! CloudEvents to publish.

use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Value, json};

/// A well-formed event of topic `topic`; `id` names it for ever.
pub fn custom_event(topic: &str, id: &str, data: Value) -> Value {
    json!({
        "specversion": "1.0",
        "type": topic,
        "source": "test/harness",
        "id": id,
        "data": data,
    })
}

/// An id that no other call in this process has returned.
pub fn distinct_id(prefix: &str) -> String {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    format!("{prefix}-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}
