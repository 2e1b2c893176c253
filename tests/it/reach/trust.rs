//! Host keys: what is refused, and what is pinned by whom.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::Duration;

use fleetd::reach::{Cause, Phase, ReachError, Target};

use super::rig::{Rig, offline, online, reaches, text};
use crate::support::{Sshd, run};

/// What sshd logs of a client that offers anything.
fn attempts(sshd: &Sshd) -> usize {
    let log = sshd.log();
    log.lines().filter(|line| line.contains("userauth") || line.contains("Accepted ")).count()
}

fn debugging() -> Sshd {
    Sshd::with("LogLevel DEBUG1")
}

#[tokio::test]
async fn r34_a_changed_key_is_offered_nothing_and_only_trust_re_pins_it() {
    let mut rig = Rig::with(debugging(), |_| {});
    let other = Rig::new();
    let (link, others) = (rig.link().await, other.link().await);
    let before = attempts(&rig.sshd);
    assert!(before > 0, "void: the log does not show attempts");
    let known = std::fs::read_to_string(rig.home.path().join(".ssh/known_hosts")).unwrap();
    rig.sshd.swap_host_key();
    let state = offline(&link).await;
    let state = match state.cause {
        Some(Cause::HostKeyChanged { .. }) => state,
        _ => {
            reaches(&link, "changed", |state| {
                matches!(state.cause, Some(Cause::HostKeyChanged { .. }))
            })
            .await
        }
    };
    assert!(state.reason.contains("has changed"), "{}", state.reason);
    // Also when new hosts are welcome.
    for accept_new in [false, true] {
        let target = Target { accept_new, ..rig.target() };
        let error = rig.reach.try_connect(&target).await.unwrap_err();
        assert!(matches!(error, ReachError::HostKeyChanged { .. }), "{error}");
        assert!(error.to_string().contains("known_hosts:1"), "{error}");
    }
    assert_eq!(attempts(&rig.sshd), before, "nothing was offered:\n{}", rig.sshd.log());
    assert_eq!(std::fs::read_to_string(rig.home.path().join(".ssh/known_hosts")).unwrap(), known);
    assert_eq!(rig.pins(), "", "nothing was written");
    assert_eq!(text(&others, "echo well").await, "well\n");

    let shown = rig.reach.host_key(&rig.target()).await.unwrap();
    let wrong = rig.reach.trust(&rig.target(), Some("SHA256:another")).await.unwrap_err();
    assert!(matches!(wrong, ReachError::HostKeyChanged { .. }), "{wrong}");
    let pinned = rig.reach.trust(&rig.target(), Some(&shown.fingerprint)).await.unwrap();
    assert_eq!(pinned, shown);
    assert_eq!(attempts(&rig.sshd), before, "trust offers nothing either");
    assert_eq!(online(&link).await.generation, 2);
    assert_eq!(rig.pins(), rig.sshd.known_line());
    let mode = std::fs::metadata(rig.home.path().join("known_hosts")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[tokio::test]
async fn an_unknown_host_is_refused_unless_new_ones_are_accepted() {
    let rig = Rig::with(debugging(), |_| {});
    rig.knows("");
    let error = rig.reach.try_connect(&rig.target()).await.unwrap_err();
    let ReachError::HostKeyUnknown { offered, .. } = &error else { panic!("{error}") };
    let mut keygen = Command::new("ssh-keygen");
    keygen.arg("-l").arg("-f").arg(rig.sshd.path("host_ed25519.pub"));
    let listed = run(keygen, b"", Duration::from_secs(20)).ok().stdout;
    assert!(listed.contains(&offered.fingerprint), "{offered} is not in {listed}");
    assert_eq!(attempts(&rig.sshd), 0, "{}", rig.sshd.log());
    assert_eq!(rig.pins(), "");
    let accepting = Target { accept_new: true, ..rig.target() };
    assert!(rig.reach.try_connect(&accepting).await.unwrap().newly_trusted);
    assert_eq!(rig.pins(), rig.sshd.known_line());
    // From now on it is known, to the strict as well.
    assert!(!rig.reach.try_connect(&rig.target()).await.unwrap().newly_trusted);
}

#[tokio::test]
async fn entries_are_read_as_openssh_reads_them() {
    let rig = Rig::new();
    let port = rig.sshd.port();
    let key = rig.sshd.host_key("host_ed25519");
    let connects = async || rig.reach.try_connect(&rig.target()).await;

    let hashed = rig.home.path().join("hashed");
    std::fs::write(&hashed, rig.sshd.known_line()).unwrap();
    let mut keygen = Command::new("ssh-keygen");
    keygen.arg("-H").arg("-f").arg(&hashed);
    run(keygen, b"", Duration::from_secs(20)).ok();
    let hashed = std::fs::read_to_string(hashed).unwrap();
    assert!(hashed.starts_with("|1|"), "void: {hashed}");
    for known in [
        hashed.clone(),
        format!("[127.0.0.?]:{port},other {key}\n"),
        format!("[127.*]:* {key}\n"),
        format!("garbage\n\u{1}\u{2}\n[127.0.0.1]:{port} ssh-ed25519 A A A\n{hashed}"),
    ] {
        rig.knows(&known);
        connects().await.unwrap_or_else(|error| panic!("{known}: {error}"));
    }
    for known in [format!("127.0.0.1 {key}\n"), format!("[127.*]:*,![127.0.0.1]:{port} {key}\n")] {
        rig.knows(&known);
        let error = connects().await.unwrap_err();
        assert!(matches!(error, ReachError::HostKeyUnknown { .. }), "{known}: {error}");
    }
    let line = rig.sshd.known_line();
    rig.knows(&format!("{line}@revoked * {key}\n"));
    let error = connects().await.unwrap_err();
    assert!(matches!(error, ReachError::HostKeyRevoked { .. }), "{error}");
    let trusting = rig.reach.trust(&rig.target(), None).await.unwrap_err();
    assert!(matches!(trusting, ReachError::HostKeyRevoked { .. }), "{trusting}");
    rig.knows(&format!("@cert-authority * {key}\n"));
    let error = connects().await.unwrap_err();
    assert!(matches!(error, ReachError::HostKeyCertified { .. }), "{error}");
    std::fs::remove_file(rig.home.path().join(".ssh/known_hosts")).unwrap();
    std::fs::create_dir(rig.home.path().join(".ssh/known_hosts")).unwrap();
    let error = connects().await.unwrap_err();
    assert!(matches!(error, ReachError::KnownHosts { .. }), "{error}");
}

#[tokio::test]
async fn the_kind_of_key_that_is_known_is_asked_for() {
    let mut sshd = Sshd::start();
    sshd.new_key("host_ecdsa", "ecdsa", "");
    sshd.new_key("host_rsa", "rsa", "");
    sshd.restart();
    let rig = Rig::with(sshd, |_| {});
    for (name, algorithm) in [
        ("host_ed25519", "ssh-ed25519"),
        ("host_ecdsa", "ecdsa-sha2-nistp256"),
        ("host_rsa", "ssh-rsa"),
    ] {
        rig.knows(&format!("[127.0.0.1]:{} {}\n", rig.sshd.port(), rig.sshd.host_key(name)));
        let facts = rig.reach.try_connect(&rig.target()).await.unwrap();
        assert_eq!(facts.host_key.algorithm, algorithm);
    }
}

#[tokio::test]
async fn a_link_says_that_a_host_is_unknown_and_connects_once_it_is_trusted() {
    let rig = Rig::new();
    rig.knows("");
    let link = rig.reach.link(&rig.target());
    let state = offline(&link).await;
    assert!(matches!(state.cause, Some(Cause::HostKeyUnknown { .. })), "{state:?}");
    let error = link.exec("true").await.unwrap_err();
    assert!(matches!(error, ReachError::Offline { .. }), "{error}");
    rig.reach.trust(&rig.target(), None).await.unwrap();
    assert_eq!(online(&link).await.phase, Phase::Online);
}
