//! The load: publishers and subscribers that cost little beside what they measure.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::daemon::Server;

/// What the floor sends for one event: the bytes that fleetd was seen to send,
/// without the chunk's framing, which fleetd spends once for many events. The
/// floor is never heavier than what it is compared with.
pub const FRAME: &str = "id: 281570d0:123456\nevent: custom.bench\ndata: {\"specversion\":\"1.0\",\"datacontenttype\":\"application/json\",\"type\":\"custom.bench\",\"subject\":\"bench\",\"project\":\"default\",\"severity\":\"info\",\"source\":\"fleetd/73d2f029-60b8-465b-acba-b62c41bfd15d\",\"id\":\"4000000000000000-0001869f\",\"time\":\"2026-11-20T12:39:09.965Z\",\"publisher\":\"owner\",\"claimedsource\":\"bench\",\"data\":{\"at\":\"STAMP\",\"pad\":\"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\",\"z\":0},\"sequence\":\"123456\"}\n\n";

/// What the floor answers a publisher with: the bytes of fleetd's own answer.
pub const REPLY: &str = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncache-control: no-store\r\nx-content-type-options: nosniff\r\ncontent-length: 93\r\ndate: Fri, 20 Nov 2026 12:39:09 GMT\r\n\r\n{\"results\":[{\"cursor\":\"281570d0:123456\",\"duplicate\":false,\"id\":\"4000000000000000-0001869f\"}]}";

/// Every published body ends so; the floor finds its requests by it.
pub const REQUEST_END: &[u8] = b",\"z\":0}}";

/// Counted in what subscribers receive: once per event, never split by chunking
/// of whole frames, cheap to find.
const MARKER: &[u8] = b"\"at\":\"";

/// A stamp has 20 digits of nanoseconds since the run began.
const STAMP_LEN: usize = 20;

/// Writes one publish request for an event with `stamp`.
pub fn publish_request(server: &Server, id: u64, stamp: u128) -> Vec<u8> {
    let body = format!(
        "{{\"specversion\":\"1.0\",\"id\":\"{id:016x}-{:08x}\",\"source\":\"bench\",\"type\":\"custom.bench\",\"subject\":\"bench\",\"data\":{{\"at\":\"{stamp:020}\",\"pad\":\"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\",\"z\":0}}}}",
        std::process::id(),
    );
    post(server, "/events", "application/cloudevents+json", &body, "")
}

/// Writes one POST.
pub fn post(server: &Server, path: &str, kind: &str, body: &str, headers: &str) -> Vec<u8> {
    format!(
        "POST {path} HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n{headers}\r\n{body}",
        server.address,
        server.token,
        body.len()
    )
    .into_bytes()
}

/// Writes one call of a tool, stateless.
pub fn tool(server: &Server, name: &str, arguments: &serde_json::Value) -> Vec<u8> {
    let body = serde_json::json!({
        "jsonrpc": "2.0", "id": 1, "method": "tools/call",
        "params": {
            "name": name,
            "arguments": arguments,
            "_meta": {
                "io.modelcontextprotocol/protocolVersion": "2026-07-28",
                "io.modelcontextprotocol/clientCapabilities": {},
            },
        },
    });
    let headers = format!(
        "Accept: application/json, text/event-stream\r\nMCP-Protocol-Version: 2026-07-28\r\nMcp-Method: tools/call\r\nMcp-Name: {name}\r\n"
    );
    post(server, "/mcp", "application/json", &body.to_string(), &headers)
}

/// Reads one answer with a content length; fails unless its status is 2xx.
pub async fn answer(stream: &mut TcpStream, held: &mut Vec<u8>) -> Result<Vec<u8>> {
    let mut buffer = [0; 8192];
    loop {
        if let Some(end) = super::floor::find(held, b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&held[..end]).to_ascii_lowercase();
            let length: usize = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length: "))
                .context("an answer without a length")?
                .trim()
                .parse()?;
            if held.len() >= end + 4 + length {
                let body = held[end + 4..end + 4 + length].to_vec();
                held.drain(..end + 4 + length);
                if !head.starts_with("http/1.1 2") {
                    bail!("{head}\n{}", String::from_utf8_lossy(&body));
                }
                return Ok(body);
            }
        }
        let length = stream.read(&mut buffer).await?;
        if length == 0 {
            bail!("the server hung up");
        }
        held.extend_from_slice(&buffer[..length]);
    }
}

pub async fn connect(address: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// What publishers saw.
pub struct Published {
    pub per_second: f64,
    /// Milliseconds from request to answer, one for each event.
    pub latencies: Vec<f64>,
}

/// `publishers` connections publish as fast as they are answered, for `time`.
pub async fn publish(server: &Server, publishers: usize, time: Duration) -> Result<Published> {
    let begun = Instant::now();
    let until = begun + time;
    let mut loops = Vec::new();
    for number in 0..publishers {
        let stream = connect(server.address).await?;
        loops.push(publisher(server, stream, number as u64, begun, until));
    }
    let results = futures_util::future::try_join_all(loops).await?;
    let latencies: Vec<f64> = results.into_iter().flatten().collect();
    Ok(Published { per_second: latencies.len() as f64 / begun.elapsed().as_secs_f64(), latencies })
}

async fn publisher(
    server: &Server,
    mut stream: TcpStream,
    number: u64,
    begun: Instant,
    until: Instant,
) -> Result<Vec<f64>> {
    let (mut latencies, mut held) = (Vec::new(), Vec::new());
    let salt = u64::from(begun.elapsed().subsec_nanos()) << 40;
    while Instant::now() < until {
        let id = salt ^ (number << 32) ^ latencies.len() as u64 ^ unique();
        let request = publish_request(server, id, nanos());
        let sent = Instant::now();
        stream.write_all(&request).await?;
        answer(&mut stream, &mut held).await?;
        latencies.push(super::report::millis(sent.elapsed()));
    }
    Ok(latencies)
}

/// No two events of a run may share an id, or they would be stored once.
fn unique() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed) << 8
}

/// Nanoseconds of the wall clock: publisher and subscriber are one process.
pub fn nanos() -> u128 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| since.as_nanos())
}

/// Subscribers that count what they get.
pub struct Subscribers {
    tasks: tokio_util::task::TaskTracker,
    pub delivered: Arc<AtomicU64>,
    latencies: Arc<std::sync::Mutex<Vec<f64>>>,
}

impl Subscribers {
    /// Opens `count` streams of `path`. With `timed` each delivery's latency is noted.
    pub async fn open(server: &Server, count: usize, path: &str, timed: bool) -> Result<Self> {
        let all = Self {
            tasks: tokio_util::task::TaskTracker::new(),
            delivered: Arc::default(),
            latencies: Arc::default(),
        };
        for _ in 0..count {
            let mut stream = connect(server.address).await?;
            let request = format!(
                "GET {path} HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\nAccept: text/event-stream\r\n\r\n",
                server.address, server.token
            );
            stream.write_all(request.as_bytes()).await?;
            let mut first = [0; 1024];
            let length = stream.read(&mut first).await?;
            if !first[..length].starts_with(b"HTTP/1.1 200") {
                bail!("{}", String::from_utf8_lossy(&first[..length]));
            }
            let (delivered, latencies) = (Arc::clone(&all.delivered), Arc::clone(&all.latencies));
            all.tasks.spawn(count_frames(stream, delivered, timed.then_some(latencies)));
        }
        all.tasks.close();
        Ok(all)
    }

    /// Waits until `count` deliveries were made in all.
    pub async fn reach(&self, count: u64) -> Result<()> {
        let begun = Instant::now();
        while self.delivered.load(Ordering::Relaxed) < count {
            if begun.elapsed() > Duration::from_secs(60) {
                bail!(
                    "{} of {count} deliveries after a minute",
                    self.delivered.load(Ordering::Relaxed)
                );
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Ok(())
    }

    /// Milliseconds from publish to delivery, since the last call.
    pub fn take_latencies(&self) -> Vec<f64> {
        std::mem::take(
            &mut *self.latencies.lock().unwrap_or_else(std::sync::PoisonError::into_inner),
        )
    }
}

async fn count_frames(
    mut stream: TcpStream,
    delivered: Arc<AtomicU64>,
    latencies: Option<Arc<std::sync::Mutex<Vec<f64>>>>,
) {
    let mut buffer = vec![0; 64 * 1024];
    let mut held = 0;
    loop {
        let Ok(length @ 1..) = stream.read(&mut buffer[held..]).await else { return };
        let filled = held + length;
        let (mut at, mut found) = (0, 0);
        while let Some(position) = memchr::memmem::find(&buffer[at..filled], MARKER) {
            let stamp = at + position + MARKER.len();
            if stamp + STAMP_LEN > filled {
                break;
            }
            if let Some(latencies) = &latencies {
                note(latencies, &buffer[stamp..stamp + STAMP_LEN]);
            }
            found += 1;
            at = stamp + STAMP_LEN;
        }
        delivered.fetch_add(found, Ordering::Relaxed);
        // A marker may be cut by the end of the buffer: keep enough to see it whole.
        let keep = (filled - at).min(MARKER.len() + STAMP_LEN);
        buffer.copy_within(filled - keep..filled, 0);
        held = keep;
    }
}

fn note(latencies: &std::sync::Mutex<Vec<f64>>, stamp: &[u8]) {
    let Some(sent) = std::str::from_utf8(stamp).ok().and_then(|digits| digits.parse::<u128>().ok())
    else {
        return;
    };
    let millis = nanos().saturating_sub(sent) as f64 / 1e6;
    latencies.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(millis);
}
