//! The members there are: today the machine that the daemon runs on.

use sysinfo::System;

use super::{Fleet, FleetError, Inner};
use crate::model::Timestamp;

/// How busy a member is.
#[derive(Clone, Debug, PartialEq)]
pub struct MemberReport {
    pub id: String,
    pub name: String,
    pub online: bool,
    pub since: Timestamp,
    pub running: usize,
    pub queued: usize,
    pub load_1m: Option<f64>,
    pub memory_used: Option<u64>,
    pub memory_total: Option<u64>,
}

/// The built-in member's id and name.
pub const LOCAL: &str = "local";

/// The member a caller means.
///
/// # Errors
/// [`FleetError::NoMember`].
pub fn resolve(asked: Option<&str>) -> Result<&'static str, FleetError> {
    match asked {
        None => Ok(LOCAL),
        Some(name) if name.eq_ignore_ascii_case(LOCAL) => Ok(LOCAL),
        Some(name) => Err(FleetError::NoMember(name.chars().take(64).collect())),
    }
}

impl Fleet {
    /// File descriptors that the running tasks need: a supervisor and two files each.
    pub fn descriptors(&self) -> usize {
        self.0.book().running() * 3
    }
}

impl Inner {
    /// Only load and memory are asked for: a list of all processes would take
    /// milliseconds, this takes microseconds.
    pub fn report(&self) -> MemberReport {
        let memory = System::new().ok().map(|mut system| {
            system.refresh_memory();
            (system.used_memory(), system.total_memory())
        });
        let book = self.book();
        MemberReport {
            id: LOCAL.to_owned(),
            name: LOCAL.to_owned(),
            online: true,
            since: self.since,
            running: book.running(),
            queued: book.queued(),
            load_1m: System::load_average().ok().map(|load| load.one),
            memory_used: memory.map(|(used, _)| used),
            memory_total: memory.map(|(_, total)| total),
        }
    }
}
