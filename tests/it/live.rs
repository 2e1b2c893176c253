//! A real daemon in a throw-away HOME, and the least that talks to it.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A daemon in a throw-away HOME.
pub struct Live {
    child: Child,
    pub home: tempfile::TempDir,
    pub port: u16,
    pub token: String,
}

impl Live {
    /// Starts it, behind `prefix` if there is one, and waits for its runtime file.
    pub fn start(prefix: &[&str]) -> Self {
        Self::start_with(prefix, &[])
    }

    pub fn start_with(prefix: &[&str], variables: &[(&str, &str)]) -> Self {
        let home = tempfile::tempdir().unwrap();
        let daemon = env!("CARGO_BIN_EXE_fleetd");
        let mut command = match prefix {
            [] => Command::new(daemon),
            [program, rest @ ..] => {
                let mut command = Command::new(program);
                command.args(rest).arg(daemon);
                command
            }
        };
        command.env_clear().env("HOME", home.path()).env("PATH", "/usr/bin:/bin");
        command.envs(variables.iter().copied());
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
        let pointer = home.path().join(".fleetd/fleetd.json");
        let card = eventually("the runtime file", || std::fs::read_to_string(&pointer).ok());
        let card: serde_json::Value = serde_json::from_str(&card).unwrap();
        let port = u16::try_from(card["port"].as_u64().unwrap()).unwrap();
        let token = home.path().join(".local/state/fleetd/token");
        let token = std::fs::read_to_string(token).unwrap();
        Self { child, home, port, token }
    }

    pub fn signal(&self, signal: nix::sys::signal::Signal) {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.child.id()).unwrap());
        nix::sys::signal::kill(pid, signal).unwrap();
    }

    /// Its exit code, once it has ended.
    pub fn ended(&mut self) -> i32 {
        eventually("its end", || self.child.try_wait().unwrap()).code().unwrap()
    }

    pub fn state(&self) -> PathBuf {
        self.home.path().join(".local/state/fleetd")
    }

    pub fn socket(&self) -> PathBuf {
        self.home.path().join(".fleetd/fleetd.sock")
    }

    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(40))).unwrap();
        stream
    }

    pub fn head(&self, method: &str, target: &str) -> String {
        format!(
            "{method} {target} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nAuthorization: Bearer {}\r\n",
            self.port, self.token
        )
    }

    pub fn get(&self, target: &str) -> String {
        exchange(self.connect(), &(self.head("GET", target) + "Connection: close\r\n\r\n"))
    }

    pub fn publish(&self, id: &str, bytes: usize) {
        let event = serde_json::json!({
            "specversion": "1.0", "type": "custom.load", "source": "test", "id": id,
            "data": "x".repeat(bytes),
        });
        let body = event.to_string();
        let answer = exchange(
            self.connect(),
            &format!(
                "{}Connection: close\r\nContent-Type: application/cloudevents+json\r\nContent-Length: {}\r\n\r\n{body}",
                self.head("POST", "/events"),
                body.len()
            ),
        );
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }

    pub fn metric(&self, name: &str) -> u64 {
        let text = self.get("/metrics");
        let line = text.lines().find(|line| line.starts_with(&format!("{name} ")));
        line.unwrap_or_else(|| panic!("no {name} in {text}"))
            .rsplit(' ')
            .next()
            .unwrap()
            .parse()
            .unwrap()
    }

    /// `name` of `/proc/PID/status`, in KiB.
    pub fn memory(&self, name: &str) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = text.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    /// Clock ticks of CPU that were used so far.
    pub fn cpu(&self) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        let fields: Vec<_> = text.rsplit(')').next().unwrap().split_whitespace().collect();
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

pub fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(40) {
        if let Some(found) = look() {
            return found;
        }
        std::thread::park_timeout(Duration::from_millis(20));
    }
    panic!("not in time: {what}")
}

pub fn exchange(mut stream: impl Read + Write, request: &str) -> String {
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    // A reset after the answer is an end like any other.
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}
