//! How a client's session can be woken, as far as its surroundings tell.
//!
//! `fleetctl mcp` is started by the client and sees what that put into its
//! environment; it says so when it begins a session, in `params._meta` of
//! `initialize`. The values are names, not secrets, and foreign text.

/// Where a handshake tells it: an object, by the names below.
pub const META: &str = "fleetd/wake";

/// What clients tell the servers they start, and what it is called here.
pub const ENVIRONMENT: [(&str, &str); 3] = [
    ("CLAUDE_CODE_SESSION_ID", "claude_code_session"),
    ("COPILOT_AGENT_SESSION_ID", "copilot_session"),
    ("OPENCODE_PID", "opencode_pid"),
];

/// The thread in which Codex makes a call; every call of it says so itself.
pub const CODEX_THREAD: &str = "codex_thread";

/// The name that the client gives itself.
pub const CLIENT: &str = "client";

/// Whether `value` can be such a name: 1 to 256 visible ASCII characters.
pub fn is_address(value: &str) -> bool {
    (1..=256).contains(&value.len()) && value.bytes().all(|byte| byte.is_ascii_graphic())
}
