//! Where `tests/setup` puts what others wrote, and the scripts that drive it.

use std::io::Write;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;
use tempfile::NamedTempFile;

use crate::support::{Daemon, Home, Program};

/// A script of ours on an SDK of others. It says one JSON object per line.
pub struct Script {
    program: Program,
    // Read when the program starts; dropped, and removed, after it.
    _source: NamedTempFile,
}

impl Script {
    /// Runs `source` with Node.
    pub fn node(daemon: &Daemon, source: &str) -> Self {
        Self::start(daemon, "node", ".mjs", source)
    }

    /// Runs `source` with Python.
    pub fn python(daemon: &Daemon, source: &str) -> Self {
        Self::start(daemon, "python/bin/python", ".py", source)
    }

    /// With nothing of the daemon but what `fleetctl mcp-config` prints; the token
    /// comes from the helper that is named in it.
    fn start(daemon: &Daemon, interpreter: &str, suffix: &str, source: &str) -> Self {
        // Node finds modules beside the script, so it is put beside them.
        let mut builder = tempfile::Builder::new();
        let builder = builder.prefix("client-").suffix(suffix);
        let mut file = builder.tempfile_in(installed("")).expect("a file for the script");
        file.write_all(source.as_bytes()).expect("the script is written");
        let mut command = program(daemon.home(), interpreter);
        command.arg(file.path()).env("CONFIG", daemon.fleetctl(&["mcp-config"]).ok().stdout);
        let program = Program::start(command);
        program.says("\"tools\"");
        Self { program, _source: file }
    }

    pub fn program(&mut self) -> &mut Program {
        &mut self.program
    }

    /// What it said so far.
    pub fn said(&self) -> Vec<Value> {
        let text = self.program.stdout();
        let whole = &text[..text.rfind('\n').map_or(0, |at| at + 1)];
        whole.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Pushed events of `topic`, with how they came.
    pub fn pushed(&self, topic: &str) -> Vec<Value> {
        self.said().into_iter().filter(|value| value["pushed"] == topic).collect()
    }

    /// Closes its input and returns its exit status.
    pub fn end(self) -> i32 {
        self.program.end().0
    }
}

/// `path` below what is installed.
pub fn installed(path: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/mcp-client");
    assert!(folder.join("version").is_file(), "no MCP clients are installed; run tests/setup");
    let path = folder.join(path);
    assert!(path.exists(), "{} is missing; run tests/setup", path.display());
    path
}

/// An installed program, in the HOME of the daemon.
pub fn program(home: &Home, path: &str) -> Command {
    home.command(installed(path).to_str().expect("a path in UTF-8"))
}
