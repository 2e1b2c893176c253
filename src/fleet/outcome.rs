//! What a run's directory says about its end, and what follows from it.

use std::io;

use super::admit::next_plan;
use super::output;
use super::plan::{Cause, Count, Pids, Plan, Status};
use super::process::Boot;
use super::rundir::RunDir;
use super::state::{Known, Outcome};
use crate::model::{Exit, OutputStream, Timestamp};

/// The plan of the run that follows one that never began, or a failure if that
/// was asked for.
pub fn retry(dir: &RunDir, outcome: &Outcome) -> Option<Plan> {
    let Known::Status(status) = &outcome.known else { return None };
    if dir.has("unbegun") {
        return dir.plan().ok().filter(|_| !dir.has("stop"));
    }
    let failed = match (status.cause, status.exit) {
        (None, exit) => exit != Some(Exit::Code(0)),
        // A limit on the whole is a limit on all runs; what cannot start will
        // not start the next time.
        (Some(cause), _) => matches!(cause, Cause::Inactivity | Cause::Stalled),
    };
    if !failed || (dir.has("stop") && !dir.has("stop.stalled")) {
        return None;
    }
    dir.spec().ok().filter(|plan| plan.retries > 0).map(|plan| next_plan(&plan))
}

/// How a run in `dir` ended that will not go on.
pub fn conclusion(dir: &RunDir, known: io::Result<Option<Status>>) -> Outcome {
    match known {
        Ok(Some(status)) => {
            let failed = status.exit != Some(Exit::Code(0));
            Outcome {
                reason: reason(dir, &status),
                stdout_bytes: status.stdout.written(),
                stderr_bytes: status.stderr.written(),
                last_lines: output::last_lines(dir, failed),
                prompt: None,
                known: Known::Status(status),
            }
        }
        Ok(None) => unknown(dir, why_unknown(dir)),
        Err(error) => unknown(dir, format!("its status cannot be read: {error}")),
    }
}

/// The outcome of a run that was never begun and never will be.
pub fn never_began(detail: String) -> Outcome {
    let status = Status {
        exit: None,
        cause: Some(Cause::NotStarted),
        detail: Some(detail.clone()),
        pid: None,
        started_ms: None,
        ended_ms: Timestamp::now().millis(),
        duration_ms: 0,
        stdout: Count::default(),
        stderr: Count::default(),
    };
    Outcome {
        known: Known::Status(status),
        reason: Some(detail),
        stdout_bytes: 0,
        stderr_bytes: 0,
        last_lines: Vec::new(),
        prompt: None,
    }
}

/// The outcome of a run that somebody's death kept from beginning: it is certain
/// that it never will. A task whose caller holds its id goes on with another run.
///
/// At most once is about executions, and there was none. What decides is whether
/// the caller has an answer: one who was given the id waits for the end, and
/// would wait in vain; one who got none may have asked again, or given up, so
/// nothing begins behind his back, and `failed` says truly that nothing ran.
pub fn unbegun(dir: &RunDir, detail: String) -> Outcome {
    if dir.is_promised().unwrap_or(false) && dir.mark("unbegun").is_ok() {
        tracing::info!(run = %dir.name(), "a run that never began is replaced by another");
    }
    never_began(detail)
}

/// The outcome of a run of which nobody can say how it ended.
pub fn unknown(dir: &RunDir, reason: String) -> Outcome {
    let bytes = |stream| {
        let (kept, cut) = dir.counts(stream);
        kept + cut
    };
    Outcome {
        known: Known::Nothing,
        reason: Some(reason),
        stdout_bytes: bytes(OutputStream::Stdout),
        stderr_bytes: bytes(OutputStream::Stderr),
        last_lines: output::last_lines(dir, true),
        prompt: None,
    }
}

fn why_unknown(dir: &RunDir) -> String {
    let rebooted = |pids: &Pids| Boot::current().is_ok_and(|boot| boot != pids.boot);
    match dir.pids().ok().flatten() {
        None => String::from("its supervisor never reported"),
        Some(pids) if rebooted(&pids) => String::from("the member was rebooted while it ran"),
        Some(Pids { command: Some(pid), .. }) => format!(
            "its supervisor was killed; the command was process {pid} and may still be running"
        ),
        Some(_) => String::from("its supervisor was killed"),
    }
}

fn reason(dir: &RunDir, status: &Status) -> Option<String> {
    let limit = |pick: fn(&Plan) -> Option<u64>| {
        let millis = dir.spec().ok().and_then(|plan| pick(&plan)).unwrap_or(0);
        format!("{} s", millis as f64 / 1000.0)
    };
    let why = match status.cause? {
        Cause::Stopped => String::from("stopped on request"),
        Cause::Inactivity => format!("ended after {} without output", limit(|p| p.inactivity_ms)),
        Cause::Stalled => {
            let after = limit(|plan| plan.stall.as_ref().map(|stall| stall.after_ms));
            format!("stalled: no sign of life for {after}")
        }
        Cause::Total => format!("ended after {} in all", limit(|p| p.total_ms)),
        Cause::NotStarted => status.detail.clone().unwrap_or_else(|| String::from("not started")),
    };
    match status.exit {
        None if status.pid.is_some() => Some(format!("{why}; it outlived even KILL")),
        _ => Some(why),
    }
}
