//! Tools about files: send them to a member, receive them from one.

use std::time::Duration;

use tokio::time::Instant;

use super::{About, Context, Failure, Hints, Reply, Tool, row};
use crate::fleet::{FleetError, ReceiveSpec, SendSpec, TransferError};
use crate::model::{Scope, TaskState, Transfer};
use crate::wire::tools::{ReceiveFiles, SendFiles, TransferResult};

/// Pause between two words of progress to a waiting caller.
const PROGRESS_EVERY: Duration = Duration::from_secs(5);

pub fn rows() -> [Tool; 2] {
    let hints = Hints { read_only: false, destructive: true, idempotent: true, open_world: true };
    let send = About {
        name: "send_files",
        title: "Send files",
        description: "Copies files, folders and patterns of this machine into a member's work \
            folder, replacing what has their names. Hashes are compared on both sides, each file \
            appears whole or not at all, and a cut is gone on from. With async it returns a \
            stream_id at once and the end comes as an event.",
        scope: Scope::Run,
        hints,
    };
    let receive = About {
        name: "receive_files",
        title: "Receive files",
        description: "Copies files, folders and patterns of a member's work folder into a folder \
            of this machine, replacing what has their names. Like send_files in all else.",
        scope: Scope::Run,
        hints,
    };
    [row(send, send_files), row(receive, receive_files)]
}

async fn send_files(context: Context, asked: SendFiles) -> Result<Reply<TransferResult>, Failure> {
    let (fleet, principal) = (&context.deps.fleet, context.principal());
    let (id, name) = (asked.member_id.as_deref(), asked.member_name.as_deref());
    let handle = fleet.roster().resolve(principal, id, name)?;
    let spec = SendSpec {
        paths: asked.local_paths,
        dest: asked.dest_subdir.unwrap_or_default(),
        substitutions: asked.substitutions,
        project: principal.home_project(),
    };
    let transfer = fleet.send(principal, handle, spec).await?;
    settled(&context, transfer, asked.run_async).await
}

async fn receive_files(
    context: Context,
    asked: ReceiveFiles,
) -> Result<Reply<TransferResult>, Failure> {
    let (fleet, principal) = (&context.deps.fleet, context.principal());
    let (id, name) = (asked.member_id.as_deref(), asked.member_name.as_deref());
    let handle = fleet.roster().resolve(principal, id, name)?;
    let spec = ReceiveSpec {
        paths: asked.remote_paths,
        dest: asked.local_dest_dir,
        project: principal.home_project(),
    };
    let transfer = fleet.receive(principal, handle, spec).await?;
    settled(&context, transfer, asked.run_async).await
}

/// What the caller is told: at once, or when it has ended.
async fn settled(
    context: &Context,
    transfer: Transfer,
    at_once: bool,
) -> Result<Reply<TransferResult>, Failure> {
    let transfer = if at_once { transfer } else { wait(context, transfer).await? };
    match transfer.state {
        TaskState::Running | TaskState::Completed => {
            let value = TransferResult::from(&transfer);
            let text = Some(text(&value));
            Ok(Reply { value, text, failed: false })
        }
        _ => {
            let reason = transfer.reason.unwrap_or_default();
            let problem = transfer.problem.unwrap_or_default();
            Err(FleetError::from(TransferError::Told { reason, problem }).into())
        }
    }
}

/// The transfer when it has ended; as it is, once nobody waits for it any more.
async fn wait(context: &Context, begun: Transfer) -> Result<Transfer, Failure> {
    let (fleet, principal, since) = (&context.deps.fleet, context.principal(), Instant::now());
    let ended = fleet.wait_transfer(principal, begun.id);
    tokio::pin!(ended);
    loop {
        tokio::select! {
            biased;
            transfer = &mut ended => return Ok(transfer?),
            () = context.done_waiting() => {
                return Ok(fleet.find_transfer(principal, begun.id).await?.unwrap_or(begun));
            }
            () = tokio::time::sleep(PROGRESS_EVERY) => {
                let now = fleet.find_transfer(principal, begun.id).await?;
                let (done, total) = now.map_or((0, 0), |now| (now.done.bytes, now.total.bytes));
                let seconds = since.elapsed().as_secs();
                let said = format!("{done} of {total} bytes ({seconds} s)");
                context.progress.tell(said).await;
            }
        }
    }
}

fn text(result: &TransferResult) -> String {
    let TransferResult { stream_id, status, member, transfer } = result;
    let (done, total) = (transfer.done, transfer.total);
    let mut text = match status.as_str() {
        "started" => format!("Started: stream_id {stream_id}"),
        _ => format!("{} files, {} bytes: {status} ({member})", done.files, done.bytes),
    };
    if status == "started" && total.files > 0 {
        text.push_str(&format!(", {} of {} bytes", done.bytes, total.bytes));
    }
    for name in &transfer.skipped {
        text.push_str("\nskipped ");
        text.push_str(name);
    }
    text
}
