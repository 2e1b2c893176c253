//! What arrives, under which name, and what it replaces.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use serde_json::json;

use super::rig::{begin, home, noise, parts, plant, start, tree, until_ended, work};

#[test]
fn r33_a_tree_comes_back_as_it_went() {
    let rig = start();
    let (from, text) = home(&rig, "a tree");
    plant(&from);
    let expected = tree(&from);
    rig.daemon.fleetctl(&["cp", &text, "web:in/it's here"]).ok();
    let there = work(&rig).join("in/it's here/a tree");
    assert_eq!(tree(&there), expected);
    let mode = |path: &str| fs::metadata(there.join(path)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("run me"), mode("plain")), (0o755, 0o644));
    let (back, text) = home(&rig, "back");
    rig.daemon.fleetctl(&["cp", "web:in/it's here/a tree", &text]).ok();
    assert_eq!(tree(&back.join("a tree")), expected);
    let mode = fs::metadata(back.join("a tree/run me")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o755);
    // Nothing is left of the stages, and no name was run.
    assert!(parts(&rig).is_empty(), "{:?}", parts(&rig));
    assert_eq!(fs::read_dir(&back).unwrap().count(), 1);
    for folder in [rig.sshd.home(), work(&rig), rig.daemon.home().path().to_owned()] {
        assert!(!folder.join("canary").exists(), "{folder:?}");
    }
}

#[test]
fn patterns_pick_and_names_that_look_like_patterns_are_names() {
    let rig = start();
    let (from, _) = home(&rig, "src");
    fs::create_dir_all(from.join("sub")).unwrap();
    for name in ["a.md", "b.md", ".hidden.md", "c.txt", "[ab].md", "sub/d.md"] {
        fs::write(from.join(name), name).unwrap();
    }
    let at = |name: &str| from.join(name).display().to_string();
    rig.daemon.fleetctl(&["cp", &at("*.md"), "web:all"]).ok();
    let names = |folder: &str| tree(&work(&rig).join(folder)).into_keys().collect::<Vec<_>>();
    assert_eq!(names("all"), ["[ab].md", "a.md", "b.md"]);
    rig.daemon.fleetctl(&["cp", &at("[ab].md"), "web:one"]).ok();
    assert_eq!(names("one"), ["[ab].md"]);
    rig.daemon.fleetctl(&["cp", &at("*/*.m?"), &at("[!a]*.txt"), "web:two"]).ok();
    assert_eq!(names("two"), ["c.txt", "d.md"]);
    let (back, text) = home(&rig, "back");
    rig.daemon.fleetctl(&["cp", "web:a*/*.md", "web:t?o/*", &text]).ok();
    let names: Vec<_> = tree(&back).into_keys().collect();
    assert_eq!(names, ["[ab].md", "a.md", "b.md", "c.txt", "d.md"]);
    let none = rig.daemon.fleetctl(&["cp", "web:*.nope", &text]);
    assert_eq!(none.code(), 1, "{none:?}");
    assert!(none.stderr.contains("there is no '*.nope'"), "{none:?}");
}

#[test]
fn what_stood_there_is_replaced_and_not_written_through() {
    let rig = start();
    let (from, text) = home(&rig, "f");
    fs::write(&from, "new").unwrap();
    let outside = rig.sshd.path("outside");
    let (link, hard) = (work(&rig).join("link"), work(&rig).join("hard"));
    fs::create_dir_all(&link).unwrap();
    fs::create_dir_all(&hard).unwrap();
    fs::write(&outside, "old").unwrap();
    symlink(&outside, link.join("f")).unwrap();
    fs::hard_link(&outside, hard.join("f")).unwrap();
    for folder in ["link", "hard"] {
        rig.daemon.fleetctl(&["cp", &text, &format!("web:{folder}")]).ok();
        let at = work(&rig).join(folder).join("f");
        assert!(fs::symlink_metadata(&at).unwrap().is_file());
        assert_eq!(fs::read_to_string(at).unwrap(), "new");
        assert_eq!(fs::read_to_string(&outside).unwrap(), "old");
    }
    // The same on the way back, into folders here.
    let (here, text) = home(&rig, "here");
    fs::create_dir(&here).unwrap();
    let (kept, _) = home(&rig, "kept");
    fs::write(&kept, "old").unwrap();
    for hard in [true, false] {
        let _ = fs::remove_file(here.join("f"));
        if hard {
            fs::hard_link(&kept, here.join("f")).unwrap();
        } else {
            symlink(&kept, here.join("f")).unwrap();
        }
        rig.daemon.fleetctl(&["cp", "web:link/f", &text]).ok();
        assert_eq!(fs::read_to_string(here.join("f")).unwrap(), "new");
        assert_eq!(fs::read_to_string(&kept).unwrap(), "old");
    }
    // A folder is not replaced by a file.
    fs::create_dir_all(work(&rig).join("dir/f/inside")).unwrap();
    let refused = rig.refused(
        "send_files",
        json!({ "local_paths": ["f"], "dest_subdir": "dir",
        "member_name": "web" }),
    );
    assert!(refused.contains("is a folder there"), "{refused}");
    assert!(work(&rig).join("dir/f/inside").is_dir());
}

#[test]
fn a_file_appears_whole_or_not_at_all() {
    let rig = start();
    let (from, text) = home(&rig, "f");
    fs::write(&from, noise(24 << 20)).unwrap();
    fs::write(work(&rig).join("f"), "old").unwrap();
    let mut stream = rig.daemon.events("types=transfer.*");
    let id = begin(&rig, "send_files", json!({ "local_paths": [text], "member_name": "web" }));
    let before = fs::metadata(work(&rig).join("f")).unwrap().ino();
    let mut seen = 0;
    loop {
        let bytes = fs::read(work(&rig).join("f")).unwrap();
        if bytes != b"old" {
            assert_eq!(bytes.len(), 24 << 20);
            break;
        }
        seen += 1;
    }
    assert!(seen > 0, "void: nobody looked while it came");
    assert_ne!(fs::metadata(work(&rig).join("f")).unwrap().ino(), before);
    let (topic, data, _) = until_ended(&mut stream);
    assert_eq!((topic.as_str(), &data["task_id"]), ("transfer.completed", &json!(id)));
}

#[test]
fn tokens_in_files_are_replaced_on_the_way() {
    let rig = start();
    let (from, text) = home(&rig, "t.conf");
    fs::write(&from, "host={{HOST}} {{secure.KEY}} {{HOST}}\n").unwrap();
    let to =
        |values| json!({ "local_paths": [text], "member_name": "web", "substitutions": values });
    rig.daemon.tool("send_files", to(json!({ "HOST": "h'1", "EXTRA": "x" })));
    let sent = || fs::read_to_string(work(&rig).join("t.conf")).unwrap();
    assert_eq!(sent(), "host=h'1 {{secure.KEY}} h'1\n");
    assert!(fs::read_to_string(&from).unwrap().contains("{{HOST}}"));
    let refused = rig.refused("send_files", to(json!({ "OTHER": "x" })));
    assert!(refused.contains("{{HOST}}"), "{refused}");
    let refused = rig.refused("send_files", to(json!({ "a b": "x" })));
    assert!(refused.contains("substitutions"), "{refused}");
    rig.daemon.fleetctl(&["cp", "--set", "HOST=two", &text, "web:"]).ok();
    assert_eq!(sent(), "host=two {{secure.KEY}} two\n");
}

#[test]
fn the_local_member_copies_the_same_way() {
    let rig = start();
    let (from, text) = home(&rig, "a tree");
    plant(&from);
    let (folder, _) = home(&rig, "lwork");
    let added = ["members", "add", "here", "--local", "--work-folder", folder.to_str().unwrap()];
    rig.daemon.fleetctl(&added).ok();
    rig.daemon.fleetctl(&["cp", &text, "here:in"]).ok();
    let (back, text) = home(&rig, "back");
    rig.daemon.fleetctl(&["cp", "here:in/a tree", &text]).ok();
    assert_eq!(tree(&back.join("a tree")), tree(&from));
    assert_eq!(tree(&folder.join("in/a tree")), tree(&from));
    for outside in ["../x", "/etc/hostname"] {
        let arguments = json!({ "remote_paths": [outside], "local_dest_dir": text,
            "member_name": "here" });
        rig.refused("receive_files", arguments);
    }
}
