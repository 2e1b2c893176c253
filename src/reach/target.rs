//! Where a link leads, and as whom.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::known_hosts::HostKey;
use super::secret::Secret;

/// How to prove who we are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum Auth {
    /// What `ssh` would try: the agent's identities, then the configured or
    /// the default key files. `IdentitiesOnly` is honoured.
    #[default]
    Default,
    /// The agent alone, each of its identities in turn.
    Agent,
    /// This key file alone.
    KeyFile(PathBuf),
    Password(Secret),
}

/// A machine to reach. Equal targets share one connection, others never do.
///
/// `host` may be an alias of `~/.ssh/config`; what is `None` comes from there,
/// and then from ssh's defaults.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    pub host: String,
    pub port: Option<u16>,
    pub user: Option<String>,
    pub auth: Auth,
    /// `[user@]host[:port]`, several with commas between them, in the order
    /// they are passed; `none` overrides the configuration.
    pub jump: Option<String>,
    /// Pins the key of a host that is not known yet. A known host's other key
    /// is refused all the same.
    pub accept_new: bool,
}

impl Target {
    /// With everything from the configuration, and strict about host keys.
    pub fn new(host: impl Into<String>) -> Self {
        Self {
            host: host.into(),
            port: None,
            user: None,
            auth: Auth::Default,
            jump: None,
            accept_new: false,
        }
    }
}

/// `user@host:port`, as far as it was given.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(user) = &self.user {
            write!(f, "{user}@")?;
        }
        f.write_str(&self.host)?;
        match self.port {
            Some(port) => write!(f, ":{port}"),
            None => Ok(()),
        }
    }
}

/// What got us in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identity {
    /// An identity of the agent, by its comment.
    Agent(String),
    KeyFile(PathBuf),
    Password,
    /// The server asked for nothing.
    None,
}

/// What is known of a connection that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Where the name led after the configuration was applied.
    pub host: String,
    pub port: u16,
    pub user: String,
    pub host_key: HostKey,
    /// The key was pinned by this very connection.
    pub newly_trusted: bool,
    pub identity: Identity,
    /// From the first packet until we were in.
    pub connect_time: Duration,
    /// One question and its answer on the finished connection.
    pub latency: Duration,
    /// The server's own words, capped and without control characters.
    pub banner: String,
}
