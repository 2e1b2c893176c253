//! What a reach is built from.

use std::path::{Path, PathBuf};
use std::time::Duration;

/// When a silent peer is asked, and when it is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keepalive {
    /// Nothing heard for so long: the peer is asked for a sign of life. No
    /// answer after as long again makes the link suspect.
    pub interval: Duration,
    /// Nothing heard for so long: the connection is lost.
    pub budget: Duration,
}

/// The pauses between attempts to connect; each is drawn from the upper half.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    pub first: Duration,
    pub longest: Duration,
}

/// Settings of everything that is reached.
#[derive(Clone, Debug)]
pub struct ReachOptions {
    /// Our own pins, written by us alone. They decide where they name a host.
    pub known_hosts: PathBuf,
    /// Read where ours is silent; `@revoked` counts in any of them.
    pub other_known_hosts: Vec<PathBuf>,
    /// The user's home, for `~`.
    pub home: PathBuf,
    /// `config` and the default keys lie here.
    pub ssh_dir: PathBuf,
    /// The agent's socket (`SSH_AUTH_SOCK`), if there is one.
    pub agent: Option<PathBuf>,
    /// The user name where neither target nor configuration gives one.
    pub user: String,
    pub keepalive: Keepalive,
    /// For name, wire, key exchange and authentication together, jumps included.
    pub connect_deadline: Duration,
    pub retry: Retry,
}

impl ReachOptions {
    /// The usual places below `home`, and our pins in `known_hosts`.
    pub fn new(home: &Path, known_hosts: PathBuf, user: impl Into<String>) -> Self {
        let ssh_dir = home.join(".ssh");
        Self {
            known_hosts,
            other_known_hosts: vec![
                ssh_dir.join("known_hosts"),
                PathBuf::from("/etc/ssh/ssh_known_hosts"),
            ],
            home: home.to_owned(),
            ssh_dir,
            agent: None,
            user: user.into(),
            keepalive: Keepalive {
                interval: Duration::from_secs(5),
                budget: Duration::from_secs(15),
            },
            connect_deadline: Duration::from_secs(10),
            retry: Retry { first: Duration::from_millis(500), longest: Duration::from_secs(60) },
        }
    }
}
