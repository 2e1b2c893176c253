//! Another program on the daemon's port learns nothing: R40.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::support::{Daemon, Home};

/// Answers every connection like a friendly daemon would, and keeps all bytes.
struct Squatter {
    heard: Arc<Mutex<Vec<u8>>>,
}

impl Squatter {
    fn on(port: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).expect("the port is free");
        let heard = Arc::new(Mutex::new(Vec::new()));
        let keep = Arc::clone(&heard);
        // Ends with the test's process: it has no state that could be lost.
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                drop(stream.set_read_timeout(Some(Duration::from_millis(500))));
                let mut buffer = [0; 16 * 1024];
                while let Ok(count @ 1..) = stream.read(&mut buffer) {
                    keep.lock().expect("no panic").extend_from_slice(&buffer[..count]);
                    let body = format!("{{\"status\":\"ok\",\"proof\":\"{}\"}}", "0".repeat(64));
                    let head = format!(
                        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
                        body.len()
                    );
                    drop(stream.write_all(format!("{head}{body}").as_bytes()));
                }
            }
        });
        Self { heard }
    }

    fn heard(&self) -> String {
        String::from_utf8_lossy(&self.heard.lock().expect("no panic")).into_owned()
    }
}

/// A HOME whose daemon was killed: all its files are there, and its port is free.
fn abandoned() -> (Home, u16, String) {
    let daemon = Daemon::start();
    let (port, token) = (daemon.port(), daemon.token());
    (daemon.kill9(), port, token)
}

#[test]
fn r40_a_squatter_never_hears_the_token() {
    let (home, port, token) = abandoned();
    // Without the socket the client has only TCP left, which is the hard case.
    drop(std::fs::remove_file(home.socket()));
    // The runtime file names a living process, as after a pid was reused.
    let text = std::fs::read_to_string(home.pointer()).expect("the stale runtime file");
    let mut runtime: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    runtime["pid"] = std::process::id().into();
    let file = std::fs::canonicalize(home.pointer()).expect("the file behind the pointer");
    std::fs::write(file, runtime.to_string()).expect("rewritten");

    let squatter = Squatter::on(port);
    let commands: [&[&str]; 6] = [
        &["status"],
        &["tasks"],
        &["events", "--since", "0"],
        &["publish", "custom.secret", "--data", "{}"],
        &["run", "--", "true"],
        &["mcp-headers"],
    ];
    for command in commands {
        let output = home.fleetctl(command);
        assert!(!output.status.success(), "{command:?}: {output:?}");
        assert!(!output.stdout.contains(&token), "{command:?} printed the token");
        assert!(!output.stderr.contains(&token), "{command:?} printed the token");
    }
    let heard = squatter.heard();
    assert!(!heard.contains(&token), "the squatter heard the token:\n{heard}");
    assert!(!heard.to_ascii_lowercase().contains("authorization"), "{heard}");
    // The test is void if nobody ever asked.
    assert!(heard.contains("GET /healthz"), "nobody came to the squatter:\n{heard}");
}

#[test]
fn r40_a_replayed_proof_of_another_port_is_refused() {
    let daemon = Daemon::start();
    let challenge = "ab".repeat(32);
    let ask = |challenge: &str| daemon.get(&format!("/healthz?challenge={challenge}"));
    let first = ask(&challenge).json();
    assert_eq!(first["status"], "ok");
    let proof = first["proof"].as_str().expect("a proof").to_owned();
    assert_eq!(proof.len(), 64, "{first}");
    assert_ne!(ask(&"ac".repeat(32)).json()["proof"], proof.as_str());
    for wrong in ["", "ab", "zz", &"zz".repeat(32), &"ab".repeat(65)] {
        assert_eq!(ask(wrong).status, 400, "challenge '{wrong}'");
    }
    assert_eq!(daemon.get("/healthz").json(), serde_json::json!({ "status": "ok" }));
}

/// The client sends what the helper prints to the address in its own file.
#[test]
fn r40_headers_are_only_for_the_address_of_the_daemon() {
    let daemon = Daemon::start();
    let here = format!("http://127.0.0.1:{}", daemon.port());
    let squatted = "http://127.0.0.1:1/mcp";
    let refused = daemon.home().fleetctl(&["mcp-headers", "--url", squatted]);
    assert_eq!(refused.code(), 7, "{refused:?}");
    assert_eq!(refused.stdout, "");
    assert!(refused.stderr.contains("mcp-config"), "{refused:?}");
    let ours = daemon.home().fleetctl(&["mcp-headers", "--url", &format!("{here}/mcp")]).ok();
    assert!(ours.stdout.contains("Bearer "), "no token for {here}");
}
