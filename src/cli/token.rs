//! `token`: who may connect by TCP: the owner's token, and those of other clients.

use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;

use anyhow::Context;
use clap::{Args, Subcommand};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use super::{Cx, Outcome, exit, table};
use crate::client::{ClientError, Daemon, NewToken};
use crate::model::{Project, Scope, ToolSet, ToolSets};

/// Manage the tokens that programs connecting by TCP have to show.
///
/// Yours lets in everywhere and lies in a file of your own. A client that should
/// see less gets one of its own.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  fleetctl token create ci --project web --read-only
  fleetctl token create watcher --tools event
  fleetctl token list
  fleetctl token revoke ci
  fleetctl token rotate")]
pub struct Token {
    #[command(subcommand)]
    command: TokenCommand,
}

#[derive(Debug, Subcommand)]
enum TokenCommand {
    /// Make a token for a client and print it. It is shown this once.
    #[command(after_help = "Example:\n  fleetctl token create ci --project web --read-only")]
    Create(Create),
    /// List the tokens of clients: whose they are, never what they are.
    #[command(after_help = "Example:\n  fleetctl token list")]
    List {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Let a client in no more. Streams that it opened are closed.
    #[command(after_help = "Example:\n  fleetctl token revoke ci")]
    Revoke {
        /// Its name.
        #[arg(value_parser = super::project)]
        name: Project,
    },
    /// Make a new token for yourself. Streams opened with the old one are closed.
    #[command(after_help = "Example:\n  fleetctl token rotate")]
    Rotate,
}

#[derive(Debug, Args)]
struct Create {
    /// A name to know it by.
    #[arg(value_parser = super::project)]
    name: Project,
    /// A project it may see and work in; may be given several times [default: default].
    #[arg(long = "project", value_name = "PROJECT", value_parser = super::project)]
    projects: Vec<Project>,
    /// Every project, also those to come.
    #[arg(long, conflicts_with = "projects")]
    all_projects: bool,
    /// It may look and wait, but not publish, start or stop.
    #[arg(long)]
    read_only: bool,
    /// A set of tools it may call, and no others; several with commas, or again.
    #[arg(long, value_name = "SET", value_delimiter = ',', value_parser = super::tool_set())]
    tools: Vec<ToolSet>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl Token {
    pub async fn handle(self, cx: &Cx) -> Outcome {
        match self.command {
            TokenCommand::Create(create) => create.handle(cx).await,
            TokenCommand::List { json } => list(cx, json).await,
            TokenCommand::Revoke { name } => {
                cx.client.revoke_token(&name).await?;
                cx.out.print(&format!("'{name}' is let in no more"))?;
                Ok(exit::OK)
            }
            TokenCommand::Rotate => Self::rotate(cx).await,
        }
    }

    async fn rotate(cx: &Cx) -> Outcome {
        // First find out whom to tell: a frozen daemon would go on with the old one.
        let pid = match cx.client.healthz().await {
            Ok(Daemon { pid }) => pid,
            Err(ClientError::NotRunning | ClientError::Impostor { .. }) => None,
            Err(error) => return Err(error.into()),
        };
        write_new(&cx.client.paths().token())?;
        match pid {
            Some(pid) => {
                kill(Pid::from_raw(pid), Signal::SIGHUP)
                    .with_context(|| format!("cannot signal fleetd (pid {pid})"))?;
                cx.out
                    .print("the token is new; streams opened with the old one are being closed")?;
            }
            None => cx.out.print("the token is new; fleetd is not running")?,
        }
        cx.out.hint("clients that use `fleetctl mcp-headers` get it by themselves");
        Ok(exit::OK)
    }
}

impl Create {
    async fn handle(self, cx: &Cx) -> Outcome {
        let new = NewToken {
            name: self.name.clone(),
            projects: self.projects,
            all_projects: self.all_projects,
            read_only: self.read_only,
            tools: ToolSets::of(self.tools),
        };
        let token = cx.client.create_token(&new).await?;
        if self.json {
            cx.out.json(&json!({ "name": self.name, "token": token }))?;
        } else {
            cx.out.print(&token)?;
            cx.out.hint("it is shown this once; clients send it as `Authorization: Bearer TOKEN`");
        }
        Ok(exit::OK)
    }
}

async fn list(cx: &Cx, json: bool) -> Outcome {
    let tokens = cx.client.tokens().await?;
    if json {
        cx.out.json(&json!({ "tokens": tokens }))?;
        return Ok(exit::OK);
    }
    let rows = tokens.iter().map(|token| {
        let projects: Vec<_> = token.projects.iter().map(Project::as_str).collect();
        let projects = if projects.is_empty() { "(all)".to_owned() } else { projects.join(" ") };
        let may: Vec<_> = token.scopes.iter().copied().map(word).collect();
        let tools = match token.tools {
            ToolSets::ALL => "(all)".to_owned(),
            tools => tools.to_string().replace(',', " "),
        };
        vec![token.name.to_string(), projects, may.join(" "), tools, token.created.clone()]
    });
    let head = ["NAME", "PROJECTS", "MAY", "TOOLS", "CREATED"];
    cx.out.print(&table::table(&head, rows, cx.out.width()))?;
    if tokens.is_empty() {
        cx.out.hint("no client has a token of its own; `fleetctl token create NAME` makes one");
    }
    Ok(exit::OK)
}

fn word(scope: Scope) -> &'static str {
    match scope {
        Scope::Read => "read",
        Scope::Publish => "publish",
        Scope::Run => "run",
        Scope::Admin => "admin",
    }
}

/// Replaces the token by 32 fresh random bytes, in hex, in one step.
fn write_new(path: &Path) -> anyhow::Result<()> {
    let mut bytes = [0_u8; 32];
    getrandom::fill(&mut bytes).context("no random numbers")?;
    let token: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let folder = path.parent().context("the token file has no folder")?;
    let cannot = || format!("cannot write the token file '{}'", path.display());
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).with_context(cannot)?;
    let mut file = tempfile::NamedTempFile::new_in(folder).with_context(cannot)?;
    file.as_file().set_permissions(PermissionsExt::from_mode(0o600)).with_context(cannot)?;
    file.write_all(token.as_bytes()).with_context(cannot)?;
    file.as_file().sync_all().with_context(cannot)?;
    file.persist(path).with_context(cannot)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_new_private_and_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state/token");
        write_new(&path).unwrap();
        let first = std::fs::read_to_string(&path).unwrap();
        write_new(&path).unwrap();
        let second = std::fs::read_to_string(&path).unwrap();
        assert_ne!(first, second);
        assert!(second.len() == 64 && second.bytes().all(|byte| byte.is_ascii_hexdigit()));
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
    }
}
