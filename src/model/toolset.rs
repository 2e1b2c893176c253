//! Sets of tools: what a client is offered at an address, and what a token is
//! narrowed to.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A named set of tools.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum ToolSet {
    /// What a client is offered that asks for nothing else.
    Default,
    /// Every tool there is.
    All,
    /// Commands as tasks: begin, look at, stop.
    Task,
    /// Events: read, wait, publish.
    Event,
    /// The fleet and the daemon themselves.
    Fleet,
    /// Members: register, look at, change, remove.
    Member,
    /// Files: send, receive.
    File,
}

/// Several sets at once: the tools that are in any of them.
///
/// Small enough to travel inside a session id, so a set keeps its bit for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<ToolSet>", into = "Vec<ToolSet>")]
pub struct ToolSets(u32);

/// Why a text names no set.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ToolSetError {
    #[error("there is no tool set '{0}'; the sets are {all}", all = names(&ToolSet::EVERY))]
    Unknown(String),
    #[error("no tool set is named; the sets are {all}", all = names(&ToolSet::EVERY))]
    None,
}

impl ToolSet {
    /// Every set, in the order in which people are told of them.
    pub const EVERY: [Self; 7] =
        [Self::Default, Self::All, Self::Task, Self::Event, Self::Fleet, Self::Member, Self::File];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::All => "all",
            Self::Task => "task",
            Self::Event => "event",
            Self::Fleet => "fleet",
            Self::Member => "member",
            Self::File => "file",
        }
    }

    /// Never given to another set: ids of sessions hold it.
    const fn bit(self) -> u32 {
        1 << match self {
            Self::Default => 0,
            Self::All => 1,
            Self::Task => 2,
            Self::Event => 3,
            Self::Fleet => 4,
            Self::Member => 5,
            Self::File => 6,
        }
    }
}

impl ToolSets {
    pub const DEFAULT: Self = Self(ToolSet::Default.bit());
    pub const ALL: Self = Self(ToolSet::All.bit());

    /// The same and one more.
    pub const fn with(self, set: ToolSet) -> Self {
        Self(self.0 | set.bit())
    }

    /// Whether the two have a set in common.
    pub const fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// The sets, in the order of [`ToolSet::EVERY`].
    pub fn sets(self) -> impl Iterator<Item = ToolSet> {
        ToolSet::EVERY.into_iter().filter(move |set| self.0 & set.bit() != 0)
    }

    /// Of several; `None` if there is none.
    pub fn of(sets: impl IntoIterator<Item = ToolSet>) -> Option<Self> {
        let bits = sets.into_iter().fold(0, |bits, set| bits | set.bit());
        (bits != 0).then_some(Self(bits))
    }

    pub const fn to_bits(self) -> u32 {
        self.0
    }

    /// What bits of [`ToolSets::to_bits`] stand for; `None` if one is of no set.
    pub fn from_bits(bits: u32) -> Option<Self> {
        Self::of(ToolSet::EVERY).filter(|every| bits != 0 && bits & !every.0 == 0)?;
        Some(Self(bits))
    }
}

impl FromStr for ToolSet {
    type Err = ToolSetError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = Self::EVERY.into_iter().find(|set| set.name() == text);
        found.ok_or_else(|| ToolSetError::Unknown(text.chars().take(64).collect()))
    }
}

impl TryFrom<String> for ToolSet {
    type Error = ToolSetError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<ToolSet> for String {
    fn from(set: ToolSet) -> Self {
        set.name().to_owned()
    }
}

impl FromStr for ToolSets {
    type Err = ToolSetError;

    /// Reads names with commas between them.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let names = text.split(',').map(str::trim).filter(|name| !name.is_empty());
        let sets: Vec<ToolSet> = names.map(str::parse).collect::<Result<_, _>>()?;
        Self::of(sets).ok_or(ToolSetError::None)
    }
}

impl fmt::Display for ToolSets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.sets().map(ToolSet::name).collect();
        f.write_str(&names.join(","))
    }
}

impl TryFrom<Vec<ToolSet>> for ToolSets {
    type Error = ToolSetError;

    fn try_from(sets: Vec<ToolSet>) -> Result<Self, Self::Error> {
        Self::of(sets).ok_or(ToolSetError::None)
    }
}

impl From<ToolSets> for Vec<ToolSet> {
    fn from(sets: ToolSets) -> Self {
        sets.sets().collect()
    }
}

fn names(sets: &[ToolSet]) -> String {
    let names: Vec<_> = sets.iter().map(|set| set.name()).collect();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_are_read_and_written_by_name_and_kept_in_bits() {
        let sets: ToolSets = "event, task".parse().unwrap();
        assert_eq!(sets.to_string(), "task,event");
        assert_eq!(ToolSets::from_bits(sets.to_bits()), Some(sets));
        assert!(sets.meets(ToolSets::of([ToolSet::Event]).unwrap()));
        assert!(!sets.meets(ToolSets::DEFAULT) && !sets.meets(ToolSets::ALL));
        assert_eq!(serde_json::to_string(&sets).unwrap(), r#"["task","event"]"#);
        assert_eq!(serde_json::from_str::<ToolSets>(r#"["event","task"]"#).unwrap(), sets);
        for bad in ["", ",", "tasks", "task,nope"] {
            assert!(bad.parse::<ToolSets>().is_err(), "{bad}");
        }
        assert!(serde_json::from_str::<ToolSets>("[]").is_err());
        assert_eq!((ToolSets::from_bits(0), ToolSets::from_bits(1 << 31)), (None, None));
    }

    #[test]
    fn every_set_has_a_bit_and_a_name_of_its_own() {
        for (at, set) in ToolSet::EVERY.into_iter().enumerate() {
            assert_eq!(set.name().parse(), Ok(set));
            for other in &ToolSet::EVERY[..at] {
                assert!(other.bit() != set.bit() && other.name() != set.name());
            }
        }
    }
}
