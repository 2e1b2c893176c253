//! Who gets in, with what, and on whose connection.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use fleetd::reach::{Auth, Identity, Phase, ReachError, Secret, Target};

use super::rig::{Rig, offline, reaches, target, text};
use crate::support::{Program, Sshd, eventually, run};

/// A real agent; it ends with the test.
struct Agent {
    socket: PathBuf,
    _program: Program,
}

impl Agent {
    fn start(folder: &Path) -> Self {
        let socket = folder.join("agent");
        let mut command = Command::new("ssh-agent");
        command.arg("-D").arg("-a").arg(&socket);
        let program = Program::start(command);
        eventually("the agent listens", || socket.exists());
        Self { socket, _program: program }
    }

    fn add(&self, key: &Path) {
        let mut add = Command::new("ssh-add");
        add.env("SSH_AUTH_SOCK", &self.socket).arg("-q").arg(key);
        run(add, b"", Duration::from_secs(20)).ok();
    }
}

fn auth(rig: &Rig, auth: Auth) -> Target {
    Target { auth, ..rig.target() }
}

#[tokio::test]
async fn every_identity_of_the_agent_is_tried() {
    let sshd = Sshd::start();
    let agent = Agent::start(&sshd.path(""));
    let rig = Rig::with(sshd, |options| options.agent = Some(agent.socket.clone()));
    let error = rig.reach.try_connect(&auth(&rig, Auth::Agent)).await.unwrap_err();
    assert!(matches!(error, ReachError::Auth { .. }), "{error}");
    for (name, kind) in [("one", "ed25519"), ("two", "ecdsa"), ("three", "rsa")] {
        agent.add(&rig.sshd.new_key(name, kind, ""));
    }
    let error = rig.reach.try_connect(&auth(&rig, Auth::Agent)).await.unwrap_err();
    let text = error.to_string();
    assert!(["'one'", "'two'", "'three'"].iter().all(|name| text.contains(name)), "{text}");
    rig.sshd.authorize(&rig.sshd.path("three"));
    for way in [Auth::Agent, Auth::Default] {
        let facts = rig.reach.try_connect(&auth(&rig, way)).await.unwrap();
        assert_eq!(facts.identity, Identity::Agent("three".into()));
    }
    // With IdentitiesOnly the agent is asked for the configured ones alone.
    let config = |file: &str| {
        let path = rig.sshd.path(file);
        let text = format!("IdentitiesOnly yes\nIdentityFile {}\n", path.display());
        std::fs::write(rig.home.path().join(".ssh/config"), text).unwrap();
    };
    config("two");
    let error = rig.reach.try_connect(&auth(&rig, Auth::Default)).await.unwrap_err();
    assert!(!error.to_string().contains("'three'"), "{error}");
    config("three");
    let facts = rig.reach.try_connect(&auth(&rig, Auth::Default)).await.unwrap();
    assert_eq!(facts.identity, Identity::Agent("three".into()));
}

#[tokio::test]
async fn an_agent_that_is_gone_or_silent_is_an_error_in_time() {
    let rig = Rig::with(Sshd::start(), |options| {
        options.agent = Some("/nowhere/agent".into());
        options.connect_deadline = Duration::from_secs(2);
    });
    let error = rig.reach.try_connect(&auth(&rig, Auth::Agent)).await.unwrap_err();
    assert!(matches!(error, ReachError::Agent { .. }), "{error}");
    let none = Rig::new();
    let error = none.reach.try_connect(&auth(&none, Auth::Agent)).await.unwrap_err();
    assert!(error.to_string().contains("SSH_AUTH_SOCK"), "{error}");
    let socket = rig.home.path().join("silent");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let silent = Rig::with(Sshd::start(), |options| {
        options.agent = Some(socket);
        options.connect_deadline = Duration::from_secs(2);
    });
    let with_key = auth(&silent, Auth::KeyFile(silent.sshd.key()));
    // Calls that were given up do not end: each round would take more threads.
    for round in 0..4 {
        // All of them are more than there are threads, and a good key goes on
        // getting in. Of too many at once sshd turns some away.
        let asked: Vec<_> = (0..4)
            .map(|n| {
                let other = Target {
                    jump: Some("none".into()),
                    accept_new: n % 2 == 0,
                    ..auth(&silent, Auth::Agent)
                };
                let reach = silent.reach.clone();
                async move { reach.try_connect(&other).await.unwrap_err() }
            })
            .collect();
        let good = silent.reach.try_connect(&with_key);
        let (errors, good) = tokio::join!(futures_util::future::join_all(asked), good);
        good.unwrap_or_else(|error| panic!("round {round}: {error}"));
        assert!(errors.iter().all(|e| matches!(e, ReachError::TimedOut { .. })), "{errors:?}");
    }
}

#[tokio::test]
async fn keys_in_files() {
    let rig = Rig::new();
    for (name, kind) in [("k_ed25519", "ed25519"), ("k_ecdsa", "ecdsa"), ("k_rsa", "rsa")] {
        let key = rig.sshd.new_key(name, kind, "");
        rig.sshd.authorize(&key);
        let facts = rig.reach.try_connect(&auth(&rig, Auth::KeyFile(key.clone()))).await;
        assert_eq!(facts.unwrap().identity, Identity::KeyFile(key));
    }
    let locked = rig.sshd.new_key("locked", "ed25519", "a passphrase");
    rig.sshd.authorize(&locked);
    let error =
        rig.reach.try_connect(&auth(&rig, Auth::KeyFile(locked.clone()))).await.unwrap_err();
    assert_eq!(error, ReachError::KeyEncrypted { path: locked.clone() });
    assert!(error.to_string().contains("ssh-add"), "{error}");
    // Old formats say so as well.
    let mut pem = Command::new("ssh-keygen");
    pem.args(["-q", "-p", "-m", "PEM", "-P", "", "-N", "secret", "-f"]);
    pem.arg(rig.sshd.path("k_rsa"));
    run(pem, b"", Duration::from_secs(20)).ok();
    let old = rig.sshd.path("k_rsa");
    let error = rig.reach.try_connect(&auth(&rig, Auth::KeyFile(old.clone()))).await.unwrap_err();
    assert_eq!(error, ReachError::KeyEncrypted { path: old });

    let mut public = rig.sshd.key();
    public.set_extension("pub");
    for (path, word) in [
        (PathBuf::from("/nowhere"), "No such file"),
        (rig.home.path().to_owned(), "no file"),
        (public, "others may read it"),
    ] {
        let error = rig.reach.try_connect(&auth(&rig, Auth::KeyFile(path))).await.unwrap_err();
        assert!(matches!(error, ReachError::Key { .. }), "{error}");
        assert!(error.to_string().contains(word), "{error}");
    }
    let garbage = rig.home.path().join("garbage");
    std::os::unix::fs::OpenOptionsExt::mode(
        std::fs::File::options().create(true).write(true),
        0o600,
    )
    .open(&garbage)
    .unwrap()
    .write_all(b"no key")
    .unwrap();
    let error = rig.reach.try_connect(&auth(&rig, Auth::KeyFile(garbage))).await.unwrap_err();
    assert!(matches!(error, ReachError::Key { .. }), "{error}");
}

#[tokio::test]
async fn the_default_keys_are_found_and_an_encrypted_one_is_named() {
    let rig = Rig::new();
    let ssh = rig.home.path().join(".ssh");
    let locked = rig.sshd.new_key("locked", "ed25519", "a passphrase");
    std::fs::copy(locked, ssh.join("id_ed25519")).unwrap();
    let error = rig.reach.try_connect(&auth(&rig, Auth::Default)).await.unwrap_err();
    let told = error.to_string();
    assert!(told.contains("id_ed25519") && told.contains("encrypted"), "{told}");
    std::fs::copy(rig.sshd.key(), ssh.join("id_rsa")).unwrap();
    let facts = rig.reach.try_connect(&auth(&rig, Auth::Default)).await.unwrap();
    assert_eq!(facts.identity, Identity::KeyFile(ssh.join("id_rsa")));
}

#[tokio::test]
async fn a_password_is_not_shown_and_not_sent_to_whom_it_is_of_no_use() {
    let rig = Rig::new();
    let target = auth(&rig, Auth::Password(Secret::new("canary-7")));
    assert!(!format!("{target:?}").contains("canary"), "{target:?}");
    let error = rig.reach.try_connect(&target).await.unwrap_err();
    assert!(error.to_string().contains("publickey"), "what it takes instead: {error}");
    assert!(!format!("{error:?} {error}").contains("canary"));
    let wrong = Rig::with(Sshd::with("PasswordAuthentication yes\nPermitRootLogin yes"), |_| {});
    let error =
        wrong.reach.try_connect(&auth(&wrong, Auth::Password(Secret::new("canary-7")))).await;
    let error = error.unwrap_err();
    assert!(error.to_string().contains("the password"), "{error}");
    assert!(wrong.sshd.log().contains("Failed password"), "{}", wrong.sshd.log());
}

#[tokio::test]
async fn an_unauthorised_key_does_not_ride_on_anothers_connection() {
    let rig = Rig::new();
    let link = rig.link().await;
    let again = rig.reach.link(&rig.target());
    assert_eq!(again.state().borrow().phase, Phase::Online, "equal targets share one");
    let stranger = rig.sshd.new_key("stranger", "ed25519", "");
    let other = rig.reach.link(&target(&rig.sshd, stranger));
    let state = offline(&other).await;
    assert!(state.reason.contains("refused us"), "{state:?}");
    assert!(other.exec("true").await.is_err());
    for different in [
        Target { user: Some("nobody".into()), ..rig.target() },
        Target { auth: Auth::Default, ..rig.target() },
        Target { auth: Auth::Password(Secret::new("x")), ..rig.target() },
    ] {
        let link = rig.reach.link(&different);
        let state = reaches(&link, "tried", |state| state.phase != Phase::Connecting).await;
        assert_eq!(state.phase, Phase::Offline, "{different:?}");
    }
    assert_eq!(text(&link, "echo mine").await, "mine\n");
    assert_eq!(rig.sshd.log().matches("Accepted publickey").count(), 1);
}
