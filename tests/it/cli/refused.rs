//! The bridge while the daemon has its session but does not give it its stream.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::json;

use crate::support::{Daemon, Pipe, distinct_id, eventually, poll};

/// Stands before the daemon's socket and refuses streams with 503 while it is told to.
#[derive(Clone, Default)]
struct Door(Arc<Mutex<Seen>>);

#[derive(Default)]
struct Seen {
    refuses: bool,
    /// Session and place of every stream that was refused.
    refused: Vec<[Option<String>; 2]>,
    handshakes: usize,
    /// Streams that are open.
    streams: Vec<UnixStream>,
}

impl Door {
    fn before(daemon: &Daemon) -> Self {
        let (socket, behind) = (daemon.home().socket(), daemon.home().path().join("behind"));
        std::fs::rename(&socket, &behind).expect("the socket moves");
        let listener = UnixListener::bind(&socket).expect("the door");
        let door = Self::default();
        let opened = door.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (door, behind) = (opened.clone(), behind.clone());
                std::thread::spawn(move || {
                    let inside = UnixStream::connect(behind).expect("the daemon");
                    drop(door.pass(stream, inside));
                });
            }
        });
        door
    }

    fn pass(&self, mut stream: UnixStream, mut inside: UnixStream) -> std::io::Result<()> {
        let mut buffer = vec![0; 64 * 1024];
        let (mut from, mut to) = (inside.try_clone()?, stream.try_clone()?);
        std::thread::spawn(move || {
            drop(std::io::copy(&mut from, &mut to));
            drop(to.shutdown(std::net::Shutdown::Both));
        });
        loop {
            // The bridge's requests are small: one read has all of one.
            let read = stream.read(&mut buffer)?;
            if read == 0 {
                return inside.shutdown(std::net::Shutdown::Both);
            }
            let request = String::from_utf8_lossy(&buffer[..read]);
            if self.refuses(&request, &stream) {
                stream.write_all(refusal().as_bytes())?;
            } else {
                inside.write_all(&buffer[..read])?;
            }
        }
    }

    fn refuses(&self, request: &str, stream: &UnixStream) -> bool {
        let mut seen = self.0.lock().unwrap();
        seen.handshakes += usize::from(request.contains("\"initialize\""));
        let listens = request.starts_with("GET /mcp");
        if listens && !seen.refuses {
            seen.streams.extend(stream.try_clone());
        }
        let refuses = listens && seen.refuses;
        if refuses {
            let header = |wanted: &str| {
                let mut fields = request.lines().filter_map(|line| line.split_once(':'));
                let found = fields.find(|(name, _)| name.eq_ignore_ascii_case(wanted));
                found.map(|(_, value)| value.trim().to_owned())
            };
            seen.refused.push([header("mcp-session-id"), header("last-event-id")]);
        }
        refuses
    }

    /// Cuts the streams and refuses new ones; or lets them through again.
    fn refuse(&self, refuses: bool) {
        let mut seen = self.0.lock().unwrap();
        seen.refuses = refuses;
        for stream in seen.streams.drain(..) {
            drop(stream.shutdown(std::net::Shutdown::Both));
        }
    }

    fn refused(&self) -> Vec<[Option<String>; 2]> {
        self.0.lock().unwrap().refused.clone()
    }
}

/// What the daemon says when too much is going on at once.
fn refusal() -> String {
    let error = json!({ "code": -32603, "message": "too much is going on at once" });
    let body = json!({ "jsonrpc": "2.0", "error": error }).to_string();
    let head = "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json";
    format!("{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

#[test]
fn a_refused_stream_is_asked_for_again_in_the_same_place_and_not_too_often() {
    let daemon = Daemon::start();
    let door = Door::before(&daemon);
    let mut command = daemon.home().command(env!("CARGO_BIN_EXE_fleetctl"));
    command.args(["mcp", "--no-channel"]);
    let mut pipe = Pipe::start(command);
    pipe.greet("2025-11-25");
    let publish =
        |n: u64| daemon.publish("custom.refused", &distinct_id("refused"), json!({ "n": n }));
    let next = |pipe: &mut Pipe| loop {
        let told = pipe.notification("notifications/message");
        if told["logger"] == "custom.refused" {
            break told["data"]["data"]["n"].as_u64().unwrap();
        }
    };
    eventually("its stream", || daemon.metric("fleetd_subscriptions") >= 1.0);
    publish(1);
    assert_eq!(next(&mut pipe), 1);
    door.refuse(true);
    eventually("streams are refused", || door.refused().len() >= 2);
    publish(2);
    let more = || (door.refused().len() > 8).then_some(());
    assert_eq!(poll(Duration::from_secs(2), more), None, "it spins");
    let refused = door.refused();
    assert!(refused.iter().all(|[session, place]| session.is_some() && place.is_some()));
    assert!(refused.windows(2).all(|two| two[0] == two[1]), "{refused:?}");
    door.refuse(false);
    assert_eq!(next(&mut pipe), 2, "what happened meanwhile is told, once");
    publish(3);
    assert_eq!(next(&mut pipe), 3);
    assert_eq!(door.0.lock().unwrap().handshakes, 1, "it is the same session");
}
