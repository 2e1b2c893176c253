//! Whose keys are whose.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::json;

use super::rig::Rig;

/// Lesson 50: removing a member deleted the user's own private key.
#[test]
fn a_key_of_the_users_own_is_never_touched() {
    let rig = Rig::with_web();
    let key = rig.sshd.key();
    let before = (fs::read(&key).unwrap(), fs::read(key.with_extension("pub")).unwrap());
    let authorized = fs::read(rig.sshd.path("authorized_keys")).unwrap();
    rig.daemon.fleetctl(&["members", "setup-key", "web"]).ok();
    rig.daemon.fleetctl(&["members", "rm", "web"]).ok();
    let after = (fs::read(&key).unwrap(), fs::read(key.with_extension("pub")).unwrap());
    assert!(before == after, "the user's key is as it was");
    assert_eq!(fs::read(rig.sshd.path("authorized_keys")).unwrap(), authorized);
}

#[test]
fn a_key_of_ours_is_proven_used_and_taken_back() {
    let rig = Rig::with_web();
    let authorized = rig.sshd.path("home/.ssh/authorized_keys");
    fs::create_dir(rig.sshd.path("home/.ssh")).unwrap();
    fs::write(&authorized, "ssh-ed25519 AAAAtheirs somebody\n").unwrap();
    let done = rig.daemon.tool("setup_ssh_key", json!({"member_name": "web"}));
    assert_eq!(done["warnings"], json!([]), "{done}");
    let key = done["member"]["key_path"].as_str().unwrap().to_owned();
    assert!(key.starts_with(rig.daemon.home().state().to_str().unwrap()), "{key}");
    assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    let lines = fs::read_to_string(&authorized).unwrap();
    assert!(lines.contains("restrict ssh-ed25519 ") && lines.contains("AAAAtheirs"), "{lines}");
    rig.until("web", "online");
    // The old key is locked out, so what is reached is reached with the new one.
    fs::write(rig.sshd.path("authorized_keys"), "").unwrap();
    let daemon = rig.daemon.restart_after_kill9();
    let rig = Rig { daemon, sshd: rig.sshd };
    rig.until("web", "online");
    // A second one replaces the first, here and there.
    let again = rig.daemon.tool("setup_ssh_key", json!({"member_name": "web"}));
    assert_ne!(again["member"]["key_path"], key.as_str());
    assert!(!fs::exists(&key).unwrap(), "the old one is gone");
    assert_eq!(fs::read_to_string(&authorized).unwrap().lines().count(), 2);
    rig.until("web", "online");
    let removed = rig.daemon.tool("remove_member", json!({"member_name": "web"}));
    assert_eq!(removed["warnings"], json!([]), "{removed}");
    assert_eq!(fs::read_to_string(&authorized).unwrap(), "ssh-ed25519 AAAAtheirs somebody\n");
    let keys = rig.daemon.home().state().join("keys");
    assert_eq!(fs::read_dir(keys).unwrap().count(), 0);
}

/// Another address does not make the key another one.
#[test]
fn a_key_of_ours_outlives_a_changed_address() {
    let rig = Rig::with_web();
    fs::create_dir(rig.sshd.path("home/.ssh")).unwrap();
    let done = rig.daemon.tool("setup_ssh_key", json!({"member_name": "web"}));
    let key = done["member"]["key_path"].clone();
    // Nobody named is whoever the daemon runs as, which is the same user.
    let moved = rig.daemon.tool("update_member", json!({"member_name": "web", "username": ""}));
    assert_eq!(moved["member"]["key_path"], key, "{moved}");
    assert!(!moved["warnings"].to_string().contains("authorized_keys"), "{moved}");
    assert!(fs::exists(key.as_str().unwrap()).unwrap(), "the member is reached with it");
    let lines = fs::read_to_string(rig.sshd.path("home/.ssh/authorized_keys")).unwrap();
    assert!(lines.contains("restrict ssh-ed25519 "), "{lines}");
    // No other key opens, and no connection is left from before.
    fs::write(rig.sshd.path("authorized_keys"), "").unwrap();
    let daemon = rig.daemon.restart_after_kill9();
    let rig = Rig { daemon, sshd: rig.sshd };
    rig.until("web", "online");
    let named = json!({"member_name": "web", "key_path": rig.sshd.key()});
    fs::copy(rig.sshd.key().with_extension("pub"), rig.sshd.path("authorized_keys")).unwrap();
    rig.daemon.tool("update_member", named);
    assert!(!fs::exists(key.as_str().unwrap()).unwrap(), "now nobody uses it");
}
