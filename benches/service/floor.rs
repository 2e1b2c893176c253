//! The floor: a raw-TCP broadcaster of the same wire bytes. It appends to a file
//! and syncs it before it answers, many publishers at once, and writes to each
//! subscriber everything from its cursor to the head in one go. It knows no
//! HTTP, no filter, no replay and no limits: nobody could be much faster.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex};

use anyhow::Result;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot, watch};

use super::load::{FRAME, REPLY, REQUEST_END};

/// Argument that makes the benchmark's own executable the floor.
pub const FLAG: &str = "--floor";

type Answer = oneshot::Sender<()>;

/// The log of frames since the start; a subscriber is a position in it.
#[derive(Clone)]
struct Log {
    bytes: Arc<Mutex<Vec<u8>>>,
    head: watch::Receiver<usize>,
    publish: mpsc::Sender<(Vec<u8>, Answer)>,
}

pub fn serve(folder: &Path) -> Result<()> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let (publish, waiting) = mpsc::channel(1024);
    let (moved, head) = watch::channel(0);
    let bytes = Arc::new(Mutex::new(Vec::new()));
    let file = File::create(folder.join("log"))?;
    let written = Arc::clone(&bytes);
    std::thread::spawn(move || write(waiting, file, &written, &moved));
    let log = Log { bytes, head, publish };
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = folder.join("port");
        std::fs::write(folder.join("port.new"), listener.local_addr()?.port().to_string())?;
        std::fs::rename(folder.join("port.new"), port)?;
        let tasks = tokio_util::task::TaskTracker::new();
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            tasks.spawn(connection(stream, log.clone()));
        }
    })
}

fn write(
    mut waiting: mpsc::Receiver<(Vec<u8>, Answer)>,
    mut file: File,
    log: &Mutex<Vec<u8>>,
    moved: &watch::Sender<usize>,
) {
    let mut group = Vec::new();
    while waiting.blocking_recv_many(&mut group, 512) > 0 {
        let all: Vec<u8> = group.iter().flat_map(|(frame, _)| frame.iter().copied()).collect();
        if file.write_all(&all).and_then(|()| file.sync_data()).is_err() {
            return;
        }
        let mut log = log.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        log.extend_from_slice(&all);
        let head = log.len();
        drop(log);
        for (_, answer) in group.drain(..) {
            let _ = answer.send(());
        }
        moved.send_replace(head);
    }
}

/// A connection that begins with GET subscribes; any other publishes.
async fn connection(mut stream: TcpStream, mut log: Log) {
    let mut buffer = vec![0; 16 * 1024];
    let mut held = Vec::new();
    loop {
        let Ok(length @ 1..) = stream.read(&mut buffer).await else { return };
        held.extend_from_slice(&buffer[..length]);
        if held.starts_with(b"GET ") {
            return subscribe(stream, log).await;
        }
        while let Some(end) = find(&held, REQUEST_END) {
            let stamp = stamp_of(&held[..end]);
            held.drain(..end + REQUEST_END.len());
            let (answer, done) = oneshot::channel();
            let frame = FRAME.replace("STAMP", &stamp).into_bytes();
            if log.publish.send((frame, answer)).await.is_err() || done.await.is_err() {
                return;
            }
            if stream.write_all(REPLY.as_bytes()).await.is_err() {
                return;
            }
        }
        let _ = log.head.borrow_and_update();
    }
}

async fn subscribe(mut stream: TcpStream, mut log: Log) {
    if stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.is_err() {
        return;
    }
    let mut at = *log.head.borrow_and_update();
    while log.head.changed().await.is_ok() {
        let head = *log.head.borrow_and_update();
        let piece =
            log.bytes.lock().unwrap_or_else(std::sync::PoisonError::into_inner)[at..head].to_vec();
        at = head;
        if stream.write_all(&piece).await.is_err() {
            return;
        }
    }
}

pub fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

/// The publisher's stamp, so that the floor's frames carry it as the product's do.
fn stamp_of(request: &[u8]) -> String {
    let text = String::from_utf8_lossy(request);
    let after = text.rsplit_once("\"at\":\"").map_or("", |(_, after)| after);
    after.split('"').next().unwrap_or_default().to_owned()
}
