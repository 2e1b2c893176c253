//! Where `tests/setup` puts what others wrote, and the scripts that drive it.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
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
        Self::node_over(daemon, "http", source)
    }

    /// Runs `source` with Python.
    pub fn python(daemon: &Daemon, source: &str) -> Self {
        Self::python_over(daemon, "http", source)
    }

    pub fn node_over(daemon: &Daemon, transport: &str, source: &str) -> Self {
        Self::start(daemon, program(daemon.home(), "node"), transport, ".mjs", source)
    }

    pub fn python_over(daemon: &Daemon, transport: &str, source: &str) -> Self {
        let python = program(daemon.home(), "python/bin/python");
        Self::start(daemon, python, transport, ".py", source)
    }

    /// Runs `source` with the shell; the token's header stands in a file.
    pub fn shell(daemon: &Daemon, source: &str) -> Self {
        let headers = daemon.home().path().join("headers");
        let mut options = std::fs::OpenOptions::new();
        let file = options.write(true).create_new(true).mode(0o600).open(&headers);
        writeln!(file.unwrap(), "Authorization: Bearer {}", daemon.token()).unwrap();
        let mut command = daemon.home().command("sh");
        command.env("HEADERS", headers).env("URL", format!("http://{}/mcp", daemon.host()));
        Self::start(daemon, command, "http", ".sh", source)
    }

    /// With nothing of the daemon but what `fleetctl mcp-config` prints; the token
    /// comes from the helper that is named in it.
    fn start(
        daemon: &Daemon,
        mut command: Command,
        transport: &str,
        suffix: &str,
        source: &str,
    ) -> Self {
        // Node finds modules beside the script, so it is put beside them.
        let mut builder = tempfile::Builder::new();
        let builder = builder.prefix("client-").suffix(suffix);
        let mut file = builder.tempfile_in(installed("")).expect("a file for the script");
        file.write_all(source.as_bytes()).expect("the script is written");
        let config = daemon.fleetctl(&["mcp-config", "--transport", transport]).ok().stdout;
        command.arg(file.path()).env("CONFIG", config);
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
