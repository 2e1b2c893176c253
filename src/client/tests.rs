//! The client against a small server that does as it is told.

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

#[tokio::test]
async fn the_socket_tells_the_pid_and_needs_no_token() {
    let server = Server::new().on_socket().await;
    server.then(|_| whole(result(json!({"n": 1}))));
    let client = server.client();
    let us = i32::try_from(std::process::id()).unwrap();
    assert_eq!(client.healthz().await.unwrap().pid, Some(us));
    let _: Value = client.call_tool("version", &NoArguments {}).await.unwrap();
    assert_eq!(server.seen()[0].header("authorization"), None);
}

#[tokio::test]
async fn a_socket_of_somebody_else_is_sent_nothing() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("s");
    let listener = UnixListener::bind(&path).unwrap();
    let other = nix::unistd::geteuid().as_raw() + 1;
    let error = link::connect_socket(path, other, PATIENCE).await.unwrap_err();
    assert!(matches!(error, ClientError::ForeignSocket { .. }), "{error}");
    assert_eq!(error.code(), ErrorCode::Forbidden);
    let mut received = Vec::new();
    listener.accept().await.unwrap().0.read_to_end(&mut received).await.unwrap();
    assert!(received.is_empty());
}

#[tokio::test]
async fn nobody_there_is_said_with_what_to_do() {
    let server = Server::new();
    let gone = |error: ClientError| {
        assert!(matches!(error, ClientError::NotRunning), "{error}");
        assert!(error.to_string().contains("`fleetctl up`"));
    };
    gone(server.client().healthz().await.unwrap_err());
    // A socket and a port that nobody listens on any more.
    drop(UnixListener::bind(server.paths().socket().unwrap()).unwrap());
    let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    server.write_runtime_file(port, 0o600);
    gone(server.client().healthz().await.unwrap_err());
}

#[tokio::test]
async fn a_daemon_that_does_not_answer_is_frozen() {
    let server = Server::new();
    let _listener = UnixListener::bind(server.paths().socket().unwrap()).unwrap();
    let client = server.client().with_patience(Duration::from_millis(50));
    let error = client.healthz().await.unwrap_err();
    let us = i32::try_from(std::process::id()).unwrap();
    assert!(matches!(error, ClientError::Frozen { pid: Some(pid), .. } if pid == us), "{error}");
}

#[tokio::test]
async fn the_token_follows_a_proof() {
    let server = Server::new().on_port(KEY).await;
    server.then(|_| whole(result(json!({"n": 1}))));
    let client = server.client();
    assert_eq!(client.healthz().await.unwrap().pid, Some(4711));
    assert_eq!(client.token().await.unwrap(), TOKEN);
    let _: Value = client.call_tool("version", &NoArguments {}).await.unwrap();
    let bearer = format!("Bearer {TOKEN}");
    assert_eq!(server.seen()[0].header("authorization"), Some(bearer.as_str()));
}

#[tokio::test]
async fn a_wrong_proof_gets_no_token() {
    let server = Server::new().on_port([8; 32]).await;
    for error in [
        server.client().token().await.unwrap_err(),
        server.client().call_tool::<_, Value>("version", &NoArguments {}).await.unwrap_err(),
    ] {
        assert!(matches!(error, ClientError::Impostor { .. }), "{error}");
        assert!(!format!("{error:?}").contains(TOKEN));
    }
    assert!(server.seen().is_empty());
}

#[tokio::test]
async fn a_squatter_learns_nothing() {
    use tokio::io::AsyncWriteExt;
    let ok = "HTTP/1.1 200 OK\r\ncontent-length: 15\r\n\r\n{\"status\":\"ok\"}";
    for said in [ok, "HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n", "220 smtp\r\n", ""] {
        let server = Server::new();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        server.write_runtime_file(listener.local_addr().unwrap().port(), 0o600);
        let client = server.client();
        let squatter = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut heard = vec![0; 4096];
            let mut count = stream.read(&mut heard).await.unwrap();
            stream.write_all(said.as_bytes()).await.unwrap();
            stream.shutdown().await.unwrap();
            while count < heard.len() {
                match stream.read(&mut heard[count..]).await {
                    Ok(more) if more > 0 => count += more,
                    _ => break,
                }
            }
            String::from_utf8_lossy(&heard[..count]).into_owned()
        };
        let (error, heard) = tokio::join!(client.token(), squatter);
        assert!(matches!(error, Err(ClientError::Impostor { .. })), "{said}: {error:?}");
        assert!(heard.starts_with("GET /healthz?challenge="), "{heard}");
        assert!(!heard.to_lowercase().contains("authorization"), "{heard}");
        assert!(!heard.contains(TOKEN) && !heard.contains("0707"), "{heard}");
    }
}

#[tokio::test]
async fn files_that_others_may_use_are_not_believed() {
    let server = Server::new();
    server.write_runtime_file(1, 0o644);
    let error = server.client().healthz().await.unwrap_err();
    assert!(matches!(error, ClientError::RuntimeFile { .. }), "{error}");
}

#[tokio::test]
async fn a_tool_call_is_what_the_revision_asks_for() {
    let server = Server::new().on_socket().await;
    server.then(|_| whole(result(json!({"n": 1}))));
    let got: Value = server.client().call_tool("version", &NoArguments {}).await.unwrap();
    assert_eq!(got, json!({"n": 1}));
    let seen = &server.seen()[0];
    assert_eq!(seen.target, "/mcp");
    assert_eq!(seen.header("mcp-protocol-version"), Some("2026-07-28"));
    assert_eq!(seen.header("mcp-method"), Some("tools/call"));
    assert_eq!(seen.header("mcp-name"), Some("version"));
    assert_eq!(seen.header("accept"), Some("application/json, text/event-stream"));
    let body: Value = serde_json::from_slice(&seen.body).unwrap();
    assert_eq!(body["params"]["name"], "version");
    let meta = &body["params"]["_meta"];
    assert_eq!(meta["io.modelcontextprotocol/protocolVersion"], "2026-07-28");
    assert!(meta["io.modelcontextprotocol/clientCapabilities"].is_object());
}

#[tokio::test]
async fn an_answer_may_come_as_a_stream_after_progress() {
    let server = Server::new().on_socket().await;
    server.then(|_| {
        let progress =
            "data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/progress\",\"params\":{}}\n\n";
        let answer = format!(": hi\n\ndata: {}\n\n", result(json!({"n": 2})));
        let (head, tail) = answer.split_at(20);
        pieces("text/event-stream", &[progress, head, tail], false)
    });
    let got: Value = server.client().call_tool("x", &NoArguments {}).await.unwrap();
    assert_eq!(got, json!({"n": 2}));
}

#[tokio::test]
async fn refusals_and_cuts_are_told_apart() {
    let server = Server::new().on_socket().await;
    server
        .then(|_| refusal(507, "storage_full"))
        .then(|_| pieces("text/event-stream", &["data: {"], true))
        .then(|_| pieces("application/json", &["{\"jsonrpc\":"], true))
        .then(|_| pieces("text/event-stream", &[": going down\n\n"], false))
        .then(|_| whole(json!("hello")));
    let client = server.client();
    let call = async || client.call_tool::<_, Value>("x", &NoArguments {}).await.unwrap_err();
    let refused = call().await;
    assert_eq!(
        (refused.code(), refused.to_string().as_str()),
        (ErrorCode::StorageFull, "it is storage_full")
    );
    assert!(matches!(call().await, ClientError::Cut(_)));
    assert!(matches!(call().await, ClientError::Cut(_)));
    assert!(matches!(call().await, ClientError::Ended));
    assert!(matches!(call().await, ClientError::Protocol(_)));
}

fn event(seq: u64) -> String {
    format!("id: 0000002a:{seq}\nevent: custom.x\ndata: {{\"sequence\":\"{seq}\"}}\n\n")
}

async fn ids(stream: &mut EventStream, count: usize) -> Vec<String> {
    let mut ids = Vec::new();
    for _ in 0..count {
        ids.push(match stream.next().await.unwrap() {
            Incoming::Frame(frame) => frame.id.unwrap_or_default(),
            Incoming::Lost(_) => "lost".to_owned(),
        });
    }
    ids
}

#[tokio::test]
async fn a_stream_goes_on_where_it_broke() {
    let server = Server::new().on_socket().await;
    server
        .then(|_| pieces("text/event-stream", &[": hi\n\n", &event(5), &event(6)[..9]], true))
        .then(|_| refusal(503, "unavailable"))
        // A bookmark moves the cursor without being shown.
        .then(|_| pieces("text/event-stream", &[&event(6), "id: 0000002a:9\n\n"], false))
        .then(|_| pieces("text/event-stream", &[&event(10)], false));
    let query = EventQuery { since: Some("0000002a:4".into()), ..EventQuery::default() };
    let mut stream = server.client().events(query).await.unwrap();
    assert_eq!(
        ids(&mut stream, 5).await,
        ["0000002a:5", "lost", "0000002a:6", "lost", "0000002a:10"]
    );
    let seen = server.seen();
    assert_eq!(seen[0].target, "/events?signals=0&since=0000002a%3A4");
    let resumed: Vec<_> = seen.iter().map(|seen| seen.header("last-event-id")).collect();
    let [five, nine] = [Some("0000002a:5"), Some("0000002a:9")];
    assert_eq!(resumed, [None, five, five, nine]);
}

#[tokio::test]
async fn a_stream_does_not_repeat_what_cannot_succeed() {
    let server = Server::new().on_socket().await;
    server
        .then(|_| pieces("text/event-stream", &[&event(5)], false))
        .then(|_| refusal(400, "cursor_in_future"));
    let mut stream = server.client().events(EventQuery::default()).await.unwrap();
    assert_eq!(ids(&mut stream, 2).await, ["0000002a:5", "lost"]);
    assert_eq!(stream.next().await.unwrap_err().code(), ErrorCode::CursorInFuture);
}

#[tokio::test]
async fn output_goes_on_at_its_offset_until_the_task_has_ended() {
    let server = Server::new().on_socket().await;
    server
        .then(|_| pieces("application/octet-stream", &["one ", "two "], true))
        // The daemon went down in good order: an end that is not the task's.
        .then(|_| pieces("application/octet-stream", &["three "], false))
        .then(|_| monitored("running"))
        .then(|_| pieces("application/octet-stream", &["four "], false))
        .then(|_| monitored("completed"))
        .then(|_| pieces("application/octet-stream", &["five"], false));
    let mut output = server.client().output(task(), OutputStream::Stdout, 0, true);
    let mut read = Vec::new();
    while let Some(bytes) = output.next().await.unwrap() {
        read.extend_from_slice(&bytes);
    }
    assert_eq!(String::from_utf8(read).unwrap(), "one two three four five");
    assert_eq!(output.offset(), 23);
    let offsets: Vec<_> = server
        .seen()
        .iter()
        .filter_map(|seen| Some(seen.target.split_once("offset=")?.1.to_owned()))
        .collect();
    assert_eq!(offsets, ["0&follow=1", "8&follow=1", "14&follow=1", "19&follow=1"]);
}

#[tokio::test]
async fn input_says_where_it_belongs() {
    let server = Server::new().on_socket().await;
    server.then(|_| whole(json!({"held": 8}))).then(|_| refusal(409, "conflict"));
    let client = server.client();
    assert_eq!(client.input(task(), 3, "hello".into(), false).await.unwrap(), 8);
    let error = client.input(task(), 8, Bytes::new(), true).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::Conflict);
    let seen = server.seen();
    assert_eq!(seen[0].target, format!("/tasks/{}/input?offset=3", task()));
    assert_eq!(seen[0].body, "hello");
    assert_eq!(seen[1].target, format!("/tasks/{}/input?offset=8&end=1", task()));
}
