//! `/tasks/{id}/…`: the bytes of a task, as they are.

use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use http::{HeaderName, HeaderValue, StatusCode};

use super::auth::Caller;
use super::problem::Problem;
use super::query::Query;
use super::reply::{self, Response};
use crate::fleet::{Fleet, FleetError, OutputPage};
use crate::model::{OutputStream, Principal, TaskId};

/// Bytes read at once; what a stalled reader of output holds.
const PAGE: usize = 64 * 1024;

/// `GET /tasks/{id}/output`: what is kept of a stream from `offset` on; with
/// `follow=1` what comes later as well, until the task has ended. All of it is of
/// the run that `fleetd-run` names: if the task is tried again the body ends, and
/// whoever asks again with the old offset sees another run and begins at 0.
///
/// # Errors
/// 404 if there is no such task that the caller may see.
pub async fn output(
    fleet: &Fleet,
    caller: Caller,
    id: &str,
    query: &str,
) -> Result<Response, Problem> {
    let query = Query::parse(query, &["stream", "offset", "follow"])?;
    let stream = match query.get("stream") {
        None | Some("stdout") => OutputStream::Stdout,
        Some("stderr") => OutputStream::Stderr,
        Some(_) => return Err(Problem::invalid("stream has to be stdout or stderr")),
    };
    let follow = query.flag("follow", false)?;
    let offset = query.number("offset")?.unwrap_or(0);
    let id = task_id(id)?;
    let first = fleet
        .output(&caller.principal, id, stream, offset, PAGE)
        .await
        .map_err(|error| problem(&error))?;
    let headers = [
        ("fleetd-offset", first.offset),
        ("fleetd-kept", first.kept),
        ("fleetd-cut", first.cut),
        ("fleetd-ended", u64::from(first.ended)),
    ];
    let run = HeaderValue::try_from(first.run.to_string()).ok();
    let until = caller.until.clone();
    let reader = Reader { fleet: fleet.clone(), caller, id, stream, follow };
    let body = reader.read(first);
    let mut response = reply::streamed("application/octet-stream", body, until);
    for (name, value) in headers {
        response.headers_mut().insert(HeaderName::from_static(name), HeaderValue::from(value));
    }
    if let Some(run) = run {
        response.headers_mut().insert(HeaderName::from_static("fleetd-run"), run);
    }
    Ok(response)
}

struct Reader {
    fleet: Fleet,
    caller: Caller,
    id: TaskId,
    stream: OutputStream,
    follow: bool,
}

/// Where a reader stands between two pages.
enum Step {
    HandOut(OutputPage),
    After(OutputPage),
}

impl Reader {
    /// `first` and what follows it. A page is handed out before the next is
    /// waited for: what the command said last is not held back until it speaks again.
    fn read(self, first: OutputPage) -> impl Stream<Item = Bytes> + Send {
        let begin = (self, Step::HandOut(first));
        let pages = stream::unfold(begin, |(reader, step)| async move {
            let page = match step {
                Step::HandOut(page) => page,
                Step::After(page) => reader.after(&page).await?,
            };
            let bytes = page.bytes.clone();
            Some((bytes, (reader, Step::After(page))))
        });
        pages.filter(|bytes| std::future::ready(!bytes.is_empty()))
    }

    /// The page of the same run after `page`, waiting for it if the reader follows.
    /// `None` at the end.
    async fn after(&self, page: &OutputPage) -> Option<OutputPage> {
        let end = page.offset + page.bytes.len() as u64;
        let principal = &self.caller.principal;
        if end >= page.kept {
            if !self.follow || page.ended {
                return None;
            }
            self.fleet.output_after(principal, self.id, page.run, self.stream, end).await.ok()?;
        }
        let next = self.fleet.output(principal, self.id, self.stream, end, PAGE).await.ok()?;
        (next.run == page.run).then_some(next)
    }
}

/// `POST /tasks/{id}/input`: appends to a task's standard input.
///
/// # Errors
/// 404 if there is no such task that the caller may see.
pub async fn input(
    fleet: &Fleet,
    principal: &Principal,
    id: &str,
    query: &str,
    bytes: Bytes,
) -> Result<Response, Problem> {
    let query = Query::parse(query, &["offset", "end"])?;
    let offset = query.number("offset")?.ok_or_else(|| {
        Problem::invalid("offset is missing; it makes a repeated request harmless")
    })?;
    let end = query.flag("end", false)?;
    let held = fleet
        .input(principal, task_id(id)?, offset, bytes, end)
        .await
        .map_err(|error| problem(&error))?;
    Ok(reply::json(StatusCode::OK, &serde_json::json!({ "held": held })))
}

fn task_id(text: &str) -> Result<TaskId, Problem> {
    text.parse().map_err(|error: crate::model::TaskIdError| Problem::invalid(error.to_string()))
}

fn problem(error: &FleetError) -> Problem {
    Problem::new(error.code(), error.to_string())
}
