//! Prompts: tasks whose program is a provider's, whose input is the prompt, and
//! whose output is read for text, tools and one result.
//!
//! A prompt takes the same way as a command from here on: durable before it is
//! named, its run outliving everybody. It is never run again once its program
//! was launched (lesson D2). What came of it is read from the run's own output
//! when its end is stored, so a daemon that dies in between loses nothing.

mod argv;
mod ending;
mod report;
mod telling;

use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use bytes::Bytes;

use super::drive::blocking;
use super::leases::Claim;
use super::providers::is_session_id;
use super::remote;
use super::{CommandSpec, Fleet, FleetError, Program, Prompted, Stdin};
use crate::config::{self, Format, Provider};
use crate::model::{Member, Principal, Project, Task, TaskId, TaskState, Timestamp};
use crate::reach::Link;
use crate::store::PromptRow;

pub use ending::{settled, told, with_result};
pub use report::PromptReport;
pub use telling::{Telling, Told};

use argv::Ask;

/// A prompt as a caller states it.
#[derive(Clone, Debug)]
pub struct PromptSpec {
    /// By id, which wins, or by name; the local one if neither.
    pub member_id: Option<String>,
    pub member_name: Option<String>,
    pub prompt: String,
    pub resume: Resume,
    /// A row of the providers' table; the member's own if none.
    pub provider: Option<String>,
    /// A tier (cheap, standard, premium) or the provider's own name of a model.
    pub model: Option<String>,
    pub agent: Option<String>,
    /// For providers that have such a limit.
    pub max_turns: u32,
    /// Folder to work in; the member's work folder if none.
    pub run_from: Option<String>,
    /// Tokens that the prompt is expected to need, its history included.
    pub expected_tokens: Option<u64>,
    /// Time without output after which it is ended.
    pub inactivity: Option<Duration>,
    /// Time in all after which it is ended.
    pub total: Option<Duration>,
    /// Time without a sign of life after which it is told as stalled, if not the usual one.
    pub stall_after: Option<Duration>,
    pub project: Project,
}

/// Which conversation a prompt goes on with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resume {
    /// None: it begins one.
    Fresh,
    /// The caller's last that ended in this folder with this provider, if there is one.
    Last,
    /// The one of this id, which has to have ended here before.
    Session(String),
}

/// Left free of a model's context, for what it is told besides the prompt.
const MARGIN: u64 = 20_000;

impl Fleet {
    /// The table of providers.
    pub fn providers(&self) -> Arc<config::Providers> {
        Arc::clone(&self.0.providers.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes another table; prompts that were taken keep theirs.
    pub fn set_providers(&self, providers: config::Providers) {
        *self.0.providers.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(providers);
    }

    /// Whether a member may have this provider: a row of the table, or `none`.
    ///
    /// # Errors
    /// [`FleetError::Invalid`] names those there are.
    pub fn check_provider(&self, name: &str) -> Result<(), FleetError> {
        let table = self.providers();
        if name == "none" || table.get(name).is_some() {
            return Ok(());
        }
        let names = table.names().collect::<Vec<_>>().join(", ");
        let name: String = name.chars().take(64).collect();
        let problem = format!("'{name}' is not known; there are {names}, none");
        Err(FleetError::Invalid { argument: "llm_provider", problem })
    }

    /// Takes a prompt: it is durable, and started or queued, when this returns.
    ///
    /// # Errors
    /// [`FleetError::Invalid`] for what its provider cannot be asked,
    /// [`FleetError::NoSession`], and whatever [`Fleet::execute`] says.
    pub async fn prompt(
        &self,
        principal: &Principal,
        spec: PromptSpec,
    ) -> Result<Task, FleetError> {
        let (id, name) = (spec.member_id.as_deref(), spec.member_name.as_deref());
        let handle = self.roster().resolve(principal, id, name)?;
        let (member, link) = (handle.member(), handle.link());
        let (providers, table) = (spec.provider.as_ref(), self.providers());
        let named = providers.unwrap_or(&member.provider).clone();
        let provider = table.get(&named).ok_or_else(|| {
            let names = table.names().collect::<Vec<_>>().join(", ");
            let problem = format!("'{named}' is not known; there are {names}");
            FleetError::Invalid { argument: "provider", problem }
        })?;
        check(&spec, &named, provider)?;
        let folder = folder(&member, spec.run_from.as_deref());
        let real = place(&folder, link.as_ref()).await;
        let claim = Claim { member: member.id.to_string(), folder: real };
        let session = self.session(principal, &spec, &named, &claim).await?;
        let ask = Ask::new(&spec, &member, provider, session);
        let prompted = Prompted {
            provider: named,
            format: provider.format,
            session_id: ask.session_id().map(str::to_owned),
            claim,
        };
        let command = CommandSpec {
            member: Some(member.id.to_string()),
            program: Program::Argv(ask.argv(provider)),
            run_from: Some(folder),
            env: argv::environment(provider, link.is_none()),
            stdin: Stdin::Bytes(Bytes::from(spec.prompt)),
            inactivity: spec.inactivity,
            total: spec.total,
            stall_after: spec.stall_after,
            transcript: ask.transcript(provider),
            retries: 0,
            restart: None,
            project: spec.project,
            prompt: Some(prompted),
        };
        self.execute(principal, command).await
    }

    /// The session to go on with.
    async fn session(
        &self,
        principal: &Principal,
        spec: &PromptSpec,
        provider: &str,
        claim: &Claim,
    ) -> Result<Option<String>, FleetError> {
        let like = PromptRow {
            task: TaskId::random(),
            project: spec.project.clone(),
            principal: principal.id.to_string(),
            member: claim.member.clone(),
            provider: provider.to_owned(),
            folder: claim.folder.clone(),
            session: None,
            created: Timestamp::now(),
            result: None,
        };
        let store = self.0.bus.store();
        match spec.resume.clone() {
            Resume::Fresh => Ok(None),
            Resume::Last => Ok(store.read(move |snapshot| snapshot.last_session(&like)).await?),
            Resume::Session(id) => {
                let unknown = || FleetError::NoSession(id.chars().take(128).collect());
                if !is_session_id(&id) {
                    return Err(unknown());
                }
                let asked = id.clone();
                let found = store.read(move |snapshot| snapshot.session(&like, &asked)).await?;
                found.and_then(|row| row.session).map(Some).ok_or_else(unknown)
            }
        }
    }

    /// Prompts that run or wait on a member, as far as `principal` may see them.
    ///
    /// # Errors
    /// If there is no such member, or the store cannot be read.
    pub async fn open_prompts(
        &self,
        principal: &Principal,
        member_id: Option<&str>,
        member_name: Option<&str>,
    ) -> Result<Vec<Task>, FleetError> {
        let member = self.roster().resolve(principal, member_id, member_name)?.member();
        let open = [TaskState::Queued, TaskState::Starting, TaskState::Running];
        let tasks = self.tasks(principal, &open, usize::MAX).await?;
        let mut prompts = Vec::new();
        for task in tasks {
            let id = task.id;
            let row = self.0.bus.store().read(move |snapshot| snapshot.prompt(id)).await?;
            if row.is_some_and(|row| row.member == member.id.to_string()) {
                prompts.push(task);
            }
        }
        Ok(prompts)
    }

    /// Whether the task is a prompt that `principal` may see.
    ///
    /// # Errors
    /// [`FleetError::NoTask`].
    pub async fn is_prompt(&self, principal: &Principal, id: TaskId) -> Result<bool, FleetError> {
        self.task(principal, id).await?;
        let read = self.0.bus.store().read(move |snapshot| snapshot.prompt(id));
        Ok(read.await?.is_some())
    }
}

/// The row of a new prompt.
pub fn row(task: &Task, prompt: &Prompted) -> PromptRow {
    PromptRow {
        task: task.id,
        project: task.project.clone(),
        principal: task.principal.to_string(),
        member: prompt.claim.member.clone(),
        provider: prompt.provider.clone(),
        folder: prompt.claim.folder.clone(),
        session: prompt.session_id.clone(),
        created: task.created,
        result: None,
    }
}

fn check(spec: &PromptSpec, named: &str, provider: &Provider) -> Result<(), FleetError> {
    let invalid = |argument, problem: String| Err(FleetError::Invalid { argument, problem });
    if provider.command.is_empty() {
        let problem = format!("'{named}' has no command; write one into providers.toml");
        return invalid("provider", problem);
    }
    if spec.prompt.trim().is_empty() {
        return invalid("prompt", String::from("is empty"));
    }
    if spec.prompt.contains("{{secure.") {
        let problem = "names a secret ({{secure.…}}), and a model must not be told any";
        return invalid("prompt", problem.to_owned());
    }
    if spec.model.as_deref().is_some_and(|model| !argv::is_word(model, "._-:/@[]")) {
        return invalid("model", String::from("is not the name of a model"));
    }
    if let Some(agent) = &spec.agent {
        if provider.agent.is_empty() {
            let problem = format!("cannot be chosen: {named} has no agents");
            return invalid("agent", problem);
        }
        if !argv::is_word(agent, "._-") {
            return invalid("agent", String::from("is not the name of an agent"));
        }
    }
    let room = provider.context_window.saturating_sub(MARGIN);
    match spec.expected_tokens {
        Some(tokens) if provider.context_window > 0 && tokens > room => {
            let problem = format!(
                "{tokens} is more than the {room} that {named} has room for \
                 (insufficient_context_headroom)"
            );
            invalid("expected_context_tokens", problem)
        }
        _ => Ok(()),
    }
}

/// Absolute: relative paths begin at the member's work folder, `~/` at its home.
fn folder(member: &Member, run_from: Option<&str>) -> String {
    let home = member.facts.home.as_deref().unwrap_or("/");
    let path = match run_from {
        None => Path::new(&member.work_folder).to_owned(),
        Some("~") => Path::new(home).to_owned(),
        Some(text) => match text.strip_prefix("~/") {
            Some(rest) => Path::new(home).join(rest),
            None => Path::new(&member.work_folder).join(text),
        },
    };
    path.display().to_string()
}

/// The name that a folder is claimed by: links resolved where the machine can say
/// so now, else lexical. A folder that is not there yet has no links.
async fn place(folder: &str, link: Option<&Link>) -> String {
    let real = match link {
        Some(link) => remote::real_folder(link, folder).await,
        None => {
            let path = Path::new(folder).to_owned();
            let real = blocking(move || std::fs::canonicalize(path)).await;
            real.ok().map(|path| path.display().to_string())
        }
    };
    real.unwrap_or_else(|| lexical(folder))
}

fn lexical(folder: &str) -> String {
    let mut path = PathBuf::new();
    for part in Path::new(folder).components() {
        match part {
            Component::ParentDir => drop(path.pop()),
            part => path.push(part),
        }
    }
    path.display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_has_one_name() {
        for folder in ["/a/b", "/a//b/", "/a/./b", "/a/c/../b", "/../a/b"] {
            assert_eq!(lexical(folder), "/a/b", "{folder}");
        }
    }
}
