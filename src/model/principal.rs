//! Who calls, and what they may see and do.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::ToolSets;

/// The name of a caller, as the daemon established it; never a caller's claim.
pub type PrincipalId = Arc<str>;

/// The scope that keeps two repositories' events apart:
/// 1 to 64 characters of `a-z A-Z 0-9 . _ -`, beginning with a letter or digit.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Project(Arc<str>);

/// Why a text is not a project name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{0}' is not a project name; use 1 to 64 of a-z A-Z 0-9 . _ - and begin with a letter or digit"
)]
pub struct ProjectError(String);

/// What a principal may do. Scopes do not imply each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Read events, tasks and status.
    Read,
    /// Publish events of one's own.
    Publish,
    /// Start and stop tasks.
    Run,
    /// Rotate tokens, stop the daemon, change the fleet.
    Admin,
}

/// A caller whose identity the daemon has verified.
///
/// `projects` empty means every project (the owner); otherwise only those named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    pub id: PrincipalId,
    pub projects: Vec<Project>,
    pub scopes: Vec<Scope>,
    /// The tools it may call, as far as its scopes go.
    pub tools: ToolSets,
}

impl Project {
    /// The project of everything that names none.
    pub fn default_project() -> Self {
        Self(Arc::from("default"))
    }

    /// Checks and takes a project name.
    pub fn parse(text: &str) -> Result<Self, ProjectError> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        let begins_well = text.starts_with(|c: char| c.is_ascii_alphanumeric());
        if begins_well && text.len() <= 64 && text.chars().all(allowed) {
            Ok(Self(Arc::from(text)))
        } else {
            Err(ProjectError(text.chars().take(64).collect()))
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Project {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for Project {
    type Error = ProjectError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text)
    }
}

impl From<Project> for String {
    fn from(project: Project) -> Self {
        project.0.as_ref().to_owned()
    }
}

impl Principal {
    /// The user whose daemon this is: every project, every scope.
    pub fn owner() -> Self {
        Self {
            id: Arc::from("owner"),
            projects: Vec::new(),
            scopes: vec![Scope::Read, Scope::Publish, Scope::Run, Scope::Admin],
            tools: ToolSets::ALL,
        }
    }

    /// Whether this principal may see and touch things of `project`.
    pub fn sees(&self, project: &Project) -> bool {
        self.projects.is_empty() || self.projects.contains(project)
    }

    pub fn may(&self, scope: Scope) -> bool {
        self.scopes.contains(&scope)
    }

    /// The project that a thing of this principal's belongs to when it names none.
    pub fn home_project(&self) -> Project {
        self.projects.first().cloned().unwrap_or_else(Project::default_project)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_principal_sees_only_its_projects() {
        let blue = Project::parse("blue").unwrap();
        let mut principal = Principal::owner();
        assert!(principal.sees(&blue));
        principal.projects = vec![Project::parse("red").unwrap()];
        assert!(!principal.sees(&blue));
        assert_eq!(principal.home_project().as_str(), "red");
    }

    #[test]
    fn project_names_are_plain() {
        assert!(Project::parse("web-1.api_2").is_ok());
        for bad in ["", "-a", "a/b", "a b", "ü", &"x".repeat(65)] {
            assert!(Project::parse(bad).is_err(), "{bad} must be refused");
        }
    }
}
