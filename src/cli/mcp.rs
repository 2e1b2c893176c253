//! `mcp-config`, `mcp-headers`: how an MCP client finds and enters the daemon.

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;
use directories::BaseDirs;
use serde_json::json;

use super::clients::edit::{self};
use super::clients::install::Change;
use super::clients::{self, Client, Connection, Entrance, Form, Transport};
use super::exit::Ended;
use super::{Cx, Outcome, exit};
use crate::model::{Project, ToolSet, ToolSets};

/// Print, install or remove the configuration that connects an MCP client.
///
/// It holds no token unless asked for: clients run `fleetctl mcp-headers` when
/// they connect, start `fleetctl mcp`, or take the token from FLEET_TOKEN, so the
/// file may be committed, and a rotated token needs no edit.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  fleetctl mcp-config > .mcp.json
  fleetctl mcp-config --client codex --install --dry-run
  fleetctl mcp-config --client codex --install
  fleetctl mcp-config --client codex --uninstall")]
pub struct McpConfig {
    /// The client.
    #[arg(long, value_enum, default_value = "claude")]
    client: Client,
    /// How it connects [default: http, or stdio where that needs a literal token].
    #[arg(long, value_enum)]
    transport: Option<Transport>,
    /// Have the client work in this project of the fleet.
    #[arg(long, value_parser = super::project)]
    project: Option<Project>,
    /// Offer it this set of tools instead of `default`; several with commas, or again.
    #[arg(long, value_name = "SET", value_delimiter = ',', value_parser = super::tool_set())]
    tools: Vec<ToolSet>,
    /// Print it; this is what is done without --install and --uninstall.
    #[arg(long, conflicts_with_all = ["install", "uninstall"])]
    print: bool,
    /// Put it into the client's own file. Everything else in there stays as it is.
    #[arg(long, conflicts_with = "uninstall")]
    install: bool,
    /// Take it out of the client's own file again.
    #[arg(long)]
    uninstall: bool,
    /// Use the file of the project in this folder instead of the user's.
    #[arg(long)]
    here: bool,
    /// Only show what would change.
    #[arg(long)]
    dry_run: bool,
    /// Write the token itself, which has to be written anew when it is rotated.
    #[arg(long, conflicts_with = "here")]
    with_token: bool,
    /// Print JSON; the form that the client's file has is printed anyway.
    #[arg(long)]
    json: bool,
}

/// Print the HTTP headers with which an MCP client enters.
///
/// For `headersHelper` of Claude Code and `http_headers_helper` of Codex. The
/// token is printed only after the daemon has proved that it is yours, and only
/// for the address at which it listens now: another program may have taken the
/// port that an older configuration names.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  fleetctl mcp-headers --url http://127.0.0.1:40123")]
pub struct McpHeaders {
    /// Where the client is about to send the headers; mcp-config fills it in.
    /// Claude Code says it in its environment as well.
    #[arg(long, value_name = "URL", env = "CLAUDE_CODE_MCP_SERVER_URL")]
    url: Option<String>,
}

impl McpConfig {
    pub async fn handle(self, cx: &Cx) -> Outcome {
        let _ = (self.json, self.print);
        if self.uninstall {
            return self.take_out(cx);
        }
        let transport = self.transport.unwrap_or_else(|| self.client.usual_transport());
        let url = match transport {
            Transport::Stdio => String::new(),
            _ => cx.client.runtime_file().await?.url,
        };
        let token = match self.with_token && transport != Transport::Stdio {
            true => Some(cx.client.token().await?),
            false => None,
        };
        let program = std::env::current_exe().context("cannot find the path of fleetctl")?;
        let path = std::env::var_os("PATH");
        let called = called(&program, path.as_deref())?;
        // A client that is no child of a shell has another PATH.
        let full = program.to_str().context("the path of fleetctl is not UTF-8")?;
        let connection = Connection {
            transport,
            url: &url,
            program: if self.install && !self.here { full } else { &called },
            helper: &format!("{} mcp-headers --url {url}", super::quote::word(&called)),
            entrance: token.as_deref().map_or(Entrance::Elsewhere, Entrance::Token),
            project: self.project.as_ref().map(Project::as_str),
            tools: ToolSets::of(self.tools.iter().copied()),
        };
        let entry = clients::entry(self.client, &connection)
            .map_err(|message| Ended { status: exit::USAGE, message })?;
        if clients::takes_variable(self.client, &connection) {
            // Without it the client is refused, and most do not say why.
            let file = cx.client.paths().token();
            cx.out.note(&format!(
                "this client takes the token from {}: start it with {0}=\"$(cat {})\", or choose --transport stdio, which needs none",
                clients::VARIABLE,
                super::quote::word(&file.display().to_string())
            ));
        }
        if self.install {
            let state = &cx.client.paths().state;
            let change = Change::install(self.client, &self.file()?, state, &entry)?;
            return self.make(cx, &change, token.as_deref());
        }
        let container = self.client.container();
        if self.client.form() == Form::Json {
            cx.out.json(&json!({ container: { clients::NAME: entry } }))?;
        } else {
            cx.out.print(&edit::set(self.client.form(), "", container, &entry)?)?;
        }
        match self.client {
            Client::Claude => {
                cx.out.hint("save it as .mcp.json in your project, then run `claude`");
            }
            _ => cx.out.hint(&format!("it belongs into '{}'", self.file()?.display())),
        }
        Ok(exit::OK)
    }

    fn take_out(&self, cx: &Cx) -> Outcome {
        let file = self.file()?;
        match Change::uninstall(self.client, &file, &cx.client.paths().state)? {
            Some(change) => self.make(cx, &change, None),
            None => {
                cx.out.print(&format!("'{}' does not mention this fleet", file.display()))?;
                Ok(exit::OK)
            }
        }
    }

    /// Shows the change and makes it.
    fn make(&self, cx: &Cx, change: &Change, token: Option<&str>) -> Outcome {
        let path = change.path().display();
        if change.is_empty() {
            cx.out.print(&format!("'{path}' is as it should be"))?;
            return Ok(exit::OK);
        }
        // What is taken out may be a token that was written once.
        if self.uninstall && !self.dry_run {
            cx.out.print(&format!("took the fleet out of '{path}'"))?;
        } else {
            cx.out.foreign(&change.diff(token))?;
        }
        if self.dry_run {
            cx.out.hint("nothing was changed");
            return Ok(exit::OK);
        }
        change.apply()?;
        if self.install {
            cx.out.note(&format!("wrote '{path}'; start the client anew"));
        }
        Ok(exit::OK)
    }

    fn file(&self) -> anyhow::Result<PathBuf> {
        if self.here {
            let Some(file) = self.client.project_file() else {
                let message = "this client has no file of a project; leave out --here".to_owned();
                return Err(Ended { status: exit::USAGE, message }.into());
            };
            return Ok(std::env::current_dir().context("cannot find this folder")?.join(file));
        }
        let base = BaseDirs::new().context("cannot find a home directory; set HOME")?;
        let home = base.home_dir();
        // On macOS these clients follow XDG, not the system's own folders.
        let config = std::env::var_os("XDG_CONFIG_HOME")
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
            .unwrap_or_else(|| home.join(".config"));
        let codex = std::env::var_os("CODEX_HOME").filter(|_| self.client == Client::Codex);
        Ok(match codex {
            Some(folder) => PathBuf::from(folder).join("config.toml"),
            None => self.client.user_file(home, &config, cfg!(target_os = "macos")),
        })
    }
}

impl McpHeaders {
    pub async fn handle(self, cx: &Cx) -> Outcome {
        let url = cx.client.runtime_file().await?.url;
        if let Some(asked) = self.url.filter(|asked| !is_at(asked, &url)) {
            let message =
                format!("fleetd listens at {url}, not at {asked}; run `fleetctl mcp-config` again");
            return Err(Ended { status: exit::AUTH, message }.into());
        }
        let token = cx.client.token().await?;
        cx.out.json_line(&json!({"Authorization": format!("Bearer {token}")}).to_string())?;
        Ok(exit::OK)
    }
}

/// Whether `asked` is `origin` or a path below it.
fn is_at(asked: &str, origin: &str) -> bool {
    asked.strip_prefix(origin).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// This very program as a shell finds it: by its short name, if that leads here.
fn called(program: &Path, path: Option<&std::ffi::OsStr>) -> anyhow::Result<String> {
    let found = std::env::split_paths(path.unwrap_or_default())
        .map(|folder| folder.join("fleetctl"))
        .find(|candidate| candidate.is_file());
    let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| PathBuf::from(path));
    if found.is_some_and(|found| real(&found) == real(program)) {
        return Ok("fleetctl".to_owned());
    }
    Ok(program.to_str().context("the path of fleetctl is not UTF-8")?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_daemons_own_address_is_its_address() {
        let origin = "http://127.0.0.1:4012";
        assert!(is_at(origin, origin) && is_at("http://127.0.0.1:4012/mcp", origin));
        for other in
            ["http://127.0.0.1:40123/mcp", "http://127.0.0.1:4011", "http://evil.example/", ""]
        {
            assert!(!is_at(other, origin), "{other}");
        }
    }

    #[test]
    fn the_program_is_found_wherever_it_is_run() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("fleetctl");
        std::fs::write(&program, "").unwrap();
        let on_path = called(&program, Some(folder.path().as_os_str())).unwrap();
        assert_eq!(on_path, "fleetctl");
        let elsewhere = Path::new("/opt/my tools/fleetctl");
        assert_eq!(called(elsewhere, None).unwrap(), "/opt/my tools/fleetctl");
        // Another fleetctl that comes first on PATH is not this one.
        let other = called(elsewhere, Some(folder.path().as_os_str())).unwrap();
        assert_eq!(other, "/opt/my tools/fleetctl");
        assert_eq!(super::super::quote::word(&other), "'/opt/my tools/fleetctl'");
    }
}
