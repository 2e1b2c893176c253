//! Tools about events: read them, wait for them, add one.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;
use uuid::Uuid;

use crate::bus::{Delivery, Start};
use crate::model::{Filter, Scope};
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
/// give up after 60 s at the earliest; this leaves room for two lost ones.
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
    let (bus, principal) = (&context.deps.bus, context.principal());
    let start = Start::parse(asked.since.as_deref())?;
    if let (0, Some(name)) = (asked.limit, &asked.name) {
        let place = bus.begin_named(principal, name, start).await?;
        return Ok(result(Page::at(place), false).into());
    }
    let limit = limit(asked.limit)?;
    let place = match (&asked.name, start) {
        (Some(name), Start::Now) => bus.named(principal, name).await?,
        (None, Start::Now) => None,
        (_, start) => Some(bus.place(start)?),
    };
    let page = match place {
        Some(place) => page::after(bus, place, &filter, limit).await?,
        None => page::newest(bus, &filter, limit).await?,
    };
    if let Some(name) = &asked.name {
        // A new name begins with what this very call hands out.
        let start = Start::After(place.unwrap_or(page.cursor));
        bus.begin_named(principal, name, start).await?;
        bus.hand_named(principal, name, page.cursor).await?;
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
    let (bus, principal) = (&context.deps.bus, context.principal());
    let start = Start::parse(asked.since.as_deref())?;
    let place = match &asked.name {
        Some(name) => bus.begin_named(principal, name, start).await?,
        None => bus.place(start)?,
    };
    context.progress.tell("waiting for events").await;
    let mut page = page::after(bus, place, &filter, limit).await?;
    let mut timed_out = false;
    if page.is_empty() {
        timed_out = !wait(&context, &mut page, filter, limit, deadline).await?;
    }
    if let Some(name) = &asked.name {
        bus.hand_named(principal, name, page.cursor).await?;
    }
    let text = if timed_out {
        Some(format!(
            "No event yet. Call wait_for_events again with since \"{}\" to go on waiting.",
            page.cursor
        ))
    } else {
        None
    };
    Ok(Reply { value: result(page, timed_out), text, failed: false })
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
