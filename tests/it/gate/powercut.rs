//! R02: a power cut, played with a file system in a file.
//!
//! The daemon lives on ext4 in a loop image. What it has synced is in the image;
//! what only the page cache knows is not. So a copy of the image, taken while
//! the daemon is stopped, is the disk after the plug was pulled. The control
//! runs with `durability = "normal"` and has to lose something: otherwise the
//! copy would show the cache, and the test nothing.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use tempfile::TempDir;

use super::ledger::{Ledger, check_distinct, stored};
use super::size;
use crate::support::{Daemon, Home, Random, eventually, path_text, run, run_as_root, unmount};

/// A file system in a file, mounted while this lives.
struct Disk {
    image: PathBuf,
    mount: TempDir,
}

impl Disk {
    fn new(folder: &Path) -> Self {
        let image = folder.join("disk");
        let file = std::fs::File::create(&image).expect("an image");
        file.set_len(96 * 1024 * 1024).expect("a size");
        let mut mkfs = Command::new("mkfs.ext4");
        mkfs.args(["-q", "-F"]).arg(&image);
        run(mkfs, b"", Duration::from_secs(30)).ok();
        Self::mounted(image)
    }

    fn mounted(image: PathBuf) -> Self {
        let mount = tempfile::Builder::new().prefix("m").tempdir().expect("a mount point");
        run_as_root(&["mount", "-o", "loop,noatime", &path_text(&image), &path_text(mount.path())]);
        run_as_root(&["chown", &nix::unistd::getuid().to_string(), &path_text(mount.path())]);
        Self { image, mount }
    }

    /// The disk as it would be found after the plug was pulled now.
    fn after_power_cut(&self) -> Self {
        let copy = self.image.with_extension("copy");
        std::fs::copy(&self.image, &copy).expect("a copy of the image");
        Self::mounted(copy)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        unmount(self.mount.path());
    }
}

/// One round. Returns how many events were acknowledged, and how many of them
/// are lost.
fn round(durability: &str, life: Duration) -> (usize, usize) {
    let folder = tempfile::Builder::new().prefix("p").tempdir().expect("a folder");
    let disk = Disk::new(folder.path());
    let home = Home::below(disk.mount.path());
    home.configure(&format!("[journal]\ndurability = \"{durability}\"\n"));
    let name = home.path().file_name().expect("a name").to_owned();
    let daemon = Daemon::start_in(home);
    let ledger = publish_until_stopped(&daemon, life);
    let copy = disk.after_power_cut();
    // The old life is over before the new one begins.
    drop(daemon);

    let survivor = Daemon::start_in(Home::at(&copy.mount.path().join(name)));
    let there: std::collections::HashMap<_, _> = stored(&survivor, "0").into_iter().collect();
    let kept = |(id, cursor): &(&String, &String)| there.get(*id) == Some(cursor);
    let lost = ledger.acked.len() - ledger.acked.iter().filter(kept).count();
    check_distinct(&survivor);
    let database = survivor.home().state().join("journal.db");
    let mut sqlite = Command::new("sqlite3");
    sqlite.arg(format!("file:{}?mode=ro", database.display())).arg("pragma integrity_check");
    let verdict = run(sqlite, b"", Duration::from_secs(30)).ok().stdout;
    assert_eq!(verdict.trim(), "ok");
    (ledger.acked.len(), lost)
}

/// Publishers at work until the daemon is stopped (not killed: a dying process
/// closes files, which a power cut does not).
fn publish_until_stopped(daemon: &Daemon, life: Duration) -> Ledger {
    let (stop, begun) = (AtomicBool::new(false), Instant::now());
    std::thread::scope(|scope| {
        let stopper = scope.spawn(|| {
            eventually("its time has come", || begun.elapsed() >= life);
            stop.store(true, Ordering::Relaxed);
        });
        let ledger = Ledger::publish(daemon, 4, usize::MAX, &stop);
        stopper.join().expect("the stopper");
        // The last answer is in; nothing may be written after this.
        daemon.signal(Signal::SIGSTOP);
        ledger
    })
}

#[test]
fn r02_a_power_cut_loses_nothing_that_was_acknowledged() {
    let rounds = size(30, 3);
    let mut random = Random::fresh("powercut");
    let (mut acked, mut lost) = (0, 0);
    for _ in 0..rounds {
        let (round_acked, round_lost) = round("full", random.millis(100..600));
        acked += round_acked;
        lost += round_lost;
    }
    let (mut control_acked, mut control_lost) = (0, 0);
    for _ in 0..rounds.div_ceil(3) {
        let (round_acked, round_lost) = round("normal", random.millis(100..600));
        control_acked += round_acked;
        control_lost += round_lost;
    }
    println!(
        "powercut: {rounds} rounds, {acked} acknowledged, {lost} lost; \
         control (normal): {control_acked} acknowledged, {control_lost} lost"
    );
    assert_eq!(lost, 0);
    assert!(acked >= rounds * 20, "only {acked} acknowledged: void");
    assert!(control_lost > 0, "the control lost nothing: the test shows nothing");
}
