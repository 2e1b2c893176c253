//! From a provider's row and what is asked to a command line.

use std::collections::BTreeMap;

use uuid::Uuid;

use super::PromptSpec;
use crate::config::Provider;
use crate::model::{Member, Unattended};

/// What the slots of a command are filled with.
pub struct Ask {
    session: Session,
    unattended: Unattended,
    model: Option<String>,
    agent: Option<String>,
    max_turns: u32,
}

enum Session {
    Fresh(Option<String>),
    Resumed(String),
}

impl Ask {
    pub fn new(
        spec: &PromptSpec,
        member: &Member,
        provider: &Provider,
        session: Option<String>,
    ) -> Self {
        let chosen = || provider.fresh.iter().any(|word| word.contains("{session_id}"));
        let session = match session {
            Some(id) => Session::Resumed(id),
            None => Session::Fresh(chosen().then(|| Uuid::new_v4().to_string())),
        };
        Self {
            session,
            unattended: member.unattended,
            model: model(spec.model.as_deref(), member, provider),
            agent: spec.agent.clone(),
            max_turns: spec.max_turns,
        }
    }

    /// The session's id, if it is known before the program says it.
    pub fn session_id(&self) -> Option<&str> {
        match &self.session {
            Session::Fresh(id) => id.as_deref(),
            Session::Resumed(id) => Some(id),
        }
    }

    /// The program and its arguments. The prompt is not among them.
    pub fn argv(&self, provider: &Provider) -> Vec<String> {
        provider.command.iter().flat_map(|word| self.filled(word, provider)).collect()
    }

    /// The pattern of the file that grows while it works. It is known by the
    /// session in its name: without one, somebody else's file would stand for it.
    pub fn transcript(&self, provider: &Provider) -> Option<String> {
        let session = self.session_id()?;
        let pattern = provider.transcript.as_ref()?;
        Some(pattern.replace("{session_id}", session).replace("{folder}", "*"))
    }

    fn filled(&self, word: &str, provider: &Provider) -> Vec<String> {
        let with = |list: &[String], name: &str, value: Option<&str>| {
            let value = value?;
            Some(list.iter().map(|word| word.replace(name, value)).collect())
        };
        let filled = match word {
            "{session}" => match &self.session {
                Session::Fresh(id) => with(&provider.fresh, "{session_id}", id.as_deref()),
                Session::Resumed(id) => with(&provider.resume, "{session_id}", Some(id)),
            },
            "{unattended}" => Some(match self.unattended {
                Unattended::False => provider.unattended.no.clone(),
                Unattended::Auto => provider.unattended.auto.clone(),
                Unattended::Dangerous => provider.unattended.dangerous.clone(),
            }),
            "{model}" => with(&provider.model, "{model}", self.model.as_deref()),
            "{agent}" => with(&provider.agent, "{agent}", self.agent.as_deref()),
            "{max_turns}" => {
                with(&provider.max_turns, "{max_turns}", Some(&self.max_turns.to_string()))
            }
            word => Some(vec![word.to_owned()]),
        };
        filled.unwrap_or_default()
    }
}

/// The model behind what was asked: the member's word for a tier wins over the
/// provider's, and no word at all leaves the choice to the program.
fn model(asked: Option<&str>, member: &Member, provider: &Provider) -> Option<String> {
    let (ours, theirs) = (&member.models, &provider.models);
    match asked.unwrap_or("standard") {
        "cheap" => ours.cheap.clone().or_else(|| theirs.cheap.clone()),
        "standard" => ours.standard.clone().or_else(|| theirs.standard.clone()),
        "premium" => ours.premium.clone().or_else(|| theirs.premium.clone()),
        model => Some(model.to_owned()),
    }
}

/// Whether a text may stand on a command line as a value: never as an option.
pub fn is_word(text: &str, marks: &str) -> bool {
    (1..=128).contains(&text.len())
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || marks.contains(c))
}

/// What a provider's program gets besides what every command gets. Its own
/// variables never leave this machine; those of the daemon's that would change
/// what it does (CLAUDECODE and its like) are on no list and go nowhere.
pub fn environment(provider: &Provider, local: bool) -> BTreeMap<String, String> {
    let mut env = provider.env.clone();
    if local {
        let set = |name: &String| Some((name.clone(), std::env::var(name).ok()?));
        env.extend(provider.auth_env.iter().filter_map(set));
        // Where the makers' installers put their programs; a service's PATH lacks it.
        let (home, path) = (std::env::var("HOME"), std::env::var("PATH"));
        if let (Ok(home), Ok(path)) = (home, path) {
            env.insert(String::from("PATH"), format!("{home}/.local/bin:{path}"));
        }
    }
    env
}
