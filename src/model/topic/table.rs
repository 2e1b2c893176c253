//! The table of topics itself: every name, and every field of its data.

use serde::Serialize;

use crate::model::Severity;

/// One row of the table: what a topic means and what its data holds.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct TopicSpec {
    pub name: &'static str,
    /// The shape of `subject`.
    pub subject: &'static str,
    pub severity: Severity,
    pub meaning: &'static str,
    /// Fields of `data`: name and meaning.
    pub data: &'static [(&'static str, &'static str)],
    /// A signal has no position and is never replayed.
    pub signal: bool,
}

const fn fact(
    name: &'static str,
    subject: &'static str,
    severity: Severity,
    meaning: &'static str,
    data: &'static [(&'static str, &'static str)],
) -> TopicSpec {
    TopicSpec { name, subject, severity, meaning, data, signal: false }
}

const TASK_END: &[(&str, &str)] = &[
    ("task_id", "the task"),
    ("run_id", "the run that ended"),
    ("member", "where it ran"),
    ("state", "completed, failed, cancelled or unknown"),
    ("exit_code", "0 to 255; null if a signal ended it or it is not known"),
    ("signal", "the number of the signal that ended it, or null"),
    ("signal_possible", "with an exit_code that a shell told: the signal it may stand for"),
    ("reason", "why fleetd ended it, or why the outcome is unknown; absent otherwise"),
    ("duration_ms", "milliseconds from start to end"),
    ("stdout_bytes", "bytes the command wrote to stdout, those cut by the cap included"),
    ("stderr_bytes", "the same for stderr"),
    ("last_lines", "the last lines of output, foreign text"),
    (
        "prompt",
        "of a prompt alone: response (foreign, bounded), truncated, usage, cost_usd, session_id, \
         turns, is_error, reason, message",
    ),
];

const TRANSFER: &[(&str, &str)] = &[
    ("task_id", "the transfer's stream_id"),
    ("member", "the other machine"),
    ("direction", "send or receive"),
    ("files", "files that are in their place"),
    ("bytes", "their bytes"),
    ("total_files", "files there are to copy"),
    ("total_bytes", "their bytes"),
    ("skipped", "names that were passed over: links, devices and what cannot be named"),
    ("duration_ms", "milliseconds from start to end"),
    (
        "reason",
        "stopped, interrupted (by the daemon's end), mismatch, changed, outside, quota, unreachable, not_found or io; absent if it completed",
    ),
    ("problem", "the same for people, foreign text; absent if it completed"),
];

/// Every topic that this daemon can produce today, in the order people read it.
/// `fleetctl events --types`, the MCP event list and the docs come from here.
pub const TOPICS: &[TopicSpec] = &[
    fact(
        "fleet.started",
        "fleet",
        Severity::Info,
        "the daemon is ready",
        &[
            ("version", "the daemon's version"),
            ("instance", "the daemon's instance id"),
            ("pid", "its process id"),
        ],
    ),
    fact(
        "fleet.stopping",
        "fleet",
        Severity::Info,
        "the daemon is going down",
        &[("reason", "signal or request"), ("running_tasks", "tasks that go on without it")],
    ),
    fact(
        "fleet.recovered",
        "fleet",
        Severity::Warning,
        "the daemon came back after a crash or a damaged store",
        &[
            ("reason", "unclean_stop or store_regressed"),
            ("lost_from", "first position that is no longer there, or null"),
            ("lost_to", "last position that is no longer there, or null"),
            ("set_aside", "where the remains of an earlier journal are kept, or null"),
            ("adopted_tasks", "tasks found running and watched again"),
            ("settled_tasks", "tasks whose end was found and told"),
            ("unknown_tasks", "tasks whose end cannot be known"),
        ],
    ),
    fact(
        "fleet.degraded",
        "fleet",
        Severity::Error,
        "the journal had to be reopened after a failed write, or a request met a defect",
        &[("reason", "what failed")],
    ),
    fact(
        "member.registered",
        "member/<name>",
        Severity::Info,
        "a member was registered, after it was reached",
        &[
            ("member_id", "the member"),
            ("member", "its name"),
            ("type", "local or remote"),
            ("host", "where it is reached; null for a local one"),
            ("os", "linux or macos"),
            ("work_folder", "where work begins"),
            ("fingerprint", "of its host key; null for a local one"),
        ],
    ),
    fact(
        "member.updated",
        "member/<name>",
        Severity::Info,
        "settings of a member changed",
        &[
            ("member_id", "the member"),
            ("member", "its name"),
            ("changed", "names of the settings that changed"),
            ("previous_name", "what it was called before; null if that stayed"),
        ],
    ),
    fact(
        "member.removed",
        "member/<name>",
        Severity::Info,
        "a member was removed from the fleet",
        &[("member_id", "the member"), ("member", "its name")],
    ),
    fact(
        "member.online",
        "member/<name>",
        Severity::Notice,
        "a member can be reached again",
        &[
            ("member_id", "the member"),
            ("member", "its name"),
            ("since", "since when, RFC 3339"),
            ("offline_ms", "milliseconds that it was offline"),
        ],
    ),
    fact(
        "member.offline",
        "member/<name>",
        Severity::Warning,
        "a member can no longer be reached; its tasks go on",
        &[
            ("member_id", "the member"),
            ("member", "its name"),
            ("since", "since when, RFC 3339"),
            (
                "cause",
                "unreachable, lost, auth, hostkey_unknown, hostkey_changed, hostkey_revoked, hostile or config",
            ),
            ("reason", "the same for people"),
        ],
    ),
    fact(
        "member.rebooted",
        "member/<name>",
        Severity::Warning,
        "a member is back with another boot identity: what ran there has ended",
        &[("member_id", "the member"), ("member", "its name")],
    ),
    fact(
        "member.hostkey_changed",
        "member/<name>",
        Severity::Error,
        "a member shows another host key than the trusted one and is not used until somebody trusts it",
        &[
            ("member_id", "the member"),
            ("member", "its name"),
            ("known", "fingerprints that are trusted"),
            ("offered", "type and fingerprint of the key it shows"),
        ],
    ),
    fact(
        "task.queued",
        "task/<id>",
        Severity::Info,
        "a task waits for a free place on its member",
        &[
            ("task_id", "the task"),
            ("member", "where it will run"),
            ("position", "its place in the queue, from 1"),
        ],
    ),
    fact(
        "task.started",
        "task/<id>",
        Severity::Info,
        "the command is running",
        &[
            ("task_id", "the task"),
            ("run_id", "this attempt"),
            ("member", "where it runs"),
            ("command", "the command, shortened to 256 characters"),
            ("pid", "the command's process id"),
        ],
    ),
    TopicSpec {
        name: "task.output",
        subject: "task/<id>",
        severity: Severity::Debug,
        meaning: "partial output; a signal: no position, may be dropped, read back by offset",
        data: &[
            ("task_id", "the task"),
            ("stream", "stdout or stderr; text: what a prompt's model says"),
            ("offset", "bytes of the stream before this text"),
            ("text", "foreign text; bytes that are not UTF-8 shown as U+FFFD"),
        ],
        signal: true,
    },
    TopicSpec {
        name: "task.progress",
        subject: "task/<id>",
        severity: Severity::Debug,
        meaning: "a prompt's model calls a tool; a signal: no position, may be dropped",
        data: &[
            ("task_id", "the task"),
            ("tool_id", "the call"),
            ("tool", "the tool's name, where it begins"),
            ("summary", "what it was called with, shortened; foreign text"),
            ("state", "begun, done or failed"),
        ],
        signal: true,
    },
    fact(
        "task.stalled",
        "task/<id>",
        Severity::Warning,
        "the command shows no sign of life: no output, no CPU use, no growth of a transcript",
        &[
            ("task_id", "the task"),
            ("run_id", "the run"),
            ("member", "where it runs"),
            ("silent_s", "seconds since the last sign of life"),
            ("cpu_s", "CPU seconds its processes have used in all; null if not known"),
            ("stdout_offset", "bytes of stdout that are held, to read on from"),
            ("stderr_offset", "the same for stderr"),
            ("last_lines", "the last lines of output, foreign text"),
            ("action", "tell: it is left alone; stop: it is being stopped"),
        ],
    ),
    fact(
        "task.unreachable",
        "task/<id>",
        Severity::Warning,
        "the link to the member was cut while the command ran; it goes on, and is looked for",
        &[
            ("task_id", "the task"),
            ("run_id", "the run"),
            ("member", "where it runs"),
            ("reason", "what became of the link"),
        ],
    ),
    fact(
        "task.resumed",
        "task/<id>",
        Severity::Info,
        "the command shows life again, or its member is back and it still runs",
        &[
            ("task_id", "the task"),
            ("run_id", "the run"),
            ("member", "where it runs"),
            ("after", "what it was told as before: stalled or unreachable"),
            ("silent_s", "seconds without a sign of life; absent after unreachable"),
        ],
    ),
    fact(
        "task.completed",
        "task/<id>",
        Severity::Info,
        "the command ended with status 0",
        TASK_END,
    ),
    fact(
        "task.failed",
        "task/<id>",
        Severity::Notice,
        "the command ended otherwise, or never ran",
        TASK_END,
    ),
    fact(
        "task.cancelled",
        "task/<id>",
        Severity::Info,
        "the task was stopped on request",
        TASK_END,
    ),
    fact(
        "task.unknown",
        "task/<id>",
        Severity::Warning,
        "how the task ended cannot be known",
        TASK_END,
    ),
    TopicSpec {
        name: "transfer.progressed",
        subject: "task/<id>",
        severity: Severity::Debug,
        meaning: "how far a transfer is; a signal: no position, may be dropped, at most 20 a second",
        data: &[
            ("task_id", "the transfer's stream_id"),
            ("member", "the other machine"),
            ("direction", "send or receive"),
            ("files", "files that are in their place"),
            ("bytes", "bytes that have arrived, those of files under way included"),
            ("total_files", "files there are to copy"),
            ("total_bytes", "their bytes"),
            ("current", "the file under way, foreign text; null between files"),
            ("waiting", "what it waits for; null while it goes on"),
        ],
        signal: true,
    },
    fact(
        "transfer.completed",
        "task/<id>",
        Severity::Info,
        "all files have arrived, their hashes are equal on both sides",
        TRANSFER,
    ),
    fact(
        "transfer.failed",
        "task/<id>",
        Severity::Notice,
        "a transfer ended before that, or was stopped; what had arrived whole stays",
        TRANSFER,
    ),
];
