//! The tools about members: register, look at, change, remove.

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

use super::TaskView;
use super::task::all_as_listed;
use crate::model::{Member, MemberAuth, MemberOs, ModelTiers, Remote, Unattended};

/// Where a member is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum MemberType {
    Local,
    #[default]
    Remote,
}

/// How the daemon shows a member who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum AuthType {
    /// The file of key_path.
    Key,
    /// Keys of the running ssh-agent.
    Agent,
}

/// How a text is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TextFormat {
    #[default]
    Compact,
    Json,
}

/// Settings that `register_member` and `update_member` share.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct MemberSettings {
    /// Host name, address, or a Host of ~/.ssh/config.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Default: 22, or as ~/.ssh/config says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// Default: key if key_path is given, else as ssh would.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth_type: Option<AuthType>,
    /// Private key on the daemon's machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_path: Option<String>,
    /// claude, codex, copilot, gemini, opencode, none, or a row of providers.toml.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub llm_provider: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model_cheap: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model_standard: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model_premium: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model_tiers: Option<ModelTiers>,
    /// How far its provider goes without a person: false, auto or dangerous.
    #[serde(default, deserialize_with = "unattended", skip_serializing_if = "Option::is_none")]
    pub unattended: Option<Unattended>,
    /// At most 64 characters; "" for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub category: Option<String>,
    /// At most 10 of 64 characters; [] for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tags: Option<Vec<String>>,
    /// Commands that run at the same time, 1 to 64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<u32>,
    /// Project that may see and use it; "*" for all. Default: the caller's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
}

/// Arguments of `register_member`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct RegisterMember {
    /// 1 to 64 of A-Z a-z 0-9 . _ -
    pub friendly_name: String,
    #[serde(default)]
    pub member_type: MemberType,
    /// Absolute path of the folder to work in; it is made.
    pub work_folder: String,
    /// Trust a host key that is not known yet. Never one that changed.
    #[serde(default)]
    pub accept_new: bool,
    #[serde(flatten)]
    pub settings: MemberSettings,
}

/// Arguments of `update_member`: what is absent stays.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct UpdateMember {
    #[serde(flatten)]
    pub member: MemberSelector,
    /// A new name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub friendly_name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub work_folder: Option<String>,
    #[serde(flatten)]
    pub settings: MemberSettings,
}

/// A member by id or name.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct MemberSelector {
    /// The member's id; wins over member_name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub member_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub member_name: Option<String>,
}

/// Arguments of `list_members`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListMembers {
    /// Form of the text.
    #[serde(default)]
    pub format: TextFormat,
    /// Only members that have all of these tags.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
}

/// Arguments of `member_detail`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct MemberDetail {
    #[serde(flatten)]
    pub member: MemberSelector,
    /// Form of the text.
    #[serde(default)]
    pub format: TextFormat,
}

/// Arguments of `remove_member`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct RemoveMember {
    #[serde(flatten)]
    pub member: MemberSelector,
    /// Also while tasks run there. They are not stopped, and their end is not known.
    #[serde(default)]
    pub force: bool,
}

/// Arguments of `setup_ssh_key`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SetupSshKey {
    /// The member's id; wins over member_name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub member_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub member_name: Option<String>,
}

/// What somebody is on a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RoleName {
    /// Edits, builds and tests.
    Doer,
    /// Reads and runs tests.
    Reviewer,
}

/// Arguments of `compose_permissions`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ComposePermissions {
    #[serde(flatten)]
    pub member: MemberSelector,
    pub role: RoleName,
    /// Stacks beside those found in the folder: rust, node, python, go, ...
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// Default: the member's work folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project_folder: Option<String>,
    /// Further patterns to allow, like Bash(docker build:*).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub grant: Vec<String>,
    /// Why; needed with grant, and kept in the log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grant_reason: Option<String>,
}

/// Result of `compose_permissions`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ComposePermissionsResult {
    pub file: String,
    /// Stacks that were found or named.
    pub stacks: Vec<String>,
    /// All that the file allows now, and denies.
    pub allow: Vec<String>,
    pub deny: Vec<String>,
    /// false: the file said so already.
    pub written: bool,
}

/// A member in a list.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct MemberSummary {
    pub member_id: String,
    pub name: String,
    #[serde(rename = "type")]
    pub member_type: MemberType,
    /// connecting, online, suspect or offline.
    pub state: String,
    pub host: Option<String>,
    pub username: Option<String>,
    pub os: Option<MemberOs>,
    pub work_folder: String,
    pub llm_provider: String,
    pub category: Option<String>,
    pub tags: Vec<String>,
    /// null: every project's.
    pub project: Option<String>,
}

/// Result of `list_members`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ListMembersResult {
    pub total: u64,
    pub members: Vec<MemberSummary>,
}

/// All there is to say of a member.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct MemberView {
    #[serde(flatten)]
    pub summary: MemberSummary,
    /// Since when it is in that state, RFC 3339.
    pub since: String,
    /// Why it is not online.
    pub last_error: Option<String>,
    pub port: Option<u16>,
    /// default, agent or key.
    pub auth_type: Option<String>,
    pub key_path: Option<String>,
    /// The host key that is trusted.
    pub fingerprint: Option<String>,
    /// What uname says; foreign text.
    pub system: Option<String>,
    pub shell: Option<String>,
    pub home: Option<String>,
    pub models: ModelTiers,
    pub unattended: Unattended,
    pub concurrency: Option<u32>,
    pub created: String,
    pub updated: String,
}

/// Result of `register_member` and `update_member`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct MemberResult {
    pub member: MemberView,
    /// What was done, but not as one may have wished.
    pub warnings: Vec<String>,
}

/// Result of `member_detail`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct MemberDetailResult {
    pub member: MemberView,
    pub running: u64,
    pub queued: u64,
    /// Its running and waiting tasks, newest first, at most 100.
    #[schemars(schema_with = "all_as_listed")]
    pub tasks: Vec<TaskView>,
}

/// Result of `remove_member`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct RemoveMemberResult {
    pub member_id: String,
    pub name: String,
    pub warnings: Vec<String>,
}

impl MemberSummary {
    /// `state` as the link has it now.
    pub fn new(member: &Member, state: &str) -> Self {
        let remote = member.remote();
        Self {
            member_id: member.id.to_string(),
            name: member.name.to_string(),
            member_type: if remote.is_some() { MemberType::Remote } else { MemberType::Local },
            state: state.to_owned(),
            host: remote.map(|remote| remote.host.clone()),
            username: remote.and_then(|remote| remote.username.clone()),
            os: member.facts.os,
            work_folder: member.work_folder.clone(),
            llm_provider: member.provider.clone(),
            category: member.category.clone(),
            tags: member.tags.clone(),
            project: member.project.as_ref().map(ToString::to_string),
        }
    }
}

impl MemberView {
    /// `state`, `since` and `last_error` as the link has them now.
    pub fn new(member: &Member, state: &str, since: String, last_error: Option<String>) -> Self {
        let remote = member.remote();
        let (auth_type, key_path) = remote.map_or((None, None), of_auth);
        Self {
            summary: MemberSummary::new(member, state),
            since,
            last_error,
            port: remote.and_then(|remote| remote.port),
            auth_type,
            key_path,
            fingerprint: member.facts.fingerprint.clone(),
            system: member.facts.system.clone(),
            shell: member.facts.shell.clone(),
            home: member.facts.home.clone(),
            models: member.models.clone(),
            unattended: member.unattended,
            concurrency: member.concurrency,
            created: member.created.to_string(),
            updated: member.updated.to_string(),
        }
    }
}

fn of_auth(remote: &Remote) -> (Option<String>, Option<String>) {
    match &remote.auth {
        MemberAuth::Default => (Some(String::from("default")), None),
        MemberAuth::Agent => (Some(String::from("agent")), None),
        MemberAuth::Key { path, .. } => {
            (Some(String::from("key")), Some(path.to_string_lossy().into_owned()))
        }
    }
}

/// `false` is a word and a value: prompts have been written with either.
fn unattended<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Unattended>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Either {
        Value(bool),
        Word(Unattended),
    }
    match Option::<Either>::deserialize(deserializer)? {
        None => Ok(None),
        Some(Either::Word(word)) => Ok(Some(word)),
        Some(Either::Value(false)) => Ok(Some(Unattended::False)),
        Some(Either::Value(true)) => {
            Err(serde::de::Error::custom("write false, \"auto\" or \"dangerous\""))
        }
    }
}
