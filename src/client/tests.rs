//! The client against a small server that does as it is told.

mod entry;
mod requests;

use std::collections::VecDeque;
use std::os::unix::fs::PermissionsExt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use hmac::{Hmac, KeyInit, Mac};
use http::{HeaderMap, Request, Response};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use sha2::Sha256;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio_util::task::TaskTracker;

use super::*;
use crate::model::{ErrorCode, OutputStream};
use crate::wire::tools::NoArguments;

type Body = BoxBody<Bytes, std::io::Error>;
type Answer = Box<dyn FnOnce(&Seen) -> Response<Body> + Send>;

const TOKEN: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
const KEY: [u8; 32] = [7; 32];

/// A request as the server saw it.
#[derive(Clone, Debug)]
struct Seen {
    target: String,
    headers: HeaderMap,
    body: Bytes,
}

impl Seen {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

/// Answers `/healthz` by itself, and everything else in the order of `script`.
struct Server {
    home: tempfile::TempDir,
    script: Arc<Mutex<VecDeque<Answer>>>,
    seen: Arc<Mutex<Vec<Seen>>>,
    loops: TaskTracker,
}

impl Server {
    fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        for folder in ["home", "state", "run"] {
            std::fs::create_dir(home.path().join(folder)).unwrap();
        }
        Self { home, script: Arc::default(), seen: Arc::default(), loops: TaskTracker::new() }
    }

    fn paths(&self) -> Paths {
        let at = |name| self.home.path().join(name);
        Paths { home: at("home"), state: at("state"), runtime: at("run"), config: at("config") }
    }

    fn client(&self) -> Client {
        Client::new(self.paths())
    }

    fn then(&self, answer: impl FnOnce(&Seen) -> Response<Body> + Send + 'static) -> &Self {
        self.script.lock().unwrap().push_back(Box::new(answer));
        self
    }

    /// What was asked for beside `/healthz`.
    fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    async fn on_socket(self) -> Self {
        let listener = UnixListener::bind(self.paths().socket().unwrap()).unwrap();
        let handler = self.handler(None);
        let loops = self.loops.clone();
        self.loops.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                loops.spawn(serve(stream, handler.clone()));
            }
        });
        self
    }

    async fn on_port(self, key: [u8; 32]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        self.write_runtime_file(port, 0o600);
        let handler = self.handler(Some((key, port)));
        let loops = self.loops.clone();
        self.loops.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                loops.spawn(serve(stream, handler.clone()));
            }
        });
        self
    }

    fn handler(&self, proof: Option<([u8; 32], u16)>) -> Handler {
        Handler { script: Arc::clone(&self.script), seen: Arc::clone(&self.seen), proof }
    }

    fn write_runtime_file(&self, port: u16, mode: u32) {
        let key: String = KEY.iter().map(|byte| format!("{byte:02x}")).collect();
        let file = json!({"schema": 1, "version": "0.1.0", "instance": "i", "pid": 4711,
            "started": "2026-11-20T10:00:00Z", "started_ms": 0, "port": port,
            "url": format!("http://127.0.0.1:{port}"), "proof_key": key});
        write_private(&self.paths().runtime_file(), &file.to_string(), mode);
        let pointer = self.paths().pointer();
        let _ = std::fs::remove_file(&pointer);
        std::os::unix::fs::symlink(self.paths().runtime_file(), pointer).unwrap();
        write_private(&self.paths().token(), TOKEN, 0o600);
    }
}

fn write_private(path: &std::path::Path, text: &str, mode: u32) {
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
}

#[derive(Clone)]
struct Handler {
    script: Arc<Mutex<VecDeque<Answer>>>,
    seen: Arc<Mutex<Vec<Seen>>>,
    proof: Option<([u8; 32], u16)>,
}

impl Handler {
    fn health(&self, target: &str) -> Response<Body> {
        let Some((key, port)) = self.proof else { return whole(json!({"status": "ok"})) };
        let hex = target.strip_prefix("/healthz?challenge=").unwrap();
        let challenge: Vec<u8> = (0..hex.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
            .collect();
        let mut mac = Hmac::<Sha256>::new_from_slice(&key).unwrap();
        mac.update(&challenge);
        mac.update(format!(":{port}").as_bytes());
        let proof: String =
            mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        whole(json!({"status": "ok", "proof": proof}))
    }
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, handler: Handler) {
    let service = hyper::service::service_fn(move |request: Request<hyper::body::Incoming>| {
        let handler = handler.clone();
        async move {
            let (head, body) = request.into_parts();
            let target = head.uri.to_string();
            if target.starts_with("/healthz") {
                return Ok::<_, std::io::Error>(handler.health(&target));
            }
            let body = body.collect().await.unwrap().to_bytes();
            let seen = Seen { target, headers: head.headers, body };
            handler.seen.lock().unwrap().push(seen.clone());
            let answer = handler.script.lock().unwrap().pop_front();
            Ok(answer.expect("an unexpected request")(&seen))
        }
    });
    let _ = hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

fn whole(value: Value) -> Response<Body> {
    let body = Full::new(Bytes::from(value.to_string())).map_err(|never| match never {});
    Response::builder().header("content-type", "application/json").body(body.boxed()).unwrap()
}

fn refusal(status: u16, code: &str) -> Response<Body> {
    let mut answer = whole(json!({"error": {"code": code, "message": format!("it is {code}")}}));
    *answer.status_mut() = http::StatusCode::from_u16(status).unwrap();
    answer
}

/// A body of these pieces that ends well, or is cut.
fn pieces(kind: &str, pieces: &[&str], cut: bool) -> Response<Body> {
    let mut frames: Vec<_> =
        pieces.iter().map(|piece| Ok(Frame::data(Bytes::from(piece.to_string())))).collect();
    if cut {
        frames.push(Err(std::io::Error::other("cut")));
    }
    // While the body is not ready, hyper sends what it has; a cut would drop it.
    let slowly = futures_util::stream::iter(frames).then(|frame| async {
        tokio::task::yield_now().await;
        frame
    });
    let body = BoxBody::new(StreamBody::new(slowly));
    Response::builder().header("content-type", kind).body(body).unwrap()
}

fn result(value: Value) -> Value {
    json!({"jsonrpc": "2.0", "id": 1, "result": {"resultType": "complete", "content": [],
        "structuredContent": value}})
}

fn task() -> TaskId {
    "1d0c1f5e-6d34-4c0e-8a4e-9a3c0d1c8f11".parse().unwrap()
}

fn monitored(state: &str) -> Response<Body> {
    let text = json!({"text": "", "offset": 0, "next_offset": 0, "exact": true});
    whole(result(json!({"tasks": [{"task_id": task().to_string(), "state": state,
        "member": "local", "project": "default", "command": "c", "pid": null, "created": "",
        "started": null, "ended": null, "duration_ms": null, "exit_code": null, "signal": null,
        "reason": null, "stop_requested": false, "stdout_bytes": 0, "stderr_bytes": 0,
        "stdout": text, "stderr": text}]})))
}
