//! Through other machines, and by the names of `~/.ssh/config`.

use std::fmt::Write;

use fleetd::reach::{Auth, Cause, Phase, Reach, ReachError, Target};

use super::rig::{Rig, offline, online, reaches, text};
use crate::support::Sshd;

/// Names both servers in the home's configuration: `inner` behind `outer`.
fn configure(rig: &Rig, outer: &Sshd) {
    let mut config = String::new();
    for (name, sshd, jump) in [("outer", outer, ""), ("inner", &rig.sshd, "ProxyJump outer\n")] {
        writeln!(
            config,
            "Host {name}\n HostName 127.0.0.1\n Port {}\n User {}\n IdentityFile {}\n {jump}",
            sshd.port(),
            sshd.user(),
            sshd.key().display(),
        )
        .unwrap();
    }
    std::fs::write(rig.home.path().join(".ssh/config"), config).unwrap();
    rig.knows(&format!("{}{}", outer.known_line(), rig.sshd.known_line()));
}

#[tokio::test]
async fn a_name_is_resolved_and_its_jump_host_is_passed() {
    let outer = Sshd::with("LogLevel DEBUG1");
    let rig = Rig::new();
    configure(&rig, &outer);
    let link = rig.reach.link(&Target::new("inner"));
    online(&link).await;
    assert_eq!(text(&link, "echo $HOME").await.trim(), rig.sshd.home().to_str().unwrap());
    let big = text(&link, "head -c 5000000 /dev/zero | tr '\\0' x").await;
    assert_eq!(big.len(), 5_000_000);
    let log = outer.log();
    assert!(log.contains("direct-tcpip"), "void: {log}");
    // The jump host lets bytes through; no command runs there.
    assert!(!log.contains("request exec"), "{log}");
    let facts = link.state().borrow().facts.clone().unwrap();
    assert_eq!((facts.port, facts.user.clone()), (rig.sshd.port(), rig.sshd.user()));
    // Two behind one jump host share its link.
    let files = Target { auth: Auth::KeyFile(rig.sshd.key()), ..Target::new("inner") };
    online(&rig.reach.link(&files)).await;
    assert_eq!(outer.log().matches("Accepted publickey").count(), 1);
}

#[tokio::test]
async fn a_jump_host_that_fails_is_named() {
    let mut outer = Sshd::start();
    let rig = Rig::new();
    configure(&rig, &outer);
    let link = rig.reach.link(&Target::new("inner"));
    online(&link).await;
    outer.stop();
    let state = offline(&link).await;
    assert_eq!(state.cause, Some(Cause::Lost), "{state:?}");
    let state = reaches(&link, "refused", |state| state.cause == Some(Cause::Unreachable)).await;
    assert!(state.reason.contains("jump host 'outer'"), "{state:?}");
    outer.restart();
    assert_eq!(online(&link).await.generation, 2);
    // A key that the jump host shows is checked like any other.
    rig.knows(&rig.sshd.known_line());
    let strange = Target { accept_new: false, jump: Some("outer".into()), ..Target::new("inner") };
    // One that has no connection to it yet.
    let reach = Reach::new(rig.reach.options().clone()).unwrap();
    let error = reach.try_connect(&strange).await.unwrap_err();
    let ReachError::Jump { source, .. } = &error else { panic!("{error}") };
    assert!(matches!(**source, ReachError::HostKeyUnknown { .. }), "{error}");
}

#[tokio::test]
async fn a_way_that_leads_nowhere_is_an_error() {
    let outer = Sshd::start();
    let rig = Rig::new();
    configure(&rig, &outer);
    let lost = Target { port: Some(1), jump: Some("outer".into()), ..Target::new("127.0.0.1") };
    let error = rig.reach.try_connect(&lost).await.unwrap_err();
    assert!(matches!(error, ReachError::Jump { .. }), "{error}");
    let looped = Target { jump: Some("inner".into()), ..Target::new("inner") };
    let link = rig.reach.link(&looped);
    reaches(&link, "tried", |state| state.phase != Phase::Connecting).await;
    let malformed = Target { jump: Some("a@:x".into()), ..rig.target() };
    let error = rig.reach.try_connect(&malformed).await.unwrap_err();
    assert!(matches!(error, ReachError::Invalid { .. }), "{error}");
}
