//! `version`: of this program and of the daemon.

use clap::Args;
use serde_json::json;

use super::{Cx, Outcome, exit};
use crate::client::ClientError;
use crate::wire::tools::{NoArguments, VersionResult};

/// Show the versions of fleetctl and of the running daemon.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  fleetctl version --json")]
pub struct Version {
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl Version {
    pub async fn handle(self, cx: &Cx) -> Outcome {
        let ours = env!("CARGO_PKG_VERSION");
        let daemon: Result<VersionResult, ClientError> =
            cx.client.call_tool("version", &NoArguments {}).await;
        if self.json {
            cx.out.json(&json!({"fleetctl": ours, "fleetd": daemon.as_ref().ok()}))?;
            return Ok(exit::OK);
        }
        cx.out.print(&format!("fleetctl {ours}"))?;
        match daemon {
            Ok(fleetd) => cx.out.print(&format!(
                "fleetd {} (SQLite {}; MCP {})",
                fleetd.version,
                fleetd.sqlite,
                fleetd.mcp.join(", ")
            ))?,
            Err(error) => cx.out.note(&error.to_string()),
        }
        Ok(exit::OK)
    }
}
