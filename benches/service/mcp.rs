//! Figures of the protocol, beside a bare rmcp server.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::bare;
use super::daemon::Server;
use super::load::{answer, connect, post};
use super::report::{beside, line, median, millis, percentile};

const ROUNDS: usize = 5;

/// Idle sessions with their streams.
const SESSIONS: usize = 1000;

/// How long calls are counted.
const TIME: Duration = Duration::from_secs(3);

fn call(server: &Server) -> Vec<u8> {
    let meta = r#"{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}"#;
    let body = format!(
        r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"version","arguments":{{}},"_meta":{meta}}}}}"#
    );
    let headers = "Accept: application/json, text/event-stream\r\nMCP-Protocol-Version: 2026-07-28\r\nMcp-Method: tools/call\r\nMcp-Name: version\r\n";
    post(server, "/mcp", "application/json", &body, headers)
}

/// Calls per second with `flight` connections, each with one call under way,
/// and the median time of one in milliseconds.
async fn calls(server: &Server, flight: usize) -> Result<(f64, f64)> {
    let request = call(server);
    let mut connections = JoinSet::new();
    let address = server.address;
    for _ in 0..flight {
        let request = request.clone();
        connections.spawn(async move {
            let mut stream = connect(address).await?;
            let (mut held, mut times) = (Vec::new(), Vec::new());
            let begun = Instant::now();
            while begun.elapsed() < TIME {
                let sent = Instant::now();
                stream.write_all(&request).await?;
                whole(&mut stream, &mut held).await?;
                times.push(millis(sent.elapsed()));
            }
            anyhow::Ok(times)
        });
    }
    let mut times = Vec::new();
    while let Some(connection) = connections.join_next().await {
        times.extend(connection??);
    }
    Ok((times.len() as f64 / TIME.as_secs_f64(), percentile(&times, 50.0)))
}

/// Reads one answer, with a length or in chunks: rmcp answers calls with a stream.
pub async fn whole(stream: &mut TcpStream, held: &mut Vec<u8>) -> Result<()> {
    let mut buffer = [0; 8192];
    loop {
        let chunked = held.windows(5).any(|part| part == b"0\r\n\r\n");
        let text = String::from_utf8_lossy(held).to_ascii_lowercase();
        if text.contains("content-length: ") {
            answer(stream, held).await?;
            return Ok(());
        }
        if chunked && text.starts_with("http/1.1 200") {
            held.clear();
            return Ok(());
        }
        let read = stream.read(&mut buffer).await?;
        anyhow::ensure!(read > 0, "closed: {text}");
        held.extend_from_slice(&buffer[..read]);
    }
}

/// `tools/call` of a cheap tool, stateless.
pub async fn tools() -> Result<()> {
    let (product, floor) = (Server::fresh()?, Server::beside(bare::FLAG)?);
    let (mut many, mut bare, mut one) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        bare.push(calls(&floor, 32).await?.0);
        many.push(calls(&product, 32).await?.0);
        one.push(calls(&product, 1).await?.1);
    }
    let what = "tools/call at 32 in flight (floor: bare rmcp)";
    beside(what, median(&many), median(&bare), "calls/s", "ratio >= 0.6");
    line("tools/call at 1 in flight, p50", median(&one), "ms", "<= 1");
    Ok(())
}

/// Memory of idle sessions with their streams.
pub async fn sessions() -> Result<()> {
    let (mut product, mut floor) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        floor.push(each(&Server::beside(bare::FLAG)?).await?);
        product.push(each(&Server::fresh()?).await?);
    }
    let what = "resident memory per idle session and stream, of 1,000";
    beside(what, median(&product), median(&floor), "KiB", "<= 64");
    Ok(())
}

async fn each(server: &Server) -> Result<f64> {
    // What is allocated once is not a session's.
    drop(session(server).await?);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let before = server.resident_kib()?;
    let mut streams = Vec::with_capacity(SESSIONS);
    for _ in 0..SESSIONS {
        streams.push(session(server).await?);
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    Ok((server.resident_kib()? - before) / SESSIONS as f64)
}

/// Handshakes that nobody follows up.
const ABANDONED: usize = 10_000;

/// Memory that abandoned handshakes leave behind.
pub async fn abandoned() -> Result<()> {
    let (mut grown, mut rates) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let server = Server::fresh()?;
        // What is allocated once is not a session's.
        begin(&server, 100).await?;
        let (before, begun) = (server.resident_kib()?, Instant::now());
        begin(&server, ABANDONED).await?;
        rates.push(ABANDONED as f64 / begun.elapsed().as_secs_f64());
        grown.push((server.resident_kib()? - before) / 1024.0);
    }
    line(
        "resident memory after 10,000 abandoned initialize, grown by",
        median(&grown),
        "MiB",
        "<= 10",
    );
    line("  their rate over one connection", median(&rates), "1/s", "");
    Ok(())
}

async fn begin(server: &Server, count: usize) -> Result<()> {
    let accept = "Accept: application/json, text/event-stream\r\n";
    let request = post(server, "/mcp", "application/json", HELLO, accept);
    let (mut stream, mut held) = (connect(server.address).await?, Vec::new());
    for _ in 0..count {
        stream.write_all(&request).await?;
        answer(&mut stream, &mut held).await?;
    }
    Ok(())
}

const HELLO: &str = r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"bench","version":"1"}}}"#;

/// Begins a session and opens its stream.
async fn session(server: &Server) -> Result<TcpStream> {
    let ready = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
    let accept = "Accept: application/json, text/event-stream\r\n";
    let mut posting = connect(server.address).await?;
    posting.write_all(&post(server, "/mcp", "application/json", HELLO, accept)).await?;
    let head = until(&mut posting, b"\"result\"").await?.to_ascii_lowercase();
    let id = head.split("mcp-session-id: ").nth(1).context("no session id")?;
    let id = id.lines().next().context("no session id")?.to_owned();
    let mut posting = connect(server.address).await?;
    let headers = format!("{accept}Mcp-Session-Id: {id}\r\nConnection: close\r\n");
    posting.write_all(&post(server, "/mcp", "application/json", ready, &headers)).await?;
    until(&mut posting, b"\r\n\r\n").await?;
    let mut stream = connect(server.address).await?;
    let get = format!(
        "GET /mcp HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\nAccept: text/event-stream\r\nMcp-Session-Id: {id}\r\n\r\n",
        server.address, server.token
    );
    stream.write_all(get.as_bytes()).await?;
    until(&mut stream, b"\r\n\r\n").await?;
    Ok(stream)
}

/// Reads until `mark` has come.
pub async fn until(stream: &mut TcpStream, mark: &[u8]) -> Result<String> {
    let (mut held, mut buffer) = (Vec::new(), [0; 4096]);
    while !held.windows(mark.len()).any(|part| part == mark) {
        let read = stream.read(&mut buffer).await?;
        anyhow::ensure!(read > 0, "closed: {}", String::from_utf8_lossy(&held));
        held.extend_from_slice(&buffer[..read]);
    }
    Ok(String::from_utf8_lossy(&held).into_owned())
}
