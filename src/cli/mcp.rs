//! `mcp-config`, `mcp-headers`: how an MCP client finds and enters the daemon.

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;
use serde_json::{Value, json};

use super::{Cx, Outcome, exit};

/// Print the configuration that connects Claude Code to this fleet.
///
/// It holds no token: Claude Code runs `fleetctl mcp-headers` for it whenever
/// it connects, so the file may be committed, and a rotated token needs no edit.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  fleetctl mcp-config > .mcp.json")]
pub struct McpConfig {
    /// Print JSON; there is no other form yet.
    #[arg(long)]
    json: bool,
}

/// Print the HTTP headers with which an MCP client enters.
///
/// For `headersHelper` of Claude Code and `http_headers_helper` of Codex. The
/// token is printed only after the daemon has proved that it is yours.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  fleetctl mcp-headers")]
pub struct McpHeaders {}

impl McpConfig {
    pub async fn handle(self, cx: &Cx) -> Outcome {
        let _ = self.json;
        let url = cx.client.runtime_file().await?.url;
        let program = std::env::current_exe().context("cannot find the path of fleetctl")?;
        let helper = helper(&program, std::env::var_os("PATH").as_deref())?;
        cx.out.json(&config(&url, &helper))?;
        cx.out.hint("save it as .mcp.json in your project, then run `claude`");
        Ok(exit::OK)
    }
}

impl McpHeaders {
    pub async fn handle(self, cx: &Cx) -> Outcome {
        let token = cx.client.token().await?;
        cx.out.json_line(&json!({"Authorization": format!("Bearer {token}")}).to_string())?;
        Ok(exit::OK)
    }
}

fn config(url: &str, helper: &str) -> Value {
    json!({"mcpServers": {"fleet": {
        "type": "http",
        "url": format!("{url}/mcp"),
        "headersHelper": helper,
    }}})
}

/// A shell line that runs this very program, by its short name if that finds it.
fn helper(program: &Path, path: Option<&std::ffi::OsStr>) -> anyhow::Result<String> {
    let found = std::env::split_paths(path.unwrap_or_default())
        .map(|folder| folder.join("fleetctl"))
        .find(|candidate| candidate.is_file());
    let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| PathBuf::from(path));
    if found.is_some_and(|found| real(&found) == real(program)) {
        return Ok("fleetctl mcp-headers".to_owned());
    }
    let program = program.to_str().context("the path of fleetctl is not UTF-8")?;
    Ok(format!("{} mcp-headers", super::quote::word(program)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_is_what_claude_code_reads() {
        let config = config("http://127.0.0.1:41234", "fleetctl mcp-headers");
        let expected = r#"{
  "mcpServers": {
    "fleet": {
      "headersHelper": "fleetctl mcp-headers",
      "type": "http",
      "url": "http://127.0.0.1:41234/mcp"
    }
  }
}"#;
        assert_eq!(serde_json::to_string_pretty(&config).unwrap(), expected);
    }

    #[test]
    fn the_helper_is_found_wherever_it_is_run() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("fleetctl");
        std::fs::write(&program, "").unwrap();
        let on_path = helper(&program, Some(folder.path().as_os_str())).unwrap();
        assert_eq!(on_path, "fleetctl mcp-headers");
        let elsewhere = Path::new("/opt/my tools/fleetctl");
        assert_eq!(helper(elsewhere, None).unwrap(), "'/opt/my tools/fleetctl' mcp-headers");
        // Another fleetctl that comes first on PATH is not this one.
        let other = helper(elsewhere, Some(folder.path().as_os_str())).unwrap();
        assert_eq!(other, "'/opt/my tools/fleetctl' mcp-headers");
    }
}
