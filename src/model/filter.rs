//! Which events a subscription is about.

use std::fmt;
use std::str::FromStr;

use super::{Principal, Project, Severity};

/// A topic pattern: `*` stands for one segment, a final `>` for one or more.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Pattern(String);

/// Why a filter cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    #[error("'{0}' is not a topic pattern; write task.completed, task.* or task.>")]
    Pattern(String),
    #[error("a filter takes at most {MAX_TERMS} {what}")]
    TooMany { what: &'static str },
}

/// More terms than any person writes, few enough that a check stays cheap.
const MAX_TERMS: usize = 64;

/// A predicate over events. Empty lists admit everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Any of these patterns.
    pub types: Vec<Pattern>,
    /// Exactly one of these subjects.
    pub subjects: Vec<String>,
    /// Any of these projects; set from the principal, so that nothing crosses.
    pub projects: Vec<Project>,
    /// At least this severe.
    pub severity: Option<Severity>,
}

impl Pattern {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The segments, `*` and `>` included.
    pub fn segments(&self) -> impl Iterator<Item = &str> {
        self.0.split('.')
    }

    /// Whether `topic` falls under this pattern.
    pub fn admits(&self, topic: &str) -> bool {
        let mut topic = topic.split('.');
        for segment in self.segments() {
            match (segment, topic.next()) {
                (">", Some(_)) => return true,
                ("*", Some(_)) => {}
                (literal, Some(actual)) if literal == actual => {}
                _ => return false,
            }
        }
        topic.next().is_none()
    }
}

impl FromStr for Pattern {
    type Err = FilterError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let count = text.split('.').count();
        let segment = |(at, s): (usize, &str)| match s {
            "*" => true,
            ">" => at + 1 == count,
            _ => {
                s.starts_with(|c: char| c.is_ascii_lowercase())
                    && s.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
            }
        };
        if text.len() <= 128 && count <= 8 && text.split('.').enumerate().all(segment) {
            Ok(Self(text.to_owned()))
        } else {
            Err(FilterError::Pattern(text.chars().take(64).collect()))
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Filter {
    /// Reads comma-separated patterns, as in `types=task.*,custom.>`.
    ///
    /// # Errors
    /// Names the first term that is not a pattern.
    pub fn with_types(mut self, terms: &str) -> Result<Self, FilterError> {
        for term in terms.split(',').map(str::trim).filter(|term| !term.is_empty()) {
            self.types.push(term.parse()?);
        }
        if self.types.len() > MAX_TERMS {
            return Err(FilterError::TooMany { what: "types" });
        }
        Ok(self)
    }

    /// Narrows to one more subject.
    ///
    /// # Errors
    /// If there are too many.
    pub fn with_subject(mut self, subject: impl Into<String>) -> Result<Self, FilterError> {
        self.subjects.push(subject.into());
        if self.subjects.len() > MAX_TERMS {
            return Err(FilterError::TooMany { what: "subjects" });
        }
        Ok(self)
    }

    /// Cuts the filter down to what `principal` may see.
    pub fn within(mut self, principal: &Principal) -> Self {
        if principal.projects.is_empty() {
            return self;
        }
        if self.projects.is_empty() {
            self.projects.clone_from(&principal.projects);
        } else {
            self.projects.retain(|project| principal.sees(project));
            if self.projects.is_empty() {
                // Asked only for foreign projects: nothing must match, while an
                // empty list would admit everything.
                self.subjects = vec![String::from("\u{0}none")];
                self.projects.clone_from(&principal.projects);
            }
        }
        self
    }

    /// Whether an event with these attributes passes.
    pub fn admits(&self, topic: &str, subject: &str, project: &str, severity: Severity) -> bool {
        (self.types.is_empty() || self.types.iter().any(|pattern| pattern.admits(topic)))
            && (self.subjects.is_empty() || self.subjects.iter().any(|s| s == subject))
            && (self.projects.is_empty() || self.projects.iter().any(|p| p.as_str() == project))
            && self.severity.is_none_or(|least| severity >= least)
    }

    /// Whether every event passes, so that whole batches can be handed on uncut.
    pub fn admits_all(&self) -> bool {
        self.types.is_empty()
            && self.subjects.is_empty()
            && self.projects.is_empty()
            && self.severity.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admits(pattern: &str, topic: &str) -> bool {
        pattern.parse::<Pattern>().unwrap().admits(topic)
    }

    #[test]
    fn a_star_is_one_segment_and_an_arrow_the_rest() {
        assert!(admits("task.completed", "task.completed"));
        assert!(admits("task.*", "task.completed"));
        assert!(!admits("task.*", "task.a.b"));
        assert!(admits("task.>", "task.a.b"));
        assert!(!admits("task.>", "task"));
        assert!(admits(">", "fleet.started"));
        assert!(admits("*.started", "task.started"));
        assert!(!admits("task.completed", "task.completed.x"));
    }

    #[test]
    fn nonsense_is_no_pattern() {
        for bad in ["", "task..a", ">.a", "Task.*", "task.a*", "a.>.b", "task.é"] {
            assert!(bad.parse::<Pattern>().is_err(), "{bad} must be refused");
        }
    }

    #[test]
    fn a_foreign_project_cannot_be_asked_for() {
        let red = Project::parse("red").unwrap();
        let blue = Project::parse("blue").unwrap();
        let principal = Principal { projects: vec![red.clone()], ..Principal::owner() };
        let asked = Filter { projects: vec![blue], ..Filter::default() }.within(&principal);
        assert!(!asked.admits("task.started", "task/1", "blue", Severity::Error));
        assert!(!asked.admits("task.started", "task/1", "red", Severity::Error));
        let open = Filter::default().within(&principal);
        assert!(open.admits("task.started", "task/1", "red", Severity::Debug));
        assert!(!open.admits("task.started", "task/1", "blue", Severity::Debug));
    }
}
