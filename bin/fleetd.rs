//! fleetd: arguments in, exit code out.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};
use fleetd::model::ToolSets;

/// The daemon that turns your machines and agents into an event source.
///
/// Runs in the foreground until SIGTERM; `fleetctl up` starts it in the background.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// The configuration file, instead of the one in your configuration directory.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Serve MCP on standard input and output, with a fleet of its own and no port.
    #[arg(long, value_name = "NAME", value_parser = ["http", "stdio"], default_value = "http")]
    transport: String,
    /// The sets of tools that stdio offers; several with commas.
    #[arg(long, value_name = "SET")]
    tools: Option<ToolSets>,
    /// Supervise the run in DIR and nothing else; the daemon calls itself so.
    #[arg(long, value_name = "DIR", hide = true, conflicts_with = "config")]
    supervise: Option<PathBuf>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Some(dir) = arguments.supervise {
        return fleetd::fleet::supervise(&dir);
    }
    let ran = match (arguments.transport.as_str(), arguments.tools) {
        ("stdio", tools) => {
            fleetd::daemon::serve_stdio(arguments.config, tools.unwrap_or(ToolSets::DEFAULT))
        }
        (_, None) => fleetd::daemon::run(arguments.config),
        (_, Some(_)) => {
            let said =
                "--tools goes with --transport stdio; over HTTP the address chooses: /mcp/x/SET";
            Arguments::command().error(ErrorKind::ArgumentConflict, said).exit()
        }
    };
    match ran {
        Ok(code) => code,
        Err(error) => {
            // Nobody is left to tell if this fails.
            let _ = writeln!(std::io::stderr(), "fleetd: {}", error.chain());
            ExitCode::from(error.exit_code())
        }
    }
}
