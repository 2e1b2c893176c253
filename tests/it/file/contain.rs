//! S14: nothing outside the roots, and no more than is allowed.

use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::process::Command;

use serde_json::{Value, json};

use super::rig::{Rig, configured, home, start, tree, work};

fn send(paths: &[&str], dest: &str) -> Value {
    json!({ "local_paths": paths, "dest_subdir": dest, "member_name": "web" })
}

fn receive(rig: &Rig, paths: &[&str]) -> Value {
    let (_, dest) = home(rig, "back");
    json!({ "remote_paths": paths, "local_dest_dir": dest, "member_name": "web" })
}

#[test]
fn s14_no_path_leads_out_of_a_root() {
    let rig = start();
    let (from, text) = home(&rig, "f");
    fs::write(&from, "new").unwrap();
    let outside = rig.sshd.path("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("secret"), "secret").unwrap();
    symlink(&outside, work(&rig).join("link")).unwrap();
    symlink("..", work(&rig).join("up")).unwrap();
    symlink(outside.join("secret"), work(&rig).join("leak")).unwrap();
    fs::create_dir(work(&rig).join("d")).unwrap();
    symlink("../link", work(&rig).join("d/chain")).unwrap();
    let before = tree(rig.sshd.path("").as_path());
    for dest in [
        "..",
        "../outside",
        "/etc",
        "a/../../outside",
        "link",
        "link/deeper",
        "up",
        "d/chain",
        "d/chain/x",
    ] {
        let refused = rig.refused("send_files", send(&[&text], dest));
        let said = ["leads out of", "leaves its folder", "is absolute"];
        assert!(said.iter().any(|said| refused.contains(said)), "{dest}: {refused}");
    }
    for path in [
        "..",
        "../outside/secret",
        "/etc/hostname",
        "link/secret",
        "link",
        "leak",
        "up/outside/secret",
        "d/chain/secret",
        "l*/secret",
        "d/../../outside/secret",
    ] {
        let refused = rig.refused("receive_files", receive(&rig, &[path]));
        let said = ["leads out of", "leaves its folder", "is absolute"];
        assert!(said.iter().any(|said| refused.contains(said)), "{path}: {refused}");
    }
    let after = tree(rig.sshd.path("").as_path());
    let changed: Vec<_> = after
        .iter()
        .filter(|(path, bytes)| before.get(*path) != Some(bytes))
        .filter(|(path, _)| *path != "log" && !path.starts_with("home/.fleetd"))
        .collect();
    assert!(changed.is_empty(), "{changed:?}");
    assert!(!home(&rig, "back").0.join("secret").exists());
}

#[test]
fn s14_links_and_devices_in_trees_are_passed_over_and_told() {
    let rig = start();
    let (secret, _) = home(&rig, "secret");
    fs::write(&secret, "secret").unwrap();
    for at in [home(&rig, "tree").0, work(&rig).join("tree")] {
        fs::create_dir_all(at.join("sub")).unwrap();
        fs::write(at.join("sub/file"), "x").unwrap();
        symlink(&secret, at.join("leak")).unwrap();
        symlink("/etc", at.join("sub/etc")).unwrap();
        symlink(".", at.join("loop")).unwrap();
        nix::unistd::mkfifo(&at.join("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        drop(UnixListener::bind(at.join("socket")).unwrap());
    }
    let (_, text) = home(&rig, "tree");
    let sent = rig.daemon.tool("send_files", send(&[&text], "in"));
    let received = rig.daemon.tool("receive_files", receive(&rig, &["tree"]));
    for result in [&sent, &received] {
        assert_eq!(result["skipped_count"], 5, "{result}");
        assert_eq!(result["done"]["files"], 1, "{result}");
    }
    let expected = ["sub", "sub/file"];
    let names = |at: std::path::PathBuf| tree(&at).into_keys().collect::<Vec<_>>();
    assert_eq!(names(work(&rig).join("in/tree")), expected);
    assert_eq!(names(home(&rig, "back").0.join("tree")), expected);
    // Named by itself, a device is refused rather than read for ever.
    for bad in ["/dev/zero", &format!("{text}/pipe"), &format!("{text}/socket")] {
        let refused = rig.refused("send_files", send(&[bad], ""));
        assert!(
            refused.contains("no plain file") || refused.contains("reading"),
            "{bad}: {refused}"
        );
    }
    let refused = rig.refused("receive_files", receive(&rig, &["tree/pipe"]));
    assert!(refused.contains("no plain file"), "{refused}");
}

#[test]
fn s14_bounds_hold_before_anything_is_copied() {
    let rig = configured("[transfers]\nmax_files = 1000\nmax_mib = 8\n");
    let (many, text) = home(&rig, "many");
    for at in [&many, &work(&rig).join("many")] {
        fs::create_dir(at).unwrap();
        (0..1001).for_each(|number| fs::write(at.join(number.to_string()), "x").unwrap());
    }
    let (sparse, bomb) = home(&rig, "bomb");
    for at in [&sparse, &work(&rig).join("bomb")] {
        fs::File::create(at).unwrap().set_len(1 << 40).unwrap();
    }
    let mut deep = work(&rig).join("deep");
    (0..100).for_each(|_| deep.push("d"));
    fs::create_dir_all(&deep).unwrap();
    for (tool, arguments) in [
        ("send_files", send(&[&text], "in")),
        ("send_files", send(&[&bomb], "in")),
        ("receive_files", receive(&rig, &["many"])),
        ("receive_files", receive(&rig, &["bomb"])),
        ("receive_files", receive(&rig, &["deep"])),
    ] {
        let refused = rig.refused(tool, arguments);
        assert!(refused.contains("there are more than"), "{tool}: {refused}");
        assert!(refused.contains("[transfers]"), "{tool}: {refused}");
    }
    assert!(!work(&rig).join("in").exists() && !home(&rig, "back").0.exists());
    let reasons = rig.events(&["transfer.failed"]);
    assert!(reasons.iter().all(|(_, data)| data["reason"] == "quota"), "{reasons:?}");
}

#[test]
fn two_sources_of_one_name_are_refused() {
    let rig = start();
    for folder in ["one", "two"] {
        let (at, _) = home(&rig, folder);
        fs::create_dir(&at).unwrap();
        fs::write(at.join("same"), folder).unwrap();
    }
    let refused = rig.refused("send_files", send(&["one/same", "two/same"], ""));
    assert!(refused.contains("both become 'same'"), "{refused}");
    assert!(!work(&rig).join("same").exists());
}

#[test]
fn names_that_are_no_text_are_flagged() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let rig = start();
    let (at, text) = home(&rig, "tree");
    for at in [&at, &work(&rig).join("tree")] {
        fs::create_dir_all(at).unwrap();
        fs::write(at.join(OsStr::from_bytes(b"bad\xff")), "x").unwrap();
        fs::write(at.join("good"), "x").unwrap();
    }
    for (tool, arguments) in
        [("send_files", send(&[&text], "in")), ("receive_files", receive(&rig, &["tree"]))]
    {
        let result = rig.daemon.tool(tool, arguments);
        assert_eq!((&result["done"]["files"], &result["skipped_count"]), (&json!(1), &json!(1)));
        assert!(result["skipped"][0].as_str().unwrap().contains("not UTF-8"), "{result}");
    }
    // The figures of a member's own `ls` and what arrived agree.
    let listed = Command::new("ls").arg(work(&rig).join("in/tree")).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&listed.stdout).trim(), "good");
}
