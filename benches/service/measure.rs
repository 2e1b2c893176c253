//! The figures of issue and contract, one function each.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::daemon::Server;
use super::load::{
    Subscribers, answer, connect, post, publish as load_publish, publish_request, tool,
};
use super::report::{ROUNDS, beside, line, median, millis, percentile};

/// How long one round of a rate lasts.
const ROUND: Duration = Duration::from_secs(3);

/// Events of a long history, and how many are sent at once to make it.
const HISTORY: u64 = 1_000_000;
const BATCH: u64 = 1000;

pub async fn ready() -> Result<()> {
    let mut empty = Vec::new();
    for _ in 0..ROUNDS {
        empty.push(millis(Server::fresh()?.ready_after));
    }
    line("exec to ready, empty state", median(&empty), "ms", "<= 50");
    let home = tempfile::tempdir()?;
    fill(&Server::at(home.path())?, HISTORY).await?;
    let mut full = Vec::new();
    for _ in 0..ROUNDS {
        // The one before was killed, so each of these starts is a recovery.
        full.push(millis(Server::at(home.path())?.ready_after));
    }
    line("crash to ready, 1,000,000 events", median(&full), "ms", "<= 500");
    Ok(())
}

pub async fn memory() -> Result<()> {
    let (mut idle, mut each) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let server = Server::fresh()?;
        tokio::time::sleep(Duration::from_secs(1)).await;
        let before = server.resident_kib()?;
        let subscribers =
            Subscribers::open(&server, 1000, "/events?types=custom.none", false).await?;
        tokio::time::sleep(Duration::from_secs(1)).await;
        idle.push(before / 1024.0);
        each.push((server.resident_kib()? - before) / 1000.0);
        drop(subscribers);
    }
    line("resident memory, idle", median(&idle), "MiB", "<= 15");
    line("resident memory per idle subscriber, of 1,000", median(&each), "KiB", "<= 32");
    Ok(())
}

pub async fn publish() -> Result<()> {
    let mut rates = (Vec::new(), Vec::new());
    let mut tails = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let floor = load_publish(&Server::floor()?, 64, ROUND).await?;
        let ours = load_publish(&Server::fresh()?, 64, ROUND).await?;
        rates.0.push(ours.per_second);
        rates.1.push(floor.per_second);
        tails.0.push(percentile(&ours.latencies, 99.0));
        tails.1.push(percentile(&floor.latencies, 99.0));
    }
    beside(
        "durable publish over HTTP, 64 publishers",
        median(&rates.0),
        median(&rates.1),
        "ev/s",
        ">= 20000",
    );
    beside("  its p99", median(&tails.0), median(&tails.1), "ms", "<= 25");
    Ok(())
}

pub async fn fanout() -> Result<()> {
    let (mut ours, mut floor) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        floor.push(fan(&Server::floor()?).await?);
        ours.push(fan(&Server::fresh()?).await?);
    }
    beside(
        "fan-out to 100 subscribers, 16 publishes in flight",
        median(&ours),
        median(&floor),
        "dlv/s",
        "ratio >= 0.5",
    );
    Ok(())
}

/// Deliveries a second, until the last of them has arrived.
async fn fan(server: &Server) -> Result<f64> {
    let subscribers = Subscribers::open(server, 100, "/events?types=custom.bench", false).await?;
    let begun = Instant::now();
    let published = load_publish(server, 16, ROUND).await?;
    let deliveries = published.latencies.len() as u64 * 100;
    subscribers.reach(deliveries).await?;
    Ok(deliveries as f64 / begun.elapsed().as_secs_f64())
}

pub async fn paced() -> Result<()> {
    let (mut ours, mut floor) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        floor.push(pace(&Server::floor()?).await?);
        ours.push(pace(&Server::fresh()?).await?);
    }
    beside(
        "delivery p99 at 100 events/s x 100 subscribers",
        median(&ours),
        median(&floor),
        "ms",
        "ratio <= 2",
    );
    Ok(())
}

async fn pace(server: &Server) -> Result<f64> {
    let subscribers = Subscribers::open(server, 100, "/events?types=custom.bench", true).await?;
    paced_publish(server, 100.0, 300).await?;
    subscribers.reach(300 * 100).await?;
    Ok(percentile(&subscribers.take_latencies(), 99.0))
}

/// Publishes `count` events at `rate` a second over one connection; returns each answer's latency.
async fn paced_publish(server: &Server, rate: f64, count: u64) -> Result<Vec<f64>> {
    let mut stream = connect(server.address).await?;
    let (mut held, mut latencies) = (Vec::new(), Vec::new());
    let mut ticks = tokio::time::interval(Duration::from_secs_f64(1.0 / rate));
    for number in 0..count {
        ticks.tick().await;
        let sent = Instant::now();
        let request = publish_request(
            server,
            (number << 20) ^ u64::from(std::process::id()),
            super::load::nanos(),
        );
        stream.write_all(&request).await?;
        answer(&mut stream, &mut held).await?;
        latencies.push(millis(sent.elapsed()));
    }
    Ok(latencies)
}

pub async fn idle() -> Result<()> {
    let mut ratios = Vec::new();
    let (mut alone, mut crowded) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let server = Server::fresh()?;
        let before = load_publish(&server, 4, ROUND).await?.per_second;
        let crowd =
            Subscribers::open(&server, 10_000, "/events?subject=agent/other", false).await?;
        let with = load_publish(&server, 4, ROUND).await?.per_second;
        drop(crowd);
        alone.push(before);
        crowded.push(with);
        ratios.push((before / with - 1.0) * 100.0);
    }
    beside(
        "publish beside 10,000 idle subscribers",
        median(&crowded),
        median(&alone),
        "ev/s",
        "see next",
    );
    line("  they slow an unrelated event's path by", median(&ratios), "%", "<= 10");
    Ok(())
}

pub async fn replay() -> Result<()> {
    let server = Server::fresh()?;
    fill(&server, 100_000).await?;
    let (mut ours, mut floor) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let (seconds, bytes) = replay_once(&server).await?;
        ours.push(100_000.0 / seconds);
        floor.push(100_000.0 / copy_once(bytes).await?);
    }
    beside(
        "replay of 100,000 events over /events",
        median(&ours),
        median(&floor),
        "ev/s",
        ">= 300000",
    );
    Ok(())
}

async fn replay_once(server: &Server) -> Result<(f64, u64)> {
    let mut stream = connect(server.address).await?;
    let request = format!(
        "GET /events?since=0&types=custom.bench HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\n\r\n",
        server.address, server.token
    );
    let begun = Instant::now();
    stream.write_all(request.as_bytes()).await?;
    let mut buffer = vec![0; 256 * 1024];
    let (mut bytes, mut seen) = (0, 0);
    let mut carry = 0;
    while seen < 100_000 {
        let length = stream.read(&mut buffer[carry..]).await?;
        if length == 0 {
            anyhow::bail!("the replay ended after {seen} events");
        }
        let filled = carry + length;
        seen += memchr::memmem::find_iter(&buffer[..filled], b"event: custom.bench\n").count();
        carry = filled.min(19);
        buffer.copy_within(filled - carry..filled, 0);
        bytes += length as u64;
    }
    Ok((begun.elapsed().as_secs_f64(), bytes))
}

/// The same bytes from a plain socket in a thread: what loopback alone takes.
async fn copy_once(bytes: u64) -> Result<f64> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let sender = std::thread::spawn(move || -> std::io::Result<()> {
        let (mut stream, _) = listener.accept()?;
        let piece = vec![b'x'; 128 * 1024];
        let mut left = bytes;
        while left > 0 {
            let length = left.min(piece.len() as u64);
            std::io::Write::write_all(&mut stream, &piece[..usize::try_from(length).unwrap_or(0)])?;
            left -= length;
        }
        Ok(())
    });
    let begun = Instant::now();
    let mut stream = connect(address).await?;
    let mut buffer = vec![0; 256 * 1024];
    let mut left = bytes;
    while left > 0 {
        left -= stream.read(&mut buffer).await? as u64;
    }
    let seconds = begun.elapsed().as_secs_f64();
    let _ = sender.join();
    Ok(seconds)
}

pub async fn execute() -> Result<()> {
    let server = Server::fresh()?;
    let asked = serde_json::json!({ "command": "true", "async": true });
    let request = tool(&server, "execute_command", &asked);
    let (mut tails, mut middles, mut floor) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let mut stream = connect(server.address).await?;
        let (mut held, mut latencies, mut spawns) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..40 {
            let sent = Instant::now();
            stream.write_all(&request).await?;
            let body = answer(&mut stream, &mut held).await?;
            latencies.push(millis(sent.elapsed()));
            let text = String::from_utf8_lossy(&body).into_owned();
            if !text.contains("stream_id") {
                anyhow::bail!("{text}");
            }
            let sent = Instant::now();
            std::process::Command::new("true").status()?;
            spawns.push(millis(sent.elapsed()));
            // Paced: the figure is an answer's latency, not the fork rate of the machine.
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        tails.push(percentile(&latencies, 99.0));
        middles.push(percentile(&latencies, 50.0));
        floor.push(percentile(&spawns, 99.0));
    }
    line("async execute_command, answer p50", median(&middles), "ms", "");
    beside(
        "async execute_command, answer p99 (floor: fork+exec true)",
        median(&tails),
        median(&floor),
        "ms",
        "<= 50",
    );
    Ok(())
}

/// Publishes `count` events in batches.
async fn fill(server: &Server, count: u64) -> Result<()> {
    let mut stream = connect(server.address).await?;
    let mut held = Vec::new();
    for batch in 0..count / BATCH {
        let events: Vec<_> = (0..BATCH)
            .map(|number| {
                serde_json::json!({
                    "specversion": "1.0", "id": format!("{batch}-{number}"), "source": "bench",
                    "type": "custom.bench", "subject": "bench", "data": { "number": number, "pad": "x".repeat(64) },
                })
            })
            .collect();
        let body = serde_json::to_string(&events)?;
        let request = post(server, "/events", "application/cloudevents-batch+json", &body, "");
        stream.write_all(&request).await?;
        answer(&mut stream, &mut held).await.context("filling the journal")?;
    }
    Ok(())
}
