//! `events`: what happened, and what is happening.

use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use serde_json::Value;

use super::place::Place;
use super::{Cx, Outcome, exit, follow, show, table};
use crate::client::Backoff;
use crate::model::{Cursor, Pattern, Project, TOPICS};
use crate::wire::tools::{
    EventsResult, FleetStatus, GapView, ListEvents, NoArguments, WaitForEvents,
};

/// Show events: those that are held, or those that happen.
///
/// Without --follow or --wait it prints what is held and ends: the newest 50,
/// or with --since everything after that cursor.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
#[command(after_help = "\
Examples:
  fleetctl events --follow
  fleetctl events --wait --types task.completed,task.failed --timeout 600
  fleetctl events --since 0 --json | jq -c .data
  fleetctl events --follow --as my-script --json
  fleetctl events topics")]
pub struct Events {
    #[command(subcommand)]
    command: Option<EventCommand>,
    /// Begin after this cursor; 0 is the oldest event held.
    #[arg(long, value_name = "CURSOR", value_parser = cursor)]
    pub since: Option<String>,
    /// Go on with what happens, through restarts of the daemon.
    #[arg(short, long)]
    follow: bool,
    /// Wait for the first event that fits, print it and end.
    #[arg(short, long, conflicts_with = "follow")]
    wait: bool,
    /// Have the daemon keep my place under this name; the next call continues
    /// behind what was printed. A new name begins now, or at --since.
    #[arg(long = "as", value_name = "NAME")]
    pub name: Option<String>,
    /// Only these types: task.completed, task.*, custom.>; several with commas.
    #[arg(long, value_name = "PATTERN", value_delimiter = ',', value_parser = pattern)]
    pub types: Vec<String>,
    /// Only events of this project.
    #[arg(long, value_parser = super::project)]
    project: Option<Project>,
    /// Only events about this, such as task/ID.
    #[arg(long)]
    pub subject: Option<String>,
    /// With --wait: give up after so many seconds, with exit status 1.
    #[arg(long, value_name = "SECONDS", requires = "wait")]
    timeout: Option<u64>,
    /// Print one CloudEvent per line.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Subcommand)]
enum EventCommand {
    /// List the types of events and what their data holds.
    #[command(after_help = "Example:\n  fleetctl events topics")]
    Topics {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

/// Shown without `--since`.
const NEWEST: u32 = 50;
/// Asked for at once when everything is wanted.
const PAGE: u32 = 500;
/// The daemon waits this long at once; then it is asked again.
const WAIT_S: u64 = 50;

fn pattern(text: &str) -> Result<String, String> {
    text.parse::<Pattern>().map(|_| text.to_owned()).map_err(|error| error.to_string())
}

fn cursor(text: &str) -> Result<String, String> {
    match text {
        "0" => Ok(text.to_owned()),
        _ => text.parse::<Cursor>().map(|_| text.to_owned()).map_err(|error| error.to_string()),
    }
}

impl Events {
    pub async fn handle(self, cx: &Cx) -> Outcome {
        let cx = &cx.within(self.project.clone());
        match self.command {
            Some(EventCommand::Topics { json }) => topics(cx, json),
            None if self.follow => follow::follow(&self, cx).await,
            None if self.wait => self.wait(cx).await,
            None => self.list(cx).await,
        }
    }

    async fn list(self, cx: &Cx) -> Outcome {
        let mut place = Place::new(&cx.client, self.name.as_deref());
        let since = match &self.since {
            Some(since) => Some(since.clone()),
            None => place.find().await?.map(|cursor| cursor.to_string()),
        };
        let everything = since.is_some();
        let mut arguments = ListEvents {
            types: self.types.clone(),
            subject: self.subject.clone(),
            since,
            name: None,
            limit: if everything { PAGE } else { NEWEST },
        };
        let mut seen = false;
        loop {
            let page: EventsResult = cx.client.call_tool("list_events", &arguments).await?;
            seen |= !page.events.is_empty();
            self.print_page(cx, &page, &mut place).await?;
            if !everything || !page.more {
                break;
            }
            arguments.since = Some(page.cursor);
        }
        if !seen {
            cx.out.hint("no events; `fleetctl events --follow` waits for some");
        }
        Ok(exit::OK)
    }

    async fn wait(self, cx: &Cx) -> Outcome {
        let deadline = self.timeout.map(|seconds| Instant::now() + Duration::from_secs(seconds));
        let spinner = cx.out.spinner("waiting for an event");
        let mut place = Place::new(&cx.client, self.name.as_deref());
        let mut since = self.start(cx, &mut place).await?;
        let mut backoff = Backoff::default();
        loop {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            let left_s = left.map_or(WAIT_S, |left| left.as_secs_f64().ceil() as u64);
            let arguments = WaitForEvents {
                types: self.types.clone(),
                subject: self.subject.clone(),
                since: Some(since.clone()),
                name: None,
                timeout_s: left_s.min(WAIT_S),
                limit: PAGE,
            };
            match cx.client.call_tool::<_, EventsResult>("wait_for_events", &arguments).await {
                Ok(page) if page.events.is_empty() && page.gap.is_none() => {
                    since = page.cursor;
                    backoff = Backoff::default();
                }
                Ok(page) => {
                    spinner.finish_and_clear();
                    self.print_page(cx, &page, &mut place).await?;
                    return Ok(exit::OK);
                }
                Err(error) if error.is_passing() => {
                    backoff.grow();
                    backoff.wait().await;
                }
                Err(error) => return Err(error.into()),
            }
            if left == Some(Duration::ZERO) {
                spinner.finish_and_clear();
                return Ok(exit::FAILED);
            }
        }
    }

    /// Where to begin: as asked, at the named place, or at the journal's present
    /// end, as a cursor, so that a break before the first event loses nothing.
    pub async fn start(&self, cx: &Cx, place: &mut Place) -> anyhow::Result<String> {
        if let Some(since) = &self.since {
            return Ok(since.clone());
        }
        if let Some(cursor) = place.find().await? {
            return Ok(cursor.to_string());
        }
        let status: FleetStatus = cx.client.call_tool("fleet_status", &NoArguments {}).await?;
        Ok(status.cursor)
    }

    /// Prints a page and keeps the place after what was printed, even if the
    /// reader has gone in the middle.
    async fn print_page(
        &self,
        cx: &Cx,
        page: &EventsResult,
        place: &mut Place,
    ) -> anyhow::Result<()> {
        if let Some(gap) = &page.gap {
            tell_gap(cx, gap);
        }
        let mut printed = None;
        for event in &page.events {
            let cursor = position(event, &page.cursor);
            let outcome = if self.json {
                cx.out.json_line(&event.to_string())
            } else {
                cx.out.print(&show::event(event, cursor.as_deref(), &cx.out))
            };
            if let Err(error) = outcome {
                keep(place, printed.as_deref()).await?;
                return Err(error.into());
            }
            printed = cursor;
        }
        keep(place, Some(&page.cursor)).await
    }
}

async fn keep(place: &mut Place, cursor: Option<&str>) -> anyhow::Result<()> {
    if let Some(cursor) = cursor.and_then(|text| text.parse::<Cursor>().ok()) {
        place.keep(cursor).await?;
    }
    Ok(())
}

/// The event's own cursor: its sequence, in the epoch of its page.
fn position(event: &Value, page: &str) -> Option<String> {
    let (epoch, _) = page.split_once(':')?;
    Some(format!("{epoch}:{}", event.get("sequence")?.as_str()?))
}

pub fn tell_gap(cx: &Cx, gap: &GapView) {
    let GapView { from, to, reason } = gap;
    cx.out.note(&format!("gap: events from {from} to {to} are no longer held ({reason})"));
}

fn topics(cx: &Cx, json: bool) -> Outcome {
    if json {
        cx.out.json(&TOPICS)?;
    } else {
        let rows = TOPICS.iter().map(|spec| {
            let fields: Vec<_> = spec.data.iter().map(|(name, _)| *name).collect();
            vec![
                spec.name.to_owned(),
                spec.subject.to_owned(),
                spec.severity.as_str().to_owned(),
                spec.meaning.to_owned(),
                fields.join(" "),
            ]
        });
        let head = ["TYPE", "SUBJECT", "SEVERITY", "MEANING", "DATA"];
        cx.out.print(&table::table(&head, rows, cx.out.width()))?;
        cx.out.hint("custom.> is yours: `fleetctl publish custom.NAME --data JSON`");
    }
    Ok(exit::OK)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_event_of_a_page_has_its_own_cursor() {
        let at = position(&json!({"sequence": "16"}), "0000002a:17");
        assert_eq!(at.as_deref(), Some("0000002a:16"));
        assert_eq!(position(&json!({}), "0000002a:17"), None);
    }
}
