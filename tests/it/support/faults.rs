//! A daemon whose syncs fail or hang when the test says so.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use super::process::run;
use super::root::path_text;
use super::{Daemon, Home};

/// The faults of one daemon; see `faults.c`.
pub struct Faults {
    folder: TempDir,
}

impl Faults {
    /// Compiles the library that puts itself before libc.
    ///
    /// # Panics
    /// If there is no C compiler (`tests/setup` installs one).
    pub fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("x").tempdir().expect("a folder");
        let source = folder.path().join("faults.c");
        std::fs::write(&source, include_str!("faults.c")).expect("the source");
        let mut cc = Command::new("cc");
        cc.args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o"]);
        cc.arg(folder.path().join("faults.so")).arg(&source).arg("-ldl");
        run(cc, b"", Duration::from_secs(60)).ok();
        Self { folder }
    }

    /// Starts a daemon under these faults, none of which is armed yet.
    pub fn start(&self, home: Home) -> Daemon {
        let mut command = home.fleetd();
        command.env("LD_PRELOAD", path_text(&self.folder.path().join("faults.so")));
        command.env("FAULTS", self.folder.path());
        Daemon::start_as(home, command)
    }

    fn arm(&self, name: &str) {
        std::fs::write(self.file(name), "").expect("the fault is armed");
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The next sync of the journal's file `name` fails.
    pub fn fail_one(&self, name: &str) {
        self.arm(&format!("fail.{name}"));
    }

    /// Whether nothing is left to fail.
    pub fn has_failed(&self, name: &str) -> bool {
        !self.file(&format!("fail.{name}")).exists()
    }

    /// Syncs of the journal wait until [`Faults::release`].
    pub fn hold(&self) {
        self.arm("hold");
    }

    pub fn release(&self) {
        std::fs::remove_file(self.file("hold")).expect("syncs were held");
    }

    /// From now on each sync of the journal takes 20 ms longer.
    pub fn slow_down(&self) {
        self.arm("slow");
    }
}
