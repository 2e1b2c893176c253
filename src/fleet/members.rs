//! How the members are doing.

use std::sync::Arc;

use sysinfo::System;

use super::{Fleet, FleetError, Inner, MemberHandle, Standing};
use crate::model::{Member, MemberId, Principal};

/// How a member stands, and how busy it is.
#[derive(Clone, Debug, PartialEq)]
pub struct MemberReport {
    pub member: Arc<Member>,
    pub standing: Standing,
    pub running: u64,
    pub queued: u64,
    /// Of the machine that the daemon runs on.
    pub load_1m: Option<f64>,
    pub memory_used: Option<u64>,
    pub memory_total: Option<u64>,
}

impl Fleet {
    /// File descriptors that the running tasks need: a supervisor and two files each.
    pub fn descriptors(&self) -> usize {
        self.0.book().running() * 3
    }
}

impl Inner {
    /// How many commands run at once on a member: its own setting, or everybody's.
    pub fn concurrency(&self, member: MemberId) -> usize {
        let own = self.roster.get(member).ok().and_then(|handle| handle.member().concurrency);
        own.map_or_else(|| self.settings().concurrency, |own| own.max(1) as usize)
    }

    /// What is known of the members that `principal` may see. One query for all
    /// their tasks, and nobody is asked over the net.
    pub async fn report(&self, principal: &Principal) -> Result<Vec<MemberReport>, FleetError> {
        let open = self.bus.store().read(|snapshot| snapshot.open_tasks()).await?;
        let busy = |name: &str| open.iter().find(|(member, ..)| member == name);
        let memory = memory();
        let load = System::load_average().ok().map(|load| load.one);
        let handles = self.roster.list(principal);
        let report = |handle: Arc<MemberHandle>| {
            let member = handle.member();
            let (running, queued) = busy(member.name.as_str())
                .map_or((0, 0), |(_, running, queued)| (*running, *queued));
            let here = member.id == MemberId::LOCAL;
            MemberReport {
                standing: handle.standing(),
                running,
                queued,
                load_1m: load.filter(|_| here),
                memory_used: memory.map(|(used, _)| used).filter(|_| here),
                memory_total: memory.map(|(_, total)| total).filter(|_| here),
                member,
            }
        };
        Ok(handles.into_iter().map(report).collect())
    }
}

/// Only load and memory are asked for: a list of all processes would take
/// milliseconds, this takes microseconds.
fn memory() -> Option<(u64, u64)> {
    let mut system = System::new().ok()?;
    system.refresh_memory();
    Some((system.used_memory(), system.total_memory()))
}
