//! An answer that survives its connection: the calls speak into a log, and the
//! POST's stream, or the one that resumes it, reads from there.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::{Stream, stream};
use http::{Response, StatusCode};
use serde_json::{Value, json};
use tokio::time::{Instant, Interval, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{Calls, stream_response};
use crate::mcp::McpBody;
use crate::mcp::engine::Said;
use crate::mcp::frames;
use crate::mcp::push::KEEP_ALIVE;
use crate::mcp::refusal::{Refusal, code};
use crate::mcp::replies::{Log, Reader, Replies};
use crate::mcp::revision::Revision;
use crate::mcp::session::Nonce;
use crate::mcp::shares::Share;
use crate::model::{ErrorCode, PrincipalId};

/// Where calls go on when their connection is lost.
#[derive(Clone)]
pub struct Detached {
    pub tracker: TaskTracker,
    pub replies: Arc<Replies>,
    pub principal: PrincipalId,
    pub session: Nonce,
    /// The request, if it is only one.
    pub asked: Option<Value>,
    pub revision: Revision,
    /// The daemon goes down.
    pub closing: CancellationToken,
}

/// Lets the calls speak into a log, and answers with its reader.
pub fn logged(
    calls: Calls,
    early: Vec<Bytes>,
    hung_up: bool,
    detached: Detached,
) -> Option<Response<McpBody>> {
    let Detached { tracker, replies, principal, session, asked, closing, .. } = detached;
    let log = replies.begin(&principal, session, asked.as_ref());
    // Nothing was given out yet, so there is no better place than the beginning.
    let reader = log.read_after(0)?;
    for message in early {
        replies.say(&log, message);
    }
    if hung_up {
        log.hang_up();
    }
    let mut first = Vec::from(frames::OPEN);
    if calls.can_resume() {
        frames::push_reply_priming(&mut first, &log.place(0));
    }
    tracker.spawn(async move {
        pump(calls, &replies, &log).await;
        let (number, time) = (log.number, log.time());
        // It is held by whoever keeps it, so that it is free when they let it go.
        drop(log);
        tokio::select! {
            () = time.over() => {}
            () = closing.cancelled() => {}
        }
        replies.forget(number);
    });
    Some(stream_response(read_out(reader, first, None)))
}

/// A stream that goes on where another one broke.
pub fn resumed(reader: Reader, permit: Share) -> Response<McpBody> {
    stream_response(read_out(reader, Vec::from(frames::OPEN), Some(permit)))
}

/// A stream that says only that the answer to the request `id` is lost.
pub fn lost(id: &Value) -> Response<McpBody> {
    let problem = "the answer is not held any more, since fleetd was started anew or it is long \
                   ago, and whether the call was carried out is not known: look with list_tasks \
                   or list_events before you call again";
    let error = Refusal {
        data: Some(json!({ "code": ErrorCode::UnknownOutcome.as_str() })),
        ..Refusal::new(StatusCode::OK, code::INTERNAL, problem)
    };
    let mut out = Vec::from(frames::OPEN);
    frames::push_message(&mut out, &error.with_id(Some(id)).body());
    stream_response(stream::once(std::future::ready(out.into())))
}

async fn pump(mut calls: Calls, replies: &Replies, log: &Log) {
    let hurry = calls.hurry.clone();
    let abandoned = log.abandoned();
    tokio::pin!(abandoned);
    loop {
        tokio::select! {
            biased;
            said = calls.next() => match said {
                Some(Said::Notification(body) | Said::Reply { body, .. }) => {
                    replies.say(log, body);
                }
                Some(Said::HangUp) if calls.can_resume() => log.hang_up(),
                Some(Said::HangUp) => {}
                None => break,
            },
            () = &mut abandoned, if !hurry.is_cancelled() => hurry.cancel(),
        }
    }
    log.finish();
}

struct Reading {
    reader: Reader,
    first: Option<Bytes>,
    keep_alive: Interval,
    /// Counts the stream while it is open.
    _permit: Option<Share>,
}

fn read_out(
    reader: Reader,
    first: Vec<u8>,
    permit: Option<Share>,
) -> impl Stream<Item = Bytes> + Send + 'static {
    let mut keep_alive = tokio::time::interval_at(Instant::now() + KEEP_ALIVE, KEEP_ALIVE);
    keep_alive.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let reading = Reading { reader, first: Some(first.into()), keep_alive, _permit: permit };
    stream::unfold(reading, |mut reading| async move {
        let bytes = reading.next().await?;
        Some((bytes, reading))
    })
}

impl Reading {
    async fn next(&mut self) -> Option<Bytes> {
        if let Some(first) = self.first.take() {
            return Some(first);
        }
        let (seq, message) = tokio::select! {
            biased;
            said = self.reader.next() => said?,
            _ = self.keep_alive.tick() => return Some(Bytes::from_static(frames::KEEP_ALIVE)),
        };
        self.keep_alive.reset();
        let mut out = Vec::with_capacity(message.len() + 64);
        frames::push_reply(&mut out, &self.reader.log().place(seq), &message);
        Some(out.into())
    }
}
