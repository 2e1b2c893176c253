//! How soon many listeners are told of a change, beside one that never reads.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

use super::daemon::Server;
use super::load::{answer, connect, nanos, post, publish_request};
use super::mcp::until;
use super::report::{ROUNDS, line, median, millis, percentile};

/// Listeners that read. One more never does.
const LISTENERS: usize = 200;

/// Changes that each of them is told of, one after the other.
const CHANGES: u64 = 20;

/// Resources that the one that never reads listens to: each event concerns all of
/// them, so that what it is told fills every buffer on the way.
const WATCHED: usize = 64;

/// Events before the first change that is measured.
const FLOOD: u64 = 400;

const NOTICE: &[u8] = b"notifications/resources/updated";

/// `subscriptions/listen` by 200 clients.
pub async fn listens() -> Result<()> {
    let (mut middles, mut tails, mut worst) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let times = round(&Server::fresh()?).await?;
        middles.push(percentile(&times, 50.0));
        tails.push(percentile(&times, 99.0));
        worst.push(percentile(&times, 100.0));
    }
    line("notice to 200 listens, one more never reads, p50", median(&middles), "ms", "");
    line("  its p99", median(&tails), "ms", "");
    line("  its maximum, the worst of all rounds", percentile(&worst, 100.0), "ms", "<= 1000");
    Ok(())
}

async fn round(server: &Server) -> Result<Vec<f64>> {
    let watched: Vec<_> = (0..WATCHED).map(|n| format!("fleet://events?since={n}")).collect();
    let never_read = listen(server, &watched).await?;
    let (told, mut notices) = mpsc::channel(LISTENERS);
    let readers = TaskTracker::new();
    for _ in 0..LISTENERS {
        let stream = listen(server, &["fleet://events".to_owned()]).await?;
        readers.spawn(read(stream, told.clone()));
    }
    let (mut publisher, mut held, mut times) =
        (connect(server.address).await?, Vec::new(), Vec::new());
    for number in 0..FLOOD + CHANGES {
        let sent = Instant::now();
        publisher.write_all(&publish_request(server, number, nanos())).await?;
        answer(&mut publisher, &mut held).await?;
        // Everybody has caught up before the next one, so none collapses.
        for _ in 0..LISTENERS {
            let next = tokio::time::timeout(Duration::from_secs(30), notices.recv()).await;
            let at = next.context("a listener was not told")?.context("a listener is gone")?;
            if number >= FLOOD {
                times.push(millis(at.saturating_duration_since(sent)));
            }
        }
    }
    drop(never_read);
    Ok(times)
}

/// Opens a stream that listens to `resources`.
async fn listen(server: &Server, resources: &[String]) -> Result<TcpStream> {
    let body = serde_json::json!({
        "jsonrpc": "2.0", "id": 1, "method": "subscriptions/listen",
        "params": {
            "notifications": { "resourceSubscriptions": resources },
            "_meta": {
                "io.modelcontextprotocol/protocolVersion": "2026-07-28",
                "io.modelcontextprotocol/clientCapabilities": {},
            },
        },
    });
    let headers = "Accept: text/event-stream\r\nMCP-Protocol-Version: 2026-07-28\r\nMcp-Method: subscriptions/listen\r\n";
    let mut stream = connect(server.address).await?;
    let request = post(server, "/mcp", "application/json", &body.to_string(), headers);
    stream.write_all(&request).await?;
    until(&mut stream, b"acknowledged").await?;
    Ok(stream)
}

/// Says when each notice has come, until nobody wants to know.
async fn read(mut stream: TcpStream, told: mpsc::Sender<Instant>) -> Result<()> {
    let (mut buffer, mut carry) = (vec![0; 16 * 1024], 0);
    loop {
        let length = stream.read(&mut buffer[carry..]).await?;
        anyhow::ensure!(length > 0, "the stream ended");
        let filled = carry + length;
        let last = memchr::memmem::rfind(&buffer[..filled], NOTICE).map(|at| at + NOTICE.len());
        for _ in memchr::memmem::find_iter(&buffer[..filled], NOTICE) {
            if told.send(Instant::now()).await.is_err() {
                return Ok(());
            }
        }
        // A notice that is cut goes on with the next bytes; a whole one counts once.
        let rest = (filled - last.unwrap_or(0)).min(NOTICE.len() - 1);
        buffer.copy_within(filled - rest..filled, 0);
        carry = rest;
    }
}
