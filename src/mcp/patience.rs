//! How long a client bears to wait for an answer, by its name.
//!
//! Measured with each client (contract "how real MCP clients behave", 4.8): past
//! its limit a client calls the request failed, and the model never sees what
//! came. So a long poll ends a little earlier and says: call again.

use std::time::Duration;

/// A kind of client, small enough to travel inside a session id.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Patience {
    /// Gives up after a minute or so.
    #[default]
    Unknown,
    /// Moves long calls to the background and waits for hours.
    ClaudeCode,
    /// Gives up after exactly 300 s, whatever progress it is told.
    Codex,
    /// Goes on while progress comes; cut at 300 s by some transports.
    WithProgress,
    /// Our own command line.
    Own,
}

impl Patience {
    pub fn of_client(name: &str) -> Self {
        match name {
            "claude-code" => Self::ClaudeCode,
            "codex-mcp-client" => Self::Codex,
            "copilot-cli" | "opencode" | "gemini-cli-mcp-client" => Self::WithProgress,
            "fleetctl" => Self::Own,
            _ => Self::Unknown,
        }
    }

    /// The longest wait worth beginning. `progress`: the call came with a
    /// progress token, so the client hears from us meanwhile.
    pub fn limit(self, progress: bool) -> Duration {
        let seconds = match self {
            Self::Own => 4 * 3600,
            Self::ClaudeCode if progress => 4 * 3600,
            Self::Codex => 280,
            Self::WithProgress if progress => 240,
            Self::ClaudeCode | Self::WithProgress | Self::Unknown => 50,
        };
        Duration::from_secs(seconds)
    }

    pub fn to_byte(self) -> u8 {
        match self {
            Self::Unknown => 0,
            Self::ClaudeCode => 1,
            Self::Codex => 2,
            Self::WithProgress => 3,
            Self::Own => 4,
        }
    }

    /// What a byte stands for; a byte of another version means nothing special.
    pub fn from_byte(byte: u8) -> Self {
        [Self::ClaudeCode, Self::Codex, Self::WithProgress, Self::Own]
            .into_iter()
            .find(|patience| patience.to_byte() == byte)
            .unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stranger_or_a_client_without_progress_waits_less_than_a_minute() {
        for (name, progress, seconds) in [
            ("claude-code", true, 4 * 3600),
            ("claude-code", false, 50),
            ("codex-mcp-client", false, 280),
            ("opencode", true, 240),
            ("opencode", false, 50),
            ("somebody", true, 50),
        ] {
            let limit = Patience::of_client(name).limit(progress);
            assert_eq!(limit, Duration::from_secs(seconds), "{name} {progress}");
        }
    }

    #[test]
    fn it_travels_in_a_byte() {
        for name in ["", "claude-code", "codex-mcp-client", "copilot-cli", "fleetctl"] {
            let patience = Patience::of_client(name);
            assert_eq!(Patience::from_byte(patience.to_byte()), patience);
        }
    }
}
