//! How each MCP client wants to be told of a server: which file, which form,
//! which words (contract "how real MCP clients behave", section 2).
//!
//! Theory of operation: a client is a row (`Shape`): its files, where in them
//! servers stand, and what an entry looks like. Editing knows nothing of clients:
//! it sets or removes one key and leaves every other byte alone (`edit`). What
//! was changed is remembered as a patch, so that it can be taken back to the
//! byte (`record`).

pub mod edit;
mod entry;
pub mod install;
mod record;
mod yaml;

use std::path::{Path, PathBuf};

use clap::ValueEnum;

pub use entry::{Connection, Entrance, VARIABLE, entry, takes_variable};

/// A client that can be set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Client {
    Claude,
    ClaudeDesktop,
    Cline,
    Codex,
    Continue,
    Copilot,
    Cursor,
    Gemini,
    Goose,
    Kiro,
    Lmstudio,
    Opencode,
    Qwen,
    Vscode,
    Windsurf,
    Zed,
}

/// How a client reaches the daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Transport {
    /// Streamable HTTP.
    Http,
    /// HTTP with server-sent events, of 2024-11-05.
    Sse,
    /// The client starts `fleetctl mcp`.
    Stdio,
}

/// The form of a configuration file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// With comments and trailing commas.
    Json,
    Toml,
    /// A mapping of names to entries.
    YamlMap,
    /// A list of entries that bear their names.
    YamlList,
}

/// The key under which the server stands in every file.
pub const NAME: &str = "fleet";

impl Client {
    pub fn form(self) -> Form {
        match self {
            Self::Codex => Form::Toml,
            Self::Goose => Form::YamlMap,
            Self::Continue => Form::YamlList,
            _ => Form::Json,
        }
    }

    /// The key that holds the servers.
    pub fn container(self) -> &'static str {
        match self {
            Self::Codex => "mcp_servers",
            Self::Goose => "extensions",
            Self::Opencode => "mcp",
            Self::Vscode => "servers",
            Self::Zed => "context_servers",
            _ => "mcpServers",
        }
    }

    /// The user's own file. `config` is `$XDG_CONFIG_HOME` or its default.
    pub fn user_file(self, home: &Path, config: &Path, macos: bool) -> PathBuf {
        let support = home.join("Library/Application Support");
        match self {
            Self::Claude => home.join(".claude.json"),
            Self::ClaudeDesktop => {
                let folder = if macos { support } else { config.to_owned() };
                folder.join("Claude/claude_desktop_config.json")
            }
            Self::Cline => home.join(".cline/data/settings/cline_mcp_settings.json"),
            Self::Codex => home.join(".codex/config.toml"),
            Self::Continue => home.join(".continue/config.yaml"),
            Self::Copilot => home.join(".copilot/mcp-config.json"),
            Self::Cursor => home.join(".cursor/mcp.json"),
            Self::Gemini => home.join(".gemini/settings.json"),
            Self::Goose => config.join("goose/config.yaml"),
            Self::Kiro => home.join(".kiro/settings/mcp.json"),
            Self::Lmstudio => home.join(".lmstudio/mcp.json"),
            Self::Opencode => config.join("opencode/opencode.json"),
            Self::Qwen => home.join(".qwen/settings.json"),
            Self::Vscode => {
                let folder = if macos { support } else { config.to_owned() };
                folder.join("Code/User/mcp.json")
            }
            Self::Windsurf => home.join(".codeium/windsurf/mcp_config.json"),
            Self::Zed => config.join("zed/settings.json"),
        }
    }

    /// The file of a project, from its folder, where the client has one.
    pub fn project_file(self) -> Option<&'static str> {
        match self {
            Self::Claude => Some(".mcp.json"),
            Self::Copilot => Some(".github/mcp.json"),
            Self::Cursor => Some(".cursor/mcp.json"),
            Self::Gemini => Some(".gemini/settings.json"),
            Self::Kiro => Some(".kiro/settings/mcp.json"),
            Self::Opencode => Some("opencode.json"),
            Self::Vscode => Some(".vscode/mcp.json"),
            _ => None,
        }
    }

    /// HTTP where a client can take the token from elsewhere, else the bridge,
    /// which needs none.
    pub fn usual_transport(self) -> Transport {
        match self {
            Self::ClaudeDesktop
            | Self::Continue
            | Self::Goose
            | Self::Lmstudio
            | Self::Qwen
            | Self::Zed => Transport::Stdio,
            _ => Transport::Http,
        }
    }
}
