//! S14: links swapped in while files are copied, ten thousand times over.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use serde_json::{Value, json};

use super::rig::{Rig, home, start, work};
use crate::support::{reply, tool_request};

/// Swaps that every race has to see.
const SWAPS: u64 = 10_000;

/// Transfers that every race has to see.
const TRANSFERS: u64 = 20;

/// Exchanges two names, atomically, until told to end.
fn swap(one: &Path, other: &Path, swaps: &AtomicU64, end: &AtomicBool) {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    while !end.load(Ordering::Relaxed) {
        // One of the two may be gone for a moment: replaced by what arrives.
        if renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE).is_ok() {
            swaps.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Calls the tool again and again while the two names are exchanged; how often
/// it succeeded and how often it was refused.
fn race(rig: &Rig, one: &Path, other: &Path, call: (&str, Value), each: impl Fn()) -> (u64, u64) {
    let (swaps, end) = (AtomicU64::new(0), AtomicBool::new(false));
    let (mut good, mut refused) = (0, 0);
    std::thread::scope(|scope| {
        scope.spawn(|| swap(one, other, &swaps, &end));
        // On and on until both were seen: one alone shows nothing.
        let seen = |good, refused| good > 0 && refused > 0 && good + refused >= TRANSFERS;
        while swaps.load(Ordering::Relaxed) < SWAPS
            || (!seen(good, refused) && good + refused < 100 * TRANSFERS)
        {
            let request = tool_request(&rig.daemon, call.0, call.1.clone());
            let reply = reply(&rig.daemon.send(&request));
            if reply["result"]["isError"] == true {
                refused += 1
            } else {
                good += 1
            }
            each();
        }
        end.store(true, Ordering::Relaxed);
    });
    println!("{}: {good} copied, {refused} refused, {} swaps", call.0, swaps.into_inner());
    (good, refused)
}

fn is_empty(folder: &Path) -> bool {
    fs::read_dir(folder).unwrap().count() == 0
}

#[test]
fn s14_a_folder_swapped_for_a_link_here_receives_nothing_outside() {
    let rig = start();
    fs::create_dir_all(work(&rig).join("d/sub")).unwrap();
    (0..5).for_each(|n| fs::write(work(&rig).join("d/sub").join(n.to_string()), "x").unwrap());
    let (back, text) = home(&rig, "back");
    let (outside, _) = home(&rig, "outside");
    fs::create_dir(&outside).unwrap();
    fs::create_dir_all(back.join("d/sub")).unwrap();
    symlink(&outside, back.join("d/link")).unwrap();
    let arguments = json!({ "remote_paths": ["d"], "local_dest_dir": text, "member_name": "web" });
    let call = ("receive_files", arguments);
    let (good, refused) = race(&rig, &back.join("d/sub"), &back.join("d/link"), call, || {
        assert!(is_empty(&outside), "a file was written outside");
    });
    assert!(good > 0 && refused > 0, "void: {good} copied, {refused} refused");
}

#[test]
fn s14_a_folder_swapped_for_a_link_there_is_sent_nothing_outside() {
    let rig = start();
    let (from, text) = home(&rig, "d");
    fs::create_dir_all(from.join("sub")).unwrap();
    (0..5).for_each(|n| fs::write(from.join("sub").join(n.to_string()), "x").unwrap());
    let outside = rig.sshd.path("outside");
    fs::create_dir(&outside).unwrap();
    let there = work(&rig).join("d");
    fs::create_dir_all(there.join("sub")).unwrap();
    symlink(&outside, there.join("link")).unwrap();
    let call = ("send_files", json!({ "local_paths": [text], "member_name": "web" }));
    let (good, refused) = race(&rig, &there.join("sub"), &there.join("link"), call, || {
        assert!(is_empty(&outside), "a file was written outside");
    });
    assert!(good > 0 && refused > 0, "void: {good} copied, {refused} refused");
}

#[test]
fn s14_a_file_swapped_for_a_link_here_never_leaks() {
    let rig = start();
    let (from, text) = home(&rig, "d");
    fs::create_dir_all(from.join("sub")).unwrap();
    let (secret, _) = home(&rig, "secret");
    // As long as the real one, so that its length does not give it away.
    fs::write(&secret, "secret").unwrap();
    fs::write(from.join("sub/f"), "public").unwrap();
    let (other, _) = home(&rig, "other");
    symlink(&secret, &other).unwrap();
    let call = ("send_files", json!({ "local_paths": [text], "member_name": "web" }));
    let there = work(&rig).join("d/sub/f");
    let (good, _) = race(&rig, &from.join("sub/f"), &other, call, || {
        if let Ok(bytes) = fs::read(&there) {
            assert_eq!(String::from_utf8_lossy(&bytes), "public");
        }
    });
    assert!(good > 0, "void: nothing was copied");
}
