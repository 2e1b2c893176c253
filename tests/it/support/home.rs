//! A throw-away HOME and everything that runs in it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;
use tempfile::TempDir;

use super::process::{Output, living_in, run, signal};
use super::wait::within;

/// A HOME below the temporary directory with a short path (a Unix socket's path
/// has to fit in 104 bytes), no XDG variables, and nobody in it. Dropping it
/// kills every process that was started with it, tasks and supervisors
/// included, and removes the files.
pub struct Home {
    path: PathBuf,
    // `None` if the files belong to somebody else.
    _files: Option<TempDir>,
}

impl Home {
    pub fn new() -> Self {
        Self::below(&std::env::temp_dir())
    }

    /// A HOME below `parent`, for tests that bring their own file system.
    pub fn below(parent: &Path) -> Self {
        let files = tempfile::Builder::new().prefix("fd").tempdir_in(parent);
        let files = files.unwrap_or_else(|error| panic!("{}: {error}", parent.display()));
        Self { path: files.path().to_owned(), _files: Some(files) }
    }

    /// A HOME that is there already and stays.
    pub fn at(path: &Path) -> Self {
        Self { path: path.to_owned(), _files: None }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the journal, the token, runs and logs lie.
    pub fn state(&self) -> PathBuf {
        self.path().join(".local/state/fleetd")
    }

    /// The pointer to the runtime file.
    pub fn pointer(&self) -> PathBuf {
        self.path().join(".fleetd/fleetd.json")
    }

    pub fn socket(&self) -> PathBuf {
        self.path().join(".fleetd/fleetd.sock")
    }

    /// The token, as the daemon wrote it.
    pub fn token(&self) -> String {
        let path = self.state().join("token");
        let text = std::fs::read_to_string(&path);
        text.unwrap_or_else(|error| panic!("{}: {error}", path.display())).trim().to_owned()
    }

    /// Writes the configuration file where the daemon looks for it.
    pub fn configure(&self, toml: &str) {
        let path = self.path().join(".config/fleetd/fleetd.toml");
        std::fs::create_dir_all(path.parent().expect("has a folder")).expect("a folder for it");
        std::fs::write(&path, toml).expect("the configuration is written");
    }

    /// `program` with nothing in its environment but PATH and this HOME.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env_clear().env("HOME", self.path()).env("RUST_BACKTRACE", "1");
        if let Some(path) = std::env::var_os("PATH") {
            command.env("PATH", path);
        }
        command.current_dir(self.path());
        command
    }

    /// The daemon's program.
    pub fn fleetd(&self) -> Command {
        self.command(env!("CARGO_BIN_EXE_fleetd"))
    }

    /// `fleetctl ARGS`, to be run by the test itself.
    pub fn fleetctl_command(&self, args: &[&str]) -> Command {
        let mut command = self.command(env!("CARGO_BIN_EXE_fleetctl"));
        command.args(args);
        command
    }

    /// `fleetctl LINE` on a terminal of its own. What is written to its input
    /// is typed; what it shows, its own echo too, is its output.
    pub fn fleetctl_at_terminal(&self, line: &str) -> Command {
        let mut command = self.command("script");
        let program = env!("CARGO_BIN_EXE_fleetctl");
        command.env("TERM", "xterm-256color");
        command.args(["--quiet", "--return", "--command", &format!("exec {program} {line}")]);
        command.arg("/dev/null");
        command
    }

    /// Runs `fleetctl ARGS` to its end.
    pub fn fleetctl(&self, args: &[&str]) -> Output {
        self.fleetctl_with(args, b"")
    }

    /// Runs `fleetctl ARGS` to its end with `stdin`.
    pub fn fleetctl_with(&self, args: &[&str], stdin: &[u8]) -> Output {
        run(self.fleetctl_command(args), stdin, Duration::from_secs(60))
    }

    /// The daemon's log files, oldest name first, joined.
    pub fn logs(&self) -> String {
        let mut paths: Vec<PathBuf> = std::fs::read_dir(self.state().join("log"))
            .map(|entries| entries.filter_map(|entry| Some(entry.ok()?.path())).collect())
            .unwrap_or_default();
        paths.sort();
        paths.iter().map(|path| std::fs::read_to_string(path).unwrap_or_default()).collect()
    }

    /// What the daemon said on stderr.
    pub fn stderr(&self) -> String {
        std::fs::read_to_string(self.path().join("stderr")).unwrap_or_default()
    }

    /// What the daemon said: the ends of its stderr and its log.
    pub fn story(&self) -> String {
        let tail = |text: String| {
            let from = text.char_indices().rev().nth(6000).map_or(0, |(at, _)| at);
            text[from..].to_owned()
        };
        format!("stderr:\n{}\nlog:\n{}", tail(self.stderr()), tail(self.logs()))
    }

    /// Kills every process of this HOME.
    fn clear(&self) {
        within(Duration::from_secs(10), "every process of this HOME is gone", || {
            let left = living_in(self.path());
            left.iter().for_each(|pid| signal(*pid, Signal::SIGKILL));
            left.is_empty().then_some(())
        });
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- what fleetd said in {} ---\n{}", self.path().display(), self.story());
            // A second panic would hide the first, so this does not wait.
            living_in(self.path()).iter().for_each(|pid| signal(*pid, Signal::SIGKILL));
        } else {
            self.clear();
        }
    }
}
