//! Tools about the fleet and the daemon itself.

use crate::mcp::revision::Revision;
use crate::model::{Scope, Task, TaskState, Timestamp};
use crate::store::Store;
use crate::wire::tools::{
    FleetStatus, JournalStatus, MemberStatus, MemberType, NoArguments, TaskView, VersionResult,
};

use super::member::tasks_of;
use super::{About, Context, Failure, READS, Reply, Tool, row};
use crate::fleet::MemberReport;

/// Open tasks shown, and those looked at to count a project's own.
const MOST_TASKS: usize = 100;
const MOST_COUNTED: usize = 10_000;

pub fn rows() -> [Tool; 2] {
    let status = About {
        name: "fleet_status",
        title: "Fleet status",
        description: "Members, their open tasks, and the daemon's state, now. To learn of changes \
            use wait_for_events instead of asking again.",
        scope: Scope::Read,
        hints: READS,
    };
    let version = About {
        name: "version",
        title: "Version",
        description: "Versions of fleetd, its database and the MCP revisions it speaks.",
        scope: Scope::Read,
        hints: READS,
    };
    [row(status, fleet_status), row(version, self::version)]
}

async fn fleet_status(context: Context, _: NoArguments) -> Result<Reply<FleetStatus>, Failure> {
    let deps = &context.deps;
    let open = [TaskState::Queued, TaskState::Starting, TaskState::Running];
    let principal = context.principal();
    // Totals would tell of tasks and events that the caller cannot see.
    let everything = principal.projects.is_empty() && principal.may(Scope::Admin);
    let most = if everything { MOST_TASKS } else { MOST_COUNTED };
    let tasks = deps.fleet.tasks(principal, &open, most).await?;
    let mut members = deps.fleet.members(principal).await?;
    if !everything {
        members.iter_mut().for_each(|member| narrow(member, &tasks));
    }
    let tasks = &tasks[..tasks.len().min(MOST_TASKS)];
    let store = deps.bus.store();
    let (head, now) = (store.head(), Timestamp::now());
    let status = FleetStatus {
        version: deps.identity.version.to_owned(),
        instance: deps.identity.instance.clone(),
        pid: std::process::id(),
        started: deps.identity.started.to_string(),
        uptime_s: now.millis_since(deps.identity.started) / 1000,
        url: deps.identity.url.clone(),
        cursor: head.to_string(),
        journal: JournalStatus {
            events: everything.then(|| store.events()),
            bytes: everything.then(|| store.bytes()),
            healthy: !store.is_degraded(),
            full: store.is_full(),
        },
        subscriptions: everything.then(|| deps.bus.stats().subscriptions as u64),
        members: members.into_iter().map(|member| member_status(member, tasks)).collect(),
    };
    Ok(status.into())
}

/// Leaves of a report what `tasks`, the caller's own, account for.
fn narrow(report: &mut MemberReport, tasks: &[Task]) {
    let its = tasks_of(&report.member, tasks);
    let (queued, running): (Vec<_>, Vec<_>) = its.partition(|task| task.state == TaskState::Queued);
    (report.running, report.queued) = (running.len() as u64, queued.len() as u64);
    (report.load_1m, report.memory_used, report.memory_total) = (None, None, None);
}

fn member_status(report: MemberReport, tasks: &[Task]) -> MemberStatus {
    let MemberReport { member, standing, .. } = report;
    let remote = member.remote().is_some();
    MemberStatus {
        tasks: tasks_of(&member, tasks).map(TaskView::from).collect(),
        member_id: member.id.to_string(),
        name: member.name.to_string(),
        member_type: if remote { MemberType::Remote } else { MemberType::Local },
        state: standing.state.to_owned(),
        since: standing.since.to_string(),
        last_error: standing.reason,
        running: report.running,
        queued: report.queued,
        load_1m: report.load_1m,
        memory_used_bytes: report.memory_used,
        memory_total_bytes: report.memory_total,
    }
}

async fn version(context: Context, _: NoArguments) -> Result<Reply<VersionResult>, Failure> {
    let version = VersionResult {
        version: context.deps.identity.version.to_owned(),
        sqlite: Store::sqlite_version().to_owned(),
        mcp: Revision::ALL.map(|revision| revision.as_str().to_owned()).to_vec(),
    };
    Ok(version.into())
}
