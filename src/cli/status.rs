//! `status`: the daemon, its journal, its members.

use std::time::Duration;

use clap::Args;
use serde_json::json;

use super::output::{Output, Style};
use super::{Cx, Outcome, exit, quote, table};
use crate::client::ClientError;
use crate::model::Timestamp;
use crate::wire::tools::{FleetStatus, MemberStatus, NoArguments, TaskView};

/// Show the daemon, its journal, its members and what they are doing.
///
/// Ends with 69 if fleetd is not running, or frozen.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  fleetctl status\n  fleetctl status --json | jq -r .url")]
pub struct Status {
    /// Print JSON, with at least "pid" and "url".
    #[arg(long)]
    json: bool,
}

/// A daemon that has not answered by then is called frozen.
const PATIENCE: Duration = Duration::from_secs(2);

impl Status {
    pub async fn handle(self, cx: &Cx) -> Outcome {
        let client = cx.client.clone().with_patience(PATIENCE);
        let outcome = client.call_tool::<_, FleetStatus>("fleet_status", &NoArguments {}).await;
        match outcome {
            Ok(status) if self.json => cx.out.json(&status)?,
            Ok(status) => cx.out.print(&rendered(&status, &cx.out))?,
            Err(error) if self.json => {
                // A script that reads this wants one form for both answers.
                let (state, pid) = match &error {
                    ClientError::Frozen { pid, .. } => ("frozen", *pid),
                    ClientError::NotRunning | ClientError::Impostor { .. } => ("not_running", None),
                    _ => return Err(error.into()),
                };
                cx.out.json(&json!({"state": state, "pid": pid, "url": null}))?;
                return Err(error.into());
            }
            Err(error) => return Err(error.into()),
        }
        Ok(exit::OK)
    }
}

fn rendered(status: &FleetStatus, out: &Output) -> String {
    let journal = &status.journal;
    let held = match (journal.events, journal.bytes) {
        (Some(events), Some(bytes)) => format!("{events} events, {}", table::bytes(bytes)),
        _ => "-".to_owned(),
    };
    let streams = status.subscriptions.map_or_else(|| "-".to_owned(), |count| count.to_string());
    let facts = table::facts(
        [
            ("fleetd", format!("{} (pid {})", status.version, status.pid)),
            ("url", status.url.clone()),
            ("up", table::duration(status.uptime_s.saturating_mul(1000))),
            ("cursor", status.cursor.clone()),
            ("journal", held),
            ("streams", streams),
        ],
        out.width(),
    );
    let members = table::table(
        &["MEMBER", "STATE", "RUNNING", "QUEUED", "LOAD", "MEMORY"],
        status.members.iter().map(member_row),
        out.width(),
    );
    let mut text = facts;
    let alarm = match (journal.full, journal.healthy) {
        (true, _) => Some("the disk is full: nothing new is stored until there is room"),
        (false, false) => Some("the journal's last write failed; is the disk sound?"),
        (false, true) => None,
    };
    if let Some(alarm) = alarm {
        let alarm = out.styled(Style::Red, alarm);
        text.push_str(&format!("\n{alarm}"));
    }
    text.push_str(&format!("\n\n{members}"));
    let tasks: Vec<_> = status.members.iter().flat_map(|member| &member.tasks).collect();
    if !tasks.is_empty() {
        let rows = tasks.into_iter().map(task_row);
        let listing = table::table(&["TASK", "STATE", "MEMBER", "COMMAND"], rows, out.width());
        text.push_str(&format!("\n\n{listing}"));
    }
    text
}

fn member_row(member: &MemberStatus) -> Vec<String> {
    let unknown = || "-".to_owned();
    let memory = match (member.memory_used_bytes, member.memory_total_bytes) {
        (Some(used), Some(total)) => format!("{} of {}", table::bytes(used), table::bytes(total)),
        _ => unknown(),
    };
    vec![
        member.name.clone(),
        member.state.clone(),
        member.running.to_string(),
        member.queued.to_string(),
        member.load_1m.map_or_else(unknown, |load| format!("{load:.2}")),
        memory,
    ]
}

fn task_row(task: &TaskView) -> Vec<String> {
    vec![
        task.task_id.clone(),
        super::task::state(task, Timestamp::now()),
        task.member.clone(),
        quote::for_people(&task.command).to_owned(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_reads_well() {
        let status: FleetStatus = serde_json::from_value(json!({
            "version": "0.1.0", "instance": "i", "pid": 4711, "started": "2026-11-20T10:00:00Z",
            "uptime_s": 3725, "url": "http://127.0.0.1:41234", "cursor": "0000002a:17",
            "journal": {"events": 17, "bytes": 5300, "healthy": true}, "subscriptions": 2,
            "members": [{"member_id": "local", "name": "local", "state": "online",
                "since": "2026-11-20T10:00:00Z", "running": 1, "queued": 0, "load_1m": 0.5,
                "memory_used_bytes": 1073741824u64, "memory_total_bytes": 8589934592u64,
                "tasks": [{"task_id": "1d0c1f5e-6d34-4c0e-8a4e-9a3c0d1c8f11", "state": "running",
                    "member": "local", "project": "default", "command": "exec make -j2",
                    "pid": 5, "created": "2026-11-20T10:00:00Z", "started": null, "ended": null,
                    "duration_ms": null, "exit_code": null, "signal": null, "reason": null,
                    "stop_requested": false, "stdout_bytes": 0, "stderr_bytes": 0}]}],
        }))
        .unwrap();
        let expected = "\
fleetd   0.1.0 (pid 4711)
url      http://127.0.0.1:41234
up       1 h 2 min
cursor   0000002a:17
journal  17 events, 5.1 KiB
streams  2

MEMBER  STATE   RUNNING  QUEUED  LOAD  MEMORY
local   online  1        0       0.50  1.0 GiB of 8.0 GiB

TASK                                  STATE    MEMBER  COMMAND
1d0c1f5e-6d34-4c0e-8a4e-9a3c0d1c8f11  running  local   make -j2";
        assert_eq!(rendered(&status, &Output::piped()), expected);
    }
}
