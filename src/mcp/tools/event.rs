//! Tools about events: read them, wait for them, add one.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;
use uuid::Uuid;

use crate::bus::{Delivery, Start};
use crate::model::{Cursor, Filter, Scope};
use crate::store::StoreError;
use crate::wire::tools::{
    EventsResult, GapView, ListEvents, PublishEvent, PublishEventResult, WaitForEvents,
};
use crate::wire::{decode_event, encode_event};

use super::{About, Context, Failure, Hints, READS, Reply, Tool, row};
use crate::mcp::page::{self, Page};

/// Most events that one call returns.
const MOST_EVENTS: u32 = 1000;

/// Silence after which a waiting caller is told that the wait goes on. Clients
/// give up after 60 s at the earliest; 20 s leaves room for two lost ones.
const PROGRESS_EVERY: Duration = Duration::from_secs(15);

pub fn rows() -> [Tool; 3] {
    let list = About {
        name: "list_events",
        title: "List events",
        description: "Events of the fleet, oldest first: the newest ones, or what followed a \
            cursor. Returns at once; use wait_for_events to learn of new ones.",
        scope: Scope::Read,
        // With `as` it keeps a place, which is not the world's business.
        hints: READS,
    };
    let wait = About {
        name: "wait_for_events",
        title: "Wait for events",
        description: "Waits until an event happens, and returns it; returns at once if one has \
            happened since the cursor. Use this instead of polling: give the cursor of the last \
            answer as since, and call again when timed_out is true.",
        scope: Scope::Read,
        hints: READS,
    };
    let publish = About {
        name: "publish_event",
        title: "Publish an event",
        description: "Adds an event of your own, under custom., to the fleet's journal; everybody \
            who waits for it is told. It is stored when this returns.",
        scope: Scope::Publish,
        hints: Hints { read_only: false, destructive: false, idempotent: false, open_world: false },
    };
    [row(list, list_events), row(wait, wait_for_events), row(publish, publish_event)]
}

async fn list_events(context: Context, asked: ListEvents) -> Result<Reply<EventsResult>, Failure> {
    let filter = filter(&context, &asked.types, asked.subject)?;
    let limit = limit(asked.limit)?;
    let since = asked.since.as_deref().map(|since| since_cursor(&context, since)).transpose()?;
    let store = context.deps.bus.store();
    let place = match (&asked.name, since) {
        (Some(name), None) => stored_place(&context, name).await?,
        _ => since,
    };
    let page = match place {
        Some(place) => page::after(store, place, &filter, limit).await?,
        None => page::newest(store, &filter, limit).await?,
    };
    if let Some(name) = asked.name {
        // A new name begins with what this very call hands out.
        let start = place.unwrap_or(page.cursor);
        begin(&context, &name, since, start).await?;
        hand(&context, name, page.cursor).await?;
    }
    Ok(result(page, false).into())
}

async fn wait_for_events(
    context: Context,
    asked: WaitForEvents,
) -> Result<Reply<EventsResult>, Failure> {
    let filter = filter(&context, &asked.types, asked.subject)?;
    let limit = limit(asked.limit)?;
    let patience = context.call.patience.limit(context.progress.wanted());
    let deadline = Instant::now() + patience.min(Duration::from_secs(asked.timeout_s));
    let since = asked.since.as_deref().map(|since| since_cursor(&context, since)).transpose()?;
    let now = context.deps.bus.head();
    let place = match &asked.name {
        Some(name) => begin(&context, name, since, now).await?,
        None => since.unwrap_or(now),
    };
    context.progress.tell("waiting for events").await;
    let mut page = page::after(context.deps.bus.store(), place, &filter, limit).await?;
    let mut timed_out = false;
    if page.is_empty() {
        timed_out = !wait(&context, &mut page, filter, limit, deadline).await?;
    }
    if let Some(name) = asked.name {
        hand(&context, name, page.cursor).await?;
    }
    let text = if timed_out {
        Some(format!(
            "No event yet. Call wait_for_events again with since \"{}\" to go on waiting.",
            page.cursor
        ))
    } else {
        None
    };
    Ok(Reply { value: result(page, timed_out), text })
}

/// Waits for the first events after `page`, which is empty; `false` if none came.
async fn wait(
    context: &Context,
    page: &mut Page,
    filter: Filter,
    limit: usize,
    deadline: Instant,
) -> Result<bool, Failure> {
    let mut subscription = context.deps.bus.subscribe(filter, Start::After(page.cursor), false)?;
    let begun = Instant::now();
    let delivery = {
        let next = subscription.next();
        tokio::pin!(next);
        loop {
            tokio::select! {
                biased;
                delivery = &mut next => break Some(delivery?),
                () = context.done_waiting() => break None,
                () = tokio::time::sleep_until(deadline) => break None,
                () = tokio::time::sleep(PROGRESS_EVERY) => {
                    let seconds = begun.elapsed().as_secs();
                    context.progress.tell(format!("waiting for events ({seconds} s)")).await;
                }
            }
        }
    };
    match delivery {
        Some(Delivery::Events(chunk)) => {
            page.take(&chunk, limit);
            Ok(true)
        }
        Some(Delivery::Gap(gap)) => {
            page.lose(gap.from, gap.to, gap.reason);
            Ok(true)
        }
        Some(Delivery::Signals(_)) | None => {
            page.cursor = subscription.cursor();
            Ok(false)
        }
    }
}

async fn publish_event(
    context: Context,
    asked: PublishEvent,
) -> Result<Reply<PublishEventResult>, Failure> {
    let id = asked.id.unwrap_or_else(|| Uuid::now_v7().to_string());
    let mut event = json!({
        "specversion": "1.0",
        "id": id,
        "source": "mcp",
        "type": asked.topic,
        "data": asked.data,
    });
    for (name, value) in
        [("subject", asked.subject), ("severity", asked.severity), ("project", asked.project)]
    {
        if let Some(value) = value {
            event[name] = Value::String(value);
        }
    }
    let store = context.deps.bus.store();
    let event = decode_event(event, context.principal())?;
    let published = store.publish(vec![encode_event(event, store.source())?]).await?;
    let published = published.first().ok_or(StoreError::Degraded)?;
    let cursor = published.cursor.to_string();
    Ok(PublishEventResult { id, cursor, duplicate: published.duplicate }.into())
}

fn filter(context: &Context, types: &[String], subject: Option<String>) -> Result<Filter, Failure> {
    let mut filter = Filter::default().with_types(&types.join(","))?;
    if let Some(subject) = subject {
        filter = filter.with_subject(subject)?;
    }
    Ok(filter.within(context.principal()))
}

fn limit(limit: u32) -> Result<usize, Failure> {
    if (1..=MOST_EVENTS).contains(&limit) {
        Ok(limit as usize)
    } else {
        Err(Failure::Argument(format!("argument 'limit' has to be 1 to {MOST_EVENTS}")))
    }
}

/// A cursor as given out, or "0" for before the oldest event that is held.
fn since_cursor(context: &Context, since: &str) -> Result<Cursor, Failure> {
    if since == "0" {
        let store = context.deps.bus.store();
        return Ok(Cursor { epoch: store.head().epoch, seq: store.oldest().saturating_sub(1) });
    }
    Ok(since.parse()?)
}

async fn stored_place(context: &Context, name: &str) -> Result<Option<Cursor>, Failure> {
    let (principal, name) = (context.principal_id(), name.to_owned());
    let store = context.deps.bus.store();
    let stored = store.read(move |snapshot| snapshot.named_cursor(&principal, &name)).await?;
    Ok(stored.map(|cursor| cursor.handed))
}

async fn begin(
    context: &Context,
    name: &str,
    since: Option<Cursor>,
    start: Cursor,
) -> Result<Cursor, Failure> {
    if name.is_empty() || name.len() > 64 {
        return Err(Failure::Argument(String::from(
            "argument 'as' has to be a name of 1 to 64 bytes",
        )));
    }
    let (principal, name) = (context.principal_id(), name.to_owned());
    let store = context.deps.bus.store();
    let begun = store.write(move |tx| tx.begin_named(&principal, &name, since, start)).await;
    Ok(begun.map_err(|error: StoreError| error)?)
}

async fn hand(context: &Context, name: String, cursor: Cursor) -> Result<(), Failure> {
    let principal = context.principal_id();
    let store = context.deps.bus.store();
    let handed = store.write(move |tx| tx.hand_named(&principal, &name, cursor)).await;
    Ok(handed.map_err(|error: StoreError| error)?)
}

fn result(page: Page, timed_out: bool) -> EventsResult {
    EventsResult {
        events: page.events.into(),
        cursor: page.cursor.to_string(),
        gap: page.gap.map(|(from, to, reason)| GapView {
            from: from.to_string(),
            to: to.to_string(),
            reason: reason.to_owned(),
        }),
        more: page.more,
        timed_out,
    }
}
