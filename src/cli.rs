//! fleetctl: the daemon's tools and streams for people, scripts and hooks.
//!
//! Theory of operation: one file per noun, with its arguments and its
//! `handle`, which returns the exit status. Everything goes through
//! [`crate::client`]; only what has to work without a daemon (`up`, `logs`,
//! `token rotate`) touches files itself. `output` alone prints. Foreign text
//! reaches a terminal without its control sequences, except where it is the
//! command's own stream.

mod bridge;
mod clients;
mod completions;
mod daemon;
mod event;
mod exit;
mod file;
mod follow;
mod gather;
mod launch;
mod logs;
mod mcp;
mod member;
mod output;
mod place;
mod prompt;
mod publish;
mod quote;
mod run;
mod show;
mod status;
mod stdin;
mod table;
mod task;
mod text;
mod token;
mod version;

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::Context;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{CommandFactory, Parser, Subcommand};

use crate::client::Client;
use crate::config::Paths;
use crate::model::{Project, ToolSet};

use output::Output;

/// What every `handle` is given.
#[derive(Clone)]
struct Cx {
    client: Client,
    out: Output,
}

impl Cx {
    /// The same, seeing and touching only what is of `project`.
    fn within(&self, project: Option<Project>) -> Self {
        Self { client: self.client.clone().within(project), out: self.out.clone() }
    }
}

/// What every `handle` returns: the exit status, or why there is none.
type Outcome = anyhow::Result<u8>;

/// Run commands as tasks that outlive you, and hear what becomes of them.
#[derive(Debug, Parser)]
#[command(name = "fleetctl", version, after_help = EXAMPLES, after_long_help = LONG_EXAMPLES)]
#[command(propagate_version = true, subcommand_required = true, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
First steps:
  fleetctl up                       start the daemon
  fleetctl run -- make test         run a command as a task
  fleetctl events --follow          watch what happens
  fleetctl mcp-config > .mcp.json   connect Claude Code";

const LONG_EXAMPLES: &str = "\
First steps:
  fleetctl up                       start the daemon
  fleetctl run -- make test         run a command as a task
  fleetctl events --follow          watch what happens
  fleetctl mcp-config > .mcp.json   connect Claude Code

Exit status:
  0   done                          5   the journal cannot be written
  1   failed, or --timeout passed   7   not permitted
  2   wrong usage or argument       9   the outcome is not known
  3   already running              69   fleetd is not running, or frozen
  4   the state folder is unusable 78   the configuration is wrong
`fleetctl run` ends with the status of its command, 128 + n for signal n.";

#[derive(Debug, Subcommand)]
enum Command {
    Up(daemon::Up),
    Down(daemon::Down),
    Restart(daemon::Restart),
    Status(status::Status),
    Logs(logs::Logs),
    Run(run::Run),
    Prompt(prompt::Prompt),
    Tasks(task::Tasks),
    Members(member::Members),
    Cp(file::Cp),
    Events(event::Events),
    Publish(publish::Publish),
    Mcp(bridge::Bridge),
    McpConfig(mcp::McpConfig),
    McpHeaders(mcp::McpHeaders),
    Token(token::Token),
    Version(version::Version),
    Completions(completions::Completions),
}

impl Command {
    async fn handle(self, cx: &Cx) -> Outcome {
        match self {
            Self::Up(command) => command.handle(cx).await,
            Self::Down(command) => command.handle(cx).await,
            Self::Restart(command) => command.handle(cx).await,
            Self::Status(command) => command.handle(cx).await,
            Self::Logs(command) => command.handle(cx).await,
            Self::Run(command) => command.handle(cx).await,
            Self::Prompt(command) => command.handle(cx).await,
            Self::Tasks(command) => command.handle(cx).await,
            Self::Members(command) => command.handle(cx).await,
            Self::Cp(command) => command.handle(cx).await,
            Self::Events(command) => command.handle(cx).await,
            Self::Publish(command) => command.handle(cx).await,
            Self::Mcp(command) => command.handle(cx).await,
            Self::McpConfig(command) => command.handle(cx).await,
            Self::McpHeaders(command) => command.handle(cx).await,
            Self::Token(command) => command.handle(cx).await,
            Self::Version(command) => command.handle(cx).await,
            Self::Completions(command) => command.handle(cx, Cli::command()),
        }
    }
}

/// Runs fleetctl with these arguments, the program's name first.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let out = Output::of_this_process();
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(asked) => {
            // Help and version come this way as well, with status 0. A reader
            // that has gone is nobody's error.
            let _ = asked.print();
            return ExitCode::from(u8::try_from(asked.exit_code()).unwrap_or(exit::USAGE));
        }
    };
    let status = run(cli, out.clone()).unwrap_or_else(|error| {
        if !exit::is_broken_pipe(&error) {
            out.error(&error);
        }
        exit::status(&error)
    });
    ExitCode::from(status)
}

fn run(cli: Cli, out: Output) -> Outcome {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let outcome = runtime.block_on(async {
        let client = Client::new(Paths::find()?);
        cli.command.handle(&Cx { client, out }).await
    });
    // A read of standard input that nobody waits for any more must not hold us.
    runtime.shutdown_background();
    outcome
}

/// A value of `--tools`.
fn tool_set() -> impl TypedValueParser<Value = ToolSet> {
    let names = PossibleValuesParser::new(ToolSet::EVERY.map(ToolSet::name));
    names.try_map(|name| name.parse::<ToolSet>())
}

/// A value of `--project`.
fn project(text: &str) -> Result<Project, String> {
    Project::parse(text).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_has_help_with_an_example() {
        for command in Cli::command().get_subcommands_mut() {
            let name = command.get_name().to_owned();
            let help = command.render_long_help().to_string();
            let example = format!("  fleetctl {name}");
            assert!(help.contains(&example), "{name} has no example:\n{help}");
        }
    }

    #[test]
    fn names_that_scripts_rely_on_parse() {
        for line in [
            "up",
            "down",
            "down --stop-tasks",
            "restart",
            "status --json",
            "logs --follow --lines 5",
            "run -- true",
            "run --on web-1 --detach --json --timeout 5 --max-total 9 -- sh -c true",
            "run ls -la",
            "prompt hello",
            "prompt --on web-1 --detach --json --resume x --model cheap --provider codex -",
            "prompt --last --folder /repo --timeout 0 --project p --agent a hello",
            "tasks",
            "tasks --json --all",
            "tasks stop 1d0c1f5e-6d34-4c0e-8a4e-9a3c0d1c8f11",
            "tasks show 1d0c1f5e-6d34-4c0e-8a4e-9a3c0d1c8f11",
            "tasks output 1d0c1f5e-6d34-4c0e-8a4e-9a3c0d1c8f11 --follow --stderr",
            "members add web-1 --host h --port 22 --user u --key f --work-folder /w --accept-new --json",
            "members add here --local --work-folder /w",
            "members list --json --tag gpu",
            "members show web-1",
            "members update web-1 --rename web-2 --all-projects",
            "members rm web-1 --force",
            "members trust web-1 --fingerprint SHA256:x",
            "members setup-key web-1 --json",
            "cp a b web-1:in --set A=b --json",
            "cp web-1:out web-1:log ./here --project p --detach",
            "events",
            "events --since 0 --json",
            "events --since 0000002a:7 --follow --types task.*,custom.>",
            "events --wait --timeout 5 --as me --subject task/x",
            "events topics",
            "run --project p -- true",
            "tasks --project p",
            "events --project p --follow",
            "publish --project p custom.y",
            "publish custom.x --data {} --subject s --id i --severity notice",
            "mcp --no-channel",
            "mcp --tools task,event",
            "mcp --start --types task.*,custom.> --as me",
            "mcp-config --json",
            "mcp-config --tools task --tools event",
            "mcp-config --client codex --install --dry-run --transport stdio --project p",
            "mcp-headers",
            "token rotate",
            "token create ci --project web --project api --read-only --json",
            "token create ci --all-projects",
            "token create ci --tools task,event --tools fleet",
            "token list --json",
            "token revoke ci",
            "version",
            "completions bash",
        ] {
            let words = std::iter::once("fleetctl").chain(line.split(' '));
            if let Err(error) = Cli::try_parse_from(words) {
                panic!("{line}: {error}");
            }
        }
    }

    #[test]
    fn mistakes_are_usage_errors() {
        for line in [
            "",
            "upp",
            "run --detahc -- true",
            "run",
            "events --follow --wait",
            "events --types ..",
            "tasks --json stop x",
            "publish",
            "logs --lines x",
            "token create ci --tools tasks",
            "mcp-config --tools nope",
            "cp a",
            "cp a web-1: --set A",
        ] {
            let words = std::iter::once("fleetctl").chain(line.split_whitespace());
            let error = Cli::try_parse_from(words).err();
            assert_eq!(error.map(|error| error.exit_code()), Some(2), "{line}");
        }
    }
}
