//! The members there are: today the machine that the daemon runs on.

use sysinfo::System;

use super::{Fleet, Inner};
use crate::model::{MemberId, Timestamp};

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
            running: book.busy(MemberId::LOCAL).0,
            queued: book.busy(MemberId::LOCAL).1,
            load_1m: System::load_average().ok().map(|load| load.one),
            memory_used: memory.map(|(used, _)| used),
            memory_total: memory.map(|(_, total)| total),
        }
    }
}
