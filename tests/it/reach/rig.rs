//! A reach with a home of its own, and a server that it knows.

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use fleetd::reach::{
    Answer, Auth, End, Keepalive, Limits, Link, LinkState, Phase, Reach, ReachOptions, Retry,
    Target,
};
use tempfile::TempDir;

use crate::support::{PATIENCE, Sshd};

pub struct Rig {
    pub sshd: Sshd,
    pub home: TempDir,
    pub reach: Reach,
}

/// A home that knows `sshd`'s host key, and quick settings.
pub fn options(home: &TempDir, sshd: &Sshd) -> ReachOptions {
    let ssh = home.path().join(".ssh");
    std::fs::create_dir_all(&ssh).unwrap();
    std::fs::write(ssh.join("known_hosts"), sshd.known_line()).unwrap();
    let ours = home.path().join("known_hosts");
    let mut options = ReachOptions::new(home.path(), ours, sshd.user());
    options.keepalive =
        Keepalive { interval: Duration::from_millis(500), budget: Duration::from_millis(1500) };
    options.retry = Retry { first: Duration::from_millis(50), longest: Duration::from_millis(400) };
    options
}

impl Rig {
    pub fn new() -> Self {
        Self::with(Sshd::start(), |_| {})
    }

    pub fn with(sshd: Sshd, change: impl FnOnce(&mut ReachOptions)) -> Self {
        let home = tempfile::tempdir().unwrap();
        let mut options = options(&home, &sshd);
        change(&mut options);
        Self { sshd, home, reach: Reach::new(options).unwrap() }
    }

    /// The server, by its own client key.
    pub fn target(&self) -> Target {
        target(&self.sshd, self.sshd.key())
    }

    pub async fn link(&self) -> Link {
        let link = self.reach.link(&self.target());
        online(&link).await;
        link
    }

    /// Lines of the user's own `known_hosts`.
    pub fn knows(&self, text: &str) {
        std::fs::write(self.home.path().join(".ssh/known_hosts"), text).unwrap();
    }

    /// fleetd's own pins.
    pub fn pins(&self) -> String {
        std::fs::read_to_string(self.home.path().join("known_hosts")).unwrap_or_default()
    }
}

pub fn target(sshd: &Sshd, key: PathBuf) -> Target {
    Target {
        port: Some(sshd.port()),
        user: Some(sshd.user()),
        auth: Auth::KeyFile(key),
        ..Target::new("127.0.0.1")
    }
}

/// Waits for the phase, and says what the state is then.
pub async fn reaches(link: &Link, what: &str, holds: impl Fn(&LinkState) -> bool) -> LinkState {
    let mut states = link.state();
    let waited = tokio::time::timeout(PATIENCE, states.wait_for(|state| holds(state))).await;
    match waited {
        Ok(state) => state.expect("the link lives").clone(),
        Err(_) => panic!("not {what}: {:?}", link.state().borrow()),
    }
}

pub async fn online(link: &Link) -> LinkState {
    reaches(link, "online", |state| state.phase == Phase::Online).await
}

pub async fn offline(link: &Link) -> LinkState {
    reaches(link, "offline", |state| state.phase == Phase::Offline).await
}

pub const LIMITS: Limits = Limits { deadline: PATIENCE, most_output: 64 * 1024 * 1024 };

/// Runs `command` without input.
pub async fn ask(link: &Link, command: &str) -> Answer {
    let answer = link.ask(command, Bytes::new(), LIMITS).await;
    answer.unwrap_or_else(|error| panic!("{command}: {error}"))
}

/// The standard output of a command that succeeds.
pub async fn text(link: &Link, command: &str) -> String {
    let answer = ask(link, command).await;
    assert_eq!(answer.end, End::Code(0), "{command}: {answer:?}");
    String::from_utf8(answer.stdout.to_vec()).unwrap()
}
