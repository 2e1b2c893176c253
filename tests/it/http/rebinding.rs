//! DNS rebinding, as it is done: a name that leads to the attacker's server first
//! and to this machine then (S01).

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::path::Path;
use std::time::Duration;

use crate::support::{Daemon, in_own_network, run};

const ATTACKER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 66);

/// Answers every question for an address: the first time with the attacker's,
/// then with this machine's, and never for longer than once.
fn resolve(socket: &UdpSocket) {
    const A: [u8; 2] = [0, 1];
    let (mut query, mut asked) = ([0; 512], 0);
    while let Ok((length, from)) = socket.recv_from(&mut query) {
        let Some(end) = query[12..length].iter().position(|byte| *byte == 0).map(|at| at + 12)
        else {
            continue;
        };
        // Id, "an answer", one question, then the question itself.
        let mut answer = query[..2].to_vec();
        let is_address = query[end + 1..end + 3] == A;
        answer.extend([0x81, 0x80, 0, 1, 0, u8::from(is_address), 0, 0, 0, 0]);
        answer.extend(&query[12..end + 5]);
        if is_address {
            let address = if asked == 0 { ATTACKER } else { Ipv4Addr::LOCALHOST };
            asked += 1;
            // The same name, A, IN, no time to live, four bytes.
            answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4]);
            answer.extend(address.octets());
        }
        drop(socket.send_to(&answer, from));
    }
}

/// The attacker's page.
fn serve(listener: &TcpListener) {
    for mut stream in listener.incoming().map_while(Result::ok) {
        drop(stream.read(&mut [0; 4096]));
        drop(
            stream.write_all(
                b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\nconnection: close\r\n\r\npage",
            ),
        );
    }
}

/// What `curl` gets from `path` under the attacker's name: body and status.
fn fetch(daemon: &Daemon, resolver: &Path, path: &str, args: &[&str]) -> String {
    let mut command = daemon.home().command("unshare");
    let script = "mount --bind \"$0\" /etc/resolv.conf; exec curl -sS --max-time 10 \"$@\"";
    command.args(["--mount", "sh", "-ec", script]).arg(resolver);
    command.args(["--write-out", " %{http_code} %{remote_ip}"]).args(args);
    command.arg(format!("http://rebound.example:{}{path}", daemon.port()));
    run(command, b"", Duration::from_secs(30)).ok().stdout
}

#[test]
fn s01_a_rebound_name_reaches_nothing() {
    in_own_network("http::rebinding::s01_a_rebound_name_reaches_nothing", || {
        let daemon = Daemon::start();
        let socket = UdpSocket::bind("127.0.0.1:53").expect("the resolver's port");
        let page = TcpListener::bind((ATTACKER, daemon.port())).expect("the attacker's port");
        std::thread::spawn(move || resolve(&socket));
        std::thread::spawn(move || serve(&page));
        let resolver = daemon.home().path().join("resolv.conf");
        std::fs::write(&resolver, "nameserver 127.0.0.1\noptions attempts:3 timeout:2\n")
            .expect("written");
        let first = fetch(&daemon, &resolver, "/", &[]);
        assert_eq!(first, format!("page 200 {ATTACKER}"), "void: the name did not lead there");
        let bearer = format!("Authorization: Bearer {}", daemon.token());
        let post = ["-H", "Content-Type: application/json", "-d", "{}"];
        // Even a page that had stolen the token would get nothing.
        for args in [&[][..], &["-H", &bearer], &[&["-H", &bearer][..], &post].concat()] {
            for path in ["/healthz", "/mcp", "/events", "/sse", "/metrics"] {
                let said = fetch(&daemon, &resolver, path, args);
                assert!(said.ends_with(" 403 127.0.0.1"), "{path} {args:?}: {said}");
                assert!(said.contains("forbidden") && !said.contains("task"), "{path}: {said}");
            }
        }
    });
}
