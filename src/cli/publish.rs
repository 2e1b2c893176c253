//! `publish`: an event of your own.

use std::io::Read;

use anyhow::{Context, bail};
use clap::Args;
use serde_json::Value;

use super::exit::{self, Ended};
use super::{Cx, Outcome};
use crate::client::Backoff;
use crate::model::{MAX_EVENT_BYTES, Project};
use crate::wire::tools::{PublishEvent, PublishEventResult};

/// Add an event of your own to the journal.
///
/// When this returns, the event is on disk. The same --id is stored once, so a
/// publish that failed may be repeated.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  fleetctl publish custom.deploy_done --data '{\"version\": \"1.4.2\"}' --subject deploy/42
  df --output=avail / | jq -R . | fleetctl publish custom.disk --data -")]
pub struct Publish {
    /// The event's type, under custom.
    #[arg(value_name = "TYPE")]
    topic: String,
    /// JSON; `-` reads it from standard input, `@FILE` from a file.
    #[arg(long, value_name = "JSON", allow_hyphen_values = true)]
    data: Option<String>,
    /// The project it belongs to [default: default].
    #[arg(long, value_parser = super::project)]
    project: Option<Project>,
    /// What the event is about.
    #[arg(long)]
    subject: Option<String>,
    /// Makes a repetition harmless [default: a fresh one].
    #[arg(long)]
    id: Option<String>,
    /// debug, info, notice, warning or error [default: info].
    #[arg(long)]
    severity: Option<String>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Attempts before we say that we do not know.
const ATTEMPTS: usize = 6;

impl Publish {
    pub async fn handle(self, cx: &Cx) -> Outcome {
        let cx = &cx.within(self.project);
        let arguments = PublishEvent {
            topic: self.topic,
            data: data(self.data.as_deref())?,
            subject: self.subject,
            // Ours from the start, so that an attempt can be repeated.
            id: Some(self.id.unwrap_or_else(|| uuid::Uuid::now_v7().to_string())),
            severity: self.severity,
            project: None,
        };
        let published = publish(cx, &arguments).await?;
        if self.json {
            cx.out.json(&published)?;
        } else {
            let known = if published.duplicate { " (known before)" } else { "" };
            cx.out.print(&format!("{} {}{known}", published.cursor, published.id))?;
        }
        Ok(exit::OK)
    }
}

/// Publishes, and after a cut does so again with the same id.
async fn publish(cx: &Cx, arguments: &PublishEvent) -> anyhow::Result<PublishEventResult> {
    let mut backoff = Backoff::default();
    let mut cut = false;
    for _ in 0..ATTEMPTS {
        match cx.client.call_tool("publish_event", arguments).await {
            Err(error) if error.is_unknown() => cut = true,
            Err(error) if cut && error.is_passing() => {}
            outcome => return Ok(outcome?),
        }
        backoff.grow();
        backoff.wait().await;
    }
    let id = arguments.id.as_deref().unwrap_or_default();
    Err(Ended {
        status: exit::UNKNOWN,
        message: format!(
            "the connection was lost, so the event may be stored or not; repeat it with --id {id}"
        ),
    }
    .into())
}

fn data(given: Option<&str>) -> anyhow::Result<Value> {
    let text = match given {
        None => return Ok(Value::Null),
        Some("-") => read(std::io::stdin().lock()).context("cannot read standard input")?,
        Some(given) => match given.strip_prefix('@') {
            Some(path) => std::fs::File::open(path)
                .map_err(anyhow::Error::from)
                .and_then(read)
                .with_context(|| format!("cannot read '{path}'"))?,
            None => given.to_owned(),
        },
    };
    serde_json::from_str(&text).map_err(|error| {
        let message = format!("--data is not JSON: {error}; quote text, like '\"text\"'");
        Ended { status: exit::USAGE, message }.into()
    })
}

fn read(source: impl Read) -> anyhow::Result<String> {
    let mut text = String::new();
    source.take(MAX_EVENT_BYTES as u64 + 1).read_to_string(&mut text)?;
    if text.len() > MAX_EVENT_BYTES {
        bail!("more than {MAX_EVENT_BYTES} bytes, the most an event may have");
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn data_comes_from_the_argument_or_a_file() {
        assert_eq!(data(None).unwrap(), Value::Null);
        assert_eq!(data(Some("{\"a\": 1}")).unwrap(), json!({"a": 1}));
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "[1]").unwrap();
        let at = format!("@{}", file.path().display());
        assert_eq!(data(Some(&at)).unwrap(), json!([1]));
        std::fs::write(file.path(), "1".repeat(MAX_EVENT_BYTES + 1)).unwrap();
        assert!(data(Some(&at)).is_err());
    }

    #[test]
    fn what_is_not_json_is_a_usage_error() {
        assert_eq!(exit::status(&data(Some("hello")).unwrap_err()), exit::USAGE);
    }
}
