//! Where everything lies on disk.

use std::path::{Path, PathBuf};

use directories::{BaseDirs, ProjectDirs};

/// Every path fleetd uses. What has to be found by everybody, whatever XDG
/// says (lock, socket, pointer), lies below HOME alone, so that two daemons
/// can never miss each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths {
    /// `~/.fleetd`: lock, socket, pointer.
    pub home: PathBuf,
    /// Journal, token, runs, logs.
    pub state: PathBuf,
    /// Where the runtime file goes: the session's runtime directory if there is
    /// one, else `<state>/run`.
    pub runtime: PathBuf,
    /// The configuration file.
    pub config: PathBuf,
}

/// Without a home there is no place for anything.
#[derive(Debug, thiserror::Error)]
#[error("cannot find a home directory; set HOME")]
pub struct PathsError;

/// A Unix socket's path has at most 104 bytes with its end on macOS, 108 on Linux.
const SOCKET_PATH: usize = 103;

impl Paths {
    /// The paths of the user who runs this process.
    ///
    /// # Errors
    /// If there is no home directory.
    pub fn find() -> Result<Self, PathsError> {
        let home = BaseDirs::new().ok_or(PathsError)?.home_dir().join(".fleetd");
        let project = ProjectDirs::from("", "", "fleetd").ok_or(PathsError)?;
        let state = project.state_dir().unwrap_or_else(|| project.data_local_dir()).to_owned();
        let runtime = project.runtime_dir().map_or_else(|| state.join("run"), Path::to_owned);
        Ok(Self { home, state, runtime, config: project.config_dir().join("fleetd.toml") })
    }

    /// The user's own rows of the table of providers, beside the configuration file.
    pub fn providers(&self) -> PathBuf {
        self.config.with_file_name("providers.toml")
    }

    /// Held by the daemon for life.
    pub fn lock(&self) -> PathBuf {
        self.home.join("fleetd.lock")
    }

    /// The Unix socket, unless HOME is too deep for one.
    pub fn socket(&self) -> Option<PathBuf> {
        let path = self.home.join("fleetd.sock");
        (path.as_os_str().len() <= SOCKET_PATH).then_some(path)
    }

    /// A link to the runtime file, found with HOME alone.
    pub fn pointer(&self) -> PathBuf {
        self.home.join("fleetd.json")
    }

    /// The well-known runtime file.
    pub fn runtime_file(&self) -> PathBuf {
        self.runtime.join("fleetd.json")
    }

    pub fn token(&self) -> PathBuf {
        self.state.join("token")
    }

    /// The port of the last start.
    pub fn port(&self) -> PathBuf {
        self.state.join("port")
    }

    /// Run directories, one per run.
    pub fn runs(&self) -> PathBuf {
        self.state.join("runs")
    }

    /// Host keys that fleetd was told to trust.
    pub fn known_hosts(&self) -> PathBuf {
        self.state.join("known_hosts")
    }

    /// Keys that fleetd made for members.
    pub fn keys(&self) -> PathBuf {
        self.state.join("keys")
    }

    pub fn logs(&self) -> PathBuf {
        self.state.join("log")
    }
}
