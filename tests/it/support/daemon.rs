//! A real `fleetd` process.

use std::fs::File;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::Value;

use super::http::{Answer, Conn, Request};
use super::process::{Output, descendants, has_ended, signal, wait_for};
use super::rpc::call_tool;
use super::sse::Stream;
use super::wait::{PATIENCE, eventually, poll};
use super::{Home, custom_event};

/// A running daemon. Dropping it kills it with `SIGKILL`, and then everything
/// else that runs in its HOME.
pub struct Daemon {
    process: Process,
    runtime: Value,
    /// From exec to the first answer of `/healthz`.
    pub ready_after: Duration,
    // Dropped last: its drop kills what the daemon left behind.
    home: Home,
}

/// A child that does not survive its test.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// How a daemon ended.
#[derive(Debug)]
pub struct Exit {
    pub status: ExitStatus,
    pub took: Duration,
}

impl Daemon {
    /// Starts a daemon in a new HOME and waits until it is ready.
    pub fn start() -> Self {
        Self::start_in(Home::new())
    }

    /// The same with a configuration file.
    pub fn configured(toml: &str) -> Self {
        let home = Home::new();
        home.configure(toml);
        Self::start_in(home)
    }

    /// Starts a daemon in a HOME that may have a past.
    pub fn start_in(home: Home) -> Self {
        let command = home.fleetd();
        Self::start_as(home, command)
    }

    /// Starts `command`, which ends up running `fleetd` in `home` (perhaps under
    /// `strace`), and waits until it is ready.
    ///
    /// # Panics
    /// With what the daemon said, if it ends or is not ready in time.
    pub fn start_as(home: Home, command: Command) -> Self {
        Self::try_start_as(home, command).unwrap_or_else(|(home, status)| {
            panic!("fleetd ended with {status} before it was ready\n{}", home.story())
        })
    }

    /// Like [`Daemon::start_as`], for tests in which the daemon may well die on
    /// the way: the HOME comes back then, with how the process ended.
    pub fn try_start_as(home: Home, mut command: Command) -> Result<Self, (Home, ExitStatus)> {
        let stderr = File::create(home.path().join("stderr")).expect("a file for stderr");
        let begun = Instant::now();
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr).spawn();
        let mut process = Process(child.unwrap_or_else(|error| panic!("{command:?}: {error}")));
        let outcome = poll(PATIENCE, || {
            if let Ok(Some(status)) = process.0.try_wait() {
                return Some(Err(status));
            }
            ready(&home, process.0.id()).map(Ok)
        });
        match outcome {
            Some(Ok(runtime)) => Ok(Self { process, runtime, ready_after: begun.elapsed(), home }),
            Some(Err(status)) => Err((home, status)),
            None => panic!("fleetd was not ready within {PATIENCE:?}"),
        }
    }

    pub fn home(&self) -> &Home {
        &self.home
    }

    /// The daemon's process, also when a tracer is its parent.
    pub fn pid(&self) -> u32 {
        let pid = self.runtime["pid"].as_u64().expect("the runtime file has a pid");
        u32::try_from(pid).expect("a pid fits in 32 bits")
    }

    pub fn port(&self) -> u16 {
        let port = self.runtime["port"].as_u64().expect("the runtime file has a port");
        u16::try_from(port).expect("a port fits in 16 bits")
    }

    /// `127.0.0.1:PORT`, the only Host this daemon answers to over TCP.
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port())
    }

    /// The runtime file as it was when the daemon became ready.
    pub fn runtime(&self) -> &Value {
        &self.runtime
    }

    pub fn token(&self) -> String {
        self.home.token()
    }

    /// A TCP connection without any header sent.
    pub fn connect(&self) -> Conn {
        Conn::tcp(self.port())
    }

    /// A connection to the Unix socket.
    pub fn connect_unix(&self) -> Conn {
        Conn::unix(&self.home.socket())
    }

    /// `method path` with this daemon's Host and a valid token.
    pub fn request(&self, method: &str, path: &str) -> Request {
        Request::new(method, path).host(&self.host()).bearer(&self.token())
    }

    /// Sends `request` on a new connection and reads the whole answer.
    pub fn send(&self, request: &Request) -> Answer {
        self.connect().exchange(request)
    }

    /// `GET path` with a valid token.
    pub fn get(&self, path: &str) -> Answer {
        self.send(&self.request("GET", path))
    }

    /// Publishes one event in structured mode.
    pub fn post_event(&self, event: &Value) -> Answer {
        let body = event.to_string();
        let request = self.request("POST", "/events");
        self.send(&request.body("application/cloudevents+json", body.as_bytes()))
    }

    /// Publishes an event that has to be taken.
    #[track_caller]
    pub fn publish(&self, topic: &str, id: &str, data: Value) {
        let answer = self.post_event(&custom_event(topic, id, data));
        assert!((200..300).contains(&answer.status), "publish {id}: {answer:?}");
    }

    /// Opens `GET /events?query` and waits for the answer's head.
    pub fn events(&self, query: &str) -> Stream {
        Stream::open(self.connect(), &self.request("GET", &format!("/events?{query}")))
    }

    /// Opens `GET /events?query` after `last_id`.
    pub fn events_after(&self, query: &str, last_id: &str) -> Stream {
        let request = self.request("GET", &format!("/events?{query}"));
        Stream::open(self.connect(), &request.header("Last-Event-ID", last_id))
    }

    /// The structured result of a tool that has to succeed.
    #[track_caller]
    pub fn tool(&self, name: &str, arguments: Value) -> Value {
        call_tool(self, name, arguments)
    }

    /// One value of `/metrics`.
    pub fn metric(&self, name: &str) -> f64 {
        let text = self.get("/metrics").text();
        let line = text
            .lines()
            .find(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with([' ', '{'])));
        line.and_then(|line| line.rsplit(' ').next()?.parse().ok())
            .unwrap_or_else(|| panic!("no metric {name} in\n{text}"))
    }

    pub fn fleetctl(&self, args: &[&str]) -> Output {
        self.home.fleetctl(args)
    }

    pub fn signal(&self, number: Signal) {
        signal(self.pid(), number);
    }

    /// `kill -9`; what the daemon started goes on. Returns when it holds nothing
    /// any more: under a tracer it is nobody's child here, so waiting for the
    /// tracer would be too short.
    pub fn kill9(self) -> Home {
        self.signal(Signal::SIGKILL);
        let pid = self.pid();
        eventually("the killed daemon is gone", || has_ended(pid));
        self.home
    }

    /// Kills the daemon and starts it again in the same HOME.
    pub fn restart_after_kill9(self) -> Self {
        Self::start_in(self.kill9())
    }

    /// `SIGTERM`, and how the daemon ended.
    ///
    /// # Panics
    /// If it takes more than `limit`.
    pub fn terminate(mut self, limit: Duration) -> (Home, Exit) {
        let begun = Instant::now();
        self.signal(Signal::SIGTERM);
        let status = self.ended(limit);
        let took = begun.elapsed();
        let status = status.unwrap_or_else(|| panic!("still there {limit:?} after SIGTERM"));
        (self.home, Exit { status, took })
    }

    /// Waits for the daemon's own end, and what it leaves behind.
    ///
    /// # Panics
    /// If it takes more than `limit`.
    pub fn outlived(mut self, limit: Duration) -> (Home, ExitStatus) {
        let status = self.ended(limit);
        (self.home, status.unwrap_or_else(|| panic!("still there after {limit:?}")))
    }

    /// Waits for the daemon's own end.
    pub fn ended(&mut self, limit: Duration) -> Option<ExitStatus> {
        wait_for(&mut self.process.0, limit)
    }
}

/// The runtime file, once it is `started`'s own and the port answers.
fn ready(home: &Home, started: u32) -> Option<Value> {
    let text = std::fs::read(home.pointer()).ok()?;
    let runtime: Value = serde_json::from_slice(&text).ok()?;
    let pid = u32::try_from(runtime["pid"].as_u64()?).ok()?;
    // Under a tracer the daemon is the child's child.
    if pid != started && !descendants(started).contains(&pid) {
        return None;
    }
    let port = u16::try_from(runtime["port"].as_u64()?).ok()?;
    let mut conn = Conn::try_tcp(port).ok()?;
    let request = Request::new("GET", "/healthz").host(&format!("127.0.0.1:{port}"));
    let answer = conn.try_exchange(&request).ok()?;
    (answer.status == 200).then_some(runtime)
}
