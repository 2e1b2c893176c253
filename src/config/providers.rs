//! The table of providers: the one that fleetd carries, and the user's rows on it.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use toml::de::DeTable;

use super::file::{ConfigError, position};

/// The table that fleetd carries.
const OWN: &str = include_str!("../../config/providers.toml");

/// Rows by name.
#[derive(Clone, Debug, PartialEq)]
pub struct Providers(BTreeMap<String, Provider>);

/// How one model's program is run and read; `config/providers.toml` says what
/// every field means.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Provider {
    pub command: Vec<String>,
    pub fresh: Vec<String>,
    pub resume: Vec<String>,
    pub model: Vec<String>,
    pub agent: Vec<String>,
    pub max_turns: Vec<String>,
    pub unattended: UnattendedFlags,
    pub models: Tiers,
    /// 0: not known.
    pub context_window: u64,
    pub format: Format,
    pub version: Vec<String>,
    pub transcript: Option<String>,
    pub auth_env: Vec<String>,
    pub env: BTreeMap<String, String>,
}

/// How a provider's output is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    Claude,
    Codex,
    Gemini,
    Copilot,
    Opencode,
    /// All of it is the answer.
    #[default]
    Text,
}

/// Arguments by how far a program may go without a person.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct UnattendedFlags {
    #[serde(rename = "false")]
    pub no: Vec<String>,
    pub auto: Vec<String>,
    pub dangerous: Vec<String>,
}

/// Models by tier; `None` leaves the choice to the program.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tiers {
    pub cheap: Option<String>,
    pub standard: Option<String>,
    pub premium: Option<String>,
}

/// A row as a file says it; what is not said stays as it was.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Row {
    command: Option<Vec<String>>,
    fresh: Option<Vec<String>>,
    resume: Option<Vec<String>>,
    model: Option<Vec<String>>,
    agent: Option<Vec<String>>,
    max_turns: Option<Vec<String>>,
    unattended: Option<UnattendedFlags>,
    models: Option<Tiers>,
    context_window: Option<u64>,
    format: Option<Format>,
    version: Option<Vec<String>>,
    transcript: Option<String>,
    auth_env: Option<Vec<String>>,
    env: Option<BTreeMap<String, String>>,
}

/// Words of `command` that are replaced by lists.
const SLOTS: [&str; 5] = ["{session}", "{unattended}", "{model}", "{agent}", "{max_turns}"];

impl Providers {
    /// The table that fleetd carries. A test parses it, so that it is never empty.
    pub fn built_in() -> Self {
        let mut table = Self(BTreeMap::new());
        if let Err(error) = table.overlay(OWN, "config/providers.toml") {
            tracing::error!(%error, "the table of providers is broken");
        }
        table
    }

    /// The same with the user's rows on it, if the file `path` is there.
    ///
    /// # Errors
    /// With file, line and column if the content is wrong.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let mut table = Self::built_in();
        match std::fs::read_to_string(path) {
            Ok(text) => table.overlay(&text, &path.display().to_string())?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(source) => {
                return Err(ConfigError::Unreadable { path: path.to_owned(), source });
            }
        }
        Ok(table)
    }

    /// The row of this name.
    pub fn get(&self, name: &str) -> Option<&Provider> {
        self.0.get(name)
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Puts the rows of `text`, named `file` in errors, over what is there.
    ///
    /// # Errors
    /// With file, line and column.
    pub fn overlay(&mut self, text: &str, file: &str) -> Result<(), ConfigError> {
        let invalid = |offset: usize, problem: String| {
            let (line, column) = position(text, offset);
            ConfigError::Invalid { file: file.to_owned(), line, column, problem }
        };
        let rows: BTreeMap<String, Row> = toml::from_str(text).map_err(|error| {
            invalid(error.span().map_or(0, |span| span.start), error.message().to_owned())
        })?;
        for (name, row) in rows {
            let known = self.0.contains_key(&name);
            let provider = self.0.entry(name.clone()).or_default();
            row.onto(provider);
            check(&name, provider, known)
                .map_err(|problem| invalid(place(text, &name), problem))?;
        }
        Ok(())
    }
}

impl Row {
    fn onto(self, provider: &mut Provider) {
        fn set<T>(field: &mut T, value: Option<T>) {
            if let Some(value) = value {
                *field = value;
            }
        }
        set(&mut provider.command, self.command);
        set(&mut provider.fresh, self.fresh);
        set(&mut provider.resume, self.resume);
        set(&mut provider.model, self.model);
        set(&mut provider.agent, self.agent);
        set(&mut provider.max_turns, self.max_turns);
        set(&mut provider.unattended, self.unattended);
        set(&mut provider.models, self.models);
        set(&mut provider.context_window, self.context_window);
        set(&mut provider.format, self.format);
        set(&mut provider.version, self.version);
        set(&mut provider.auth_env, self.auth_env);
        set(&mut provider.env, self.env);
        provider.transcript = self.transcript.or(provider.transcript.take());
    }
}

/// What types cannot say.
fn check(name: &str, provider: &Provider, known: bool) -> Result<(), String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if name.is_empty() || name.len() > 64 || !name.chars().all(plain) || name == "none" {
        return Err(format!("'{name}' is no name for a provider; use a-z A-Z 0-9 . _ -"));
    }
    if provider.command.is_empty() && !known && name != "custom" {
        return Err(format!("provider '{name}' has no command"));
    }
    if provider
        .command
        .first()
        .is_some_and(|program| program.is_empty() || program.starts_with('{'))
    {
        return Err(format!("provider '{name}': its command has to begin with a program"));
    }
    let braced = |word: &&String| word.starts_with('{') && word.ends_with('}');
    let mut slots = provider.command.iter().filter(braced);
    match slots.find(|word| !SLOTS.contains(&word.as_str())) {
        Some(word) => Err(format!("provider '{name}': {word} is none of {}", SLOTS.join(", "))),
        None => Ok(()),
    }
}

/// Where the row `name` begins.
fn place(text: &str, name: &str) -> usize {
    let find = || Some(DeTable::parse(text).ok()?.get_ref().get_key_value(name)?.0.span().start);
    find().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_carried_table_has_every_provider() {
        let mut table = Providers(BTreeMap::new());
        table.overlay(OWN, "config/providers.toml").unwrap();
        let names: Vec<_> = table.names().collect();
        assert_eq!(names, ["claude", "codex", "copilot", "custom", "gemini", "opencode"]);
        assert!(
            table
                .names()
                .all(|name| !table.get(name).unwrap().command.is_empty() || name == "custom")
        );
        assert_eq!(table, Providers::built_in());
    }

    #[test]
    fn a_users_row_changes_what_it_says_and_adds_what_is_new() {
        let mut table = Providers::built_in();
        let text = "[claude]\nmodels = { standard = \"opus\" }\n[mine]\ncommand = [\"mine\", \"{model}\"]\n";
        table.overlay(text, "p.toml").unwrap();
        let claude = table.get("claude").unwrap();
        assert_eq!(claude.models.standard.as_deref(), Some("opus"));
        assert_eq!(claude.format, Format::Claude);
        assert_eq!(table.get("mine").unwrap().format, Format::Text);
    }

    #[test]
    fn mistakes_are_told_where_they_stand() {
        for (text, said) in [
            ("[claude]\nfomat = \"text\"\n", "p.toml:2:1: unknown field `fomat`"),
            ("\n[mine]\nformat = \"text\"\n", "p.toml:2:2: provider 'mine' has no command"),
            (
                "[mine]\ncommand = [\"x\", \"{prompt}\"]\n",
                "p.toml:1:2: provider 'mine': {prompt} is none of",
            ),
            ("[claude]\nformat = \"xml\"\n", "p.toml:2:10: unknown variant `xml`"),
            ("[claude]\nunattended.yes = []\n", "p.toml:2:12: unknown field `yes`"),
        ] {
            let error = Providers::built_in().overlay(text, "p.toml").unwrap_err().to_string();
            assert!(error.starts_with(said), "{error}");
        }
    }
}
