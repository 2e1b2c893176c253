//! A named place where work runs: this machine, or one that is reached by SSH.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Principal, Project, Timestamp};

/// Names a member for good, whatever it is called: a UUID, or `local` for the
/// built-in one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MemberId(Uuid);

/// What people call a member: 1 to 64 characters of `a-z A-Z 0-9 . _ -`,
/// beginning with a letter or digit. Names differ by more than case.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MemberName(Arc<str>);

/// Why a text does not name a member.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MemberNameError {
    #[error("'{0}' is not a member id; `fleetctl members list` shows them")]
    Id(String),
    #[error(
        "'{0}' is not a member name; use 1 to 64 of a-z A-Z 0-9 . _ - and begin with a letter or digit"
    )]
    Name(String),
}

/// The systems that work runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum MemberOs {
    Linux,
    Macos,
}

/// Where a member is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum MemberPlace {
    /// The machine that the daemon runs on.
    Local,
    Remote(Remote),
}

/// An SSH target as it was given; `~/.ssh/config` says the rest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remote {
    pub host: String,
    pub port: Option<u16>,
    pub username: Option<String>,
    pub auth: MemberAuth,
}

/// How the daemon shows a member who it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MemberAuth {
    /// As `ssh` would: the agent, then the configuration's and the usual key files.
    Default,
    /// The agent's identities alone.
    Agent,
    /// A key file; `made` if fleetd made it, and may therefore remove it.
    Key { path: PathBuf, made: bool },
}

/// How far a provider's command line may go without a person.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Unattended {
    /// What its permission file grants.
    #[default]
    False,
    /// The provider's own automatic mode.
    Auto,
    /// It asks for nothing.
    Dangerous,
}

/// The models behind the names of tiers; `None` leaves it to the provider's row.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ModelTiers {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cheap: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub standard: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub premium: Option<String>,
}

/// What was found out about a member when it was last probed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberFacts {
    pub os: Option<MemberOs>,
    /// Machine and kernel as `uname -srm` says; foreign text.
    pub system: Option<String>,
    /// Home folder of the user there.
    pub home: Option<String>,
    /// Changes when the machine boots; foreign text, only ever compared.
    pub boot: Option<String>,
    /// What `sh` is there: dash, bash, busybox, zsh or sh.
    pub shell: Option<String>,
    /// Fingerprint of the host key, `SHA256:…`.
    pub fingerprint: Option<String>,
}

/// Whether a member can be reached, as the keepalive saw it last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reachable {
    pub online: bool,
    /// Since when that is so.
    pub since: Timestamp,
    /// Why it is offline.
    pub reason: Option<String>,
    /// The host key that it shows in place of the trusted one, if that was told.
    pub offered: Option<String>,
}

/// A member as the database holds it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    pub id: MemberId,
    pub name: MemberName,
    pub place: MemberPlace,
    /// Absolute path of the folder that work begins in.
    pub work_folder: String,
    /// Name of a row of the providers' table, or `none`.
    pub provider: String,
    pub models: ModelTiers,
    pub unattended: Unattended,
    pub category: Option<String>,
    pub tags: Vec<String>,
    /// Commands that run at the same time; `None`: as the configuration says.
    pub concurrency: Option<u32>,
    /// Who may see and use it; `None`: every project.
    pub project: Option<Project>,
    pub facts: MemberFacts,
    pub reachable: Reachable,
    pub created: Timestamp,
    pub updated: Timestamp,
    /// Rises with every change, so that of two snapshots the newer one is known.
    pub revision: u64,
}

impl MemberId {
    /// The built-in member: the machine that the daemon runs on.
    pub const LOCAL: Self = Self(Uuid::nil());

    pub fn random() -> Self {
        Self(Uuid::new_v4())
    }
}

impl MemberName {
    /// The built-in member's name.
    pub const LOCAL: &str = "local";

    pub fn local() -> Self {
        Self(Arc::from(Self::LOCAL))
    }

    /// Checks and takes a name.
    ///
    /// # Errors
    /// [`MemberNameError::Name`].
    pub fn parse(text: &str) -> Result<Self, MemberNameError> {
        // The same alphabet as a project's; a leading dash would be an option to some program.
        match Project::parse(text) {
            Ok(_) => Ok(Self(Arc::from(text))),
            // It is shown to people: what would steer a terminal is left out.
            Err(_) => {
                let shown = |c: &char| c.is_alphanumeric() || c.is_ascii_graphic() || *c == ' ';
                Err(MemberNameError::Name(text.chars().filter(shown).take(64).collect()))
            }
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether `text` means this member: case does not matter.
    pub fn is(&self, text: &str) -> bool {
        self.0.eq_ignore_ascii_case(text)
    }
}

impl Member {
    /// Whether `principal` may see and use it.
    pub fn visible_to(&self, principal: &Principal) -> bool {
        self.project.as_ref().is_none_or(|project| principal.sees(project))
    }

    /// The subject of this member's events.
    pub fn subject(&self) -> String {
        format!("member/{}", self.name)
    }

    pub fn remote(&self) -> Option<&Remote> {
        match &self.place {
            MemberPlace::Local => None,
            MemberPlace::Remote(remote) => Some(remote),
        }
    }

    /// Whether it is the same place as `other`: no two members may be. Two tasks
    /// that believe to be alone would meet in one folder.
    pub fn same_place(&self, other: &Self) -> bool {
        let address = |member: &Self| {
            member.remote().map(|remote| {
                let host = remote.host.to_ascii_lowercase();
                (host, remote.port.unwrap_or(22), remote.username.clone())
            })
        };
        let folder = |member: &Self| member.work_folder.trim_end_matches('/').to_owned();
        address(self) == address(other) && folder(self) == folder(other)
    }
}

impl MemberOs {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Linux => "linux",
            Self::Macos => "macos",
        }
    }
}

impl MemberPlace {
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Remote(_) => "remote",
        }
    }
}

impl Unattended {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::False => "false",
            Self::Auto => "auto",
            Self::Dangerous => "dangerous",
        }
    }
}

impl fmt::Display for MemberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::LOCAL { f.write_str(MemberName::LOCAL) } else { write!(f, "{}", self.0) }
    }
}

impl FromStr for MemberId {
    type Err = MemberNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.eq_ignore_ascii_case(MemberName::LOCAL) {
            return Ok(Self::LOCAL);
        }
        // Only the hyphenated form, and one name only for the built-in member.
        match Uuid::try_parse(text) {
            Ok(uuid) if text.len() == 36 && !uuid.is_nil() => Ok(Self(uuid)),
            _ => Err(MemberNameError::Id(text.chars().take(64).collect())),
        }
    }
}

impl TryFrom<String> for MemberId {
    type Error = MemberNameError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<MemberId> for String {
    fn from(id: MemberId) -> Self {
        id.to_string()
    }
}

impl fmt::Display for MemberName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for MemberName {
    type Error = MemberNameError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text)
    }
}

impl From<MemberName> for String {
    fn from(name: MemberName) -> Self {
        name.0.as_ref().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_member_has_one_id() {
        assert_eq!(MemberId::LOCAL.to_string(), "local");
        assert_eq!("Local".parse(), Ok(MemberId::LOCAL));
        assert!("00000000-0000-0000-0000-000000000000".parse::<MemberId>().is_err());
        let id = MemberId::random();
        assert_eq!(id.to_string().parse(), Ok(id));
    }

    #[test]
    fn names_are_plain() {
        assert!(MemberName::parse("web-1.api_2").unwrap().is("WEB-1.api_2"));
        for bad in ["", "-oProxyCommand", "a b", "a/b", "ü", "a\n", &"x".repeat(65)] {
            assert!(MemberName::parse(bad).is_err(), "{bad} must be refused");
        }
    }
}
