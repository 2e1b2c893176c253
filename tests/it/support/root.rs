//! What only root may do: mounting. Fails loudly where nobody may.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use super::process::run;
use super::wait::eventually;

/// `program` as root; without a password, or it fails.
pub fn as_root(program: &str) -> Command {
    if nix::unistd::geteuid().is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("sudo");
    command.args(["--non-interactive", "--preserve-env", program]);
    command
}

/// Runs `args` as root.
///
/// # Panics
/// If that is not possible, or fails.
#[track_caller]
pub fn run_as_root(args: &[&str]) {
    let mut command = as_root(args[0]);
    command.args(&args[1..]);
    run(command, b"", Duration::from_secs(30)).ok();
}

/// Unmounts what nobody uses any more.
pub fn unmount(mount: &Path) {
    let gone = |lazy: &[&str]| {
        as_root("umount").args(lazy).arg(mount).status().is_ok_and(|status| status.success())
    };
    if std::thread::panicking() {
        // What failed may still use it; a second panic would hide the first.
        gone(&["--lazy"]);
    } else {
        eventually("the disk is unmounted", || gone(&[]));
    }
}

pub fn path_text(path: &Path) -> String {
    path.to_str().expect("a plain path").to_owned()
}

/// A small file system in memory, mounted while this lives.
pub struct SmallDisk {
    mount: TempDir,
}

impl SmallDisk {
    /// A disk with room for `kib` KiB.
    pub fn new(kib: u64) -> Self {
        let mount = tempfile::Builder::new().prefix("s").tempdir().expect("a mount point");
        let uid = nix::unistd::getuid();
        let options = format!("size={kib}k,mode=0700,uid={uid}");
        run_as_root(&["mount", "-t", "tmpfs", "-o", &options, "tmpfs", &path_text(mount.path())]);
        Self { mount }
    }

    pub fn path(&self) -> &Path {
        self.mount.path()
    }

    /// Gives the disk another size.
    pub fn resize(&self, kib: u64) {
        self.remount(&format!("size={kib}k"));
    }

    /// Makes the disk read-only; nobody may have a file open for writing.
    pub fn read_only(&self) {
        self.remount("ro");
    }

    fn remount(&self, option: &str) {
        run_as_root(&["mount", "-o", &format!("remount,{option}"), &path_text(self.mount.path())]);
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        unmount(self.mount.path());
    }
}
