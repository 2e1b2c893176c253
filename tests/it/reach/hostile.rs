//! R35: servers that break SSH's rules on purpose. The one who meets them gets
//! an error in time, and nobody else notices.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use fleetd::reach::{Auth, Cause, Phase, ReachError, Target};

use super::rig::{Rig, online, reaches, text};
use crate::support::{Sshd, rss_kib};

const DEADLINE: Duration = Duration::from_secs(2);
const BANNER: &[u8] = b"SSH-2.0-OpenSSH_9.2\r\n";

/// Plays a server on a port of its own, to everybody who comes.
fn serve(play: impl Fn(&mut TcpStream) -> std::io::Result<()> + Send + Sync + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let play = std::sync::Arc::new(play);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let play = std::sync::Arc::clone(&play);
            std::thread::spawn(move || {
                let mut stream = stream;
                // The other end going away is what ends most of these.
                let _ = play(&mut stream);
                let _ = stream.shutdown(Shutdown::Both);
            });
        }
    });
    port
}

/// Reads until the other end goes.
fn linger(stream: &mut TcpStream) -> std::io::Result<()> {
    let mut buffer = [0; 4096];
    while stream.read(&mut buffer)? > 0 {}
    Ok(())
}

fn at(port: u16) -> Target {
    Target {
        port: Some(port),
        user: Some("x".into()),
        auth: Auth::Password(fleetd::reach::Secret::new("x")),
        accept_new: true,
        ..Target::new("127.0.0.1")
    }
}

fn hasty() -> Rig {
    Rig::with(Sshd::start(), |options| options.connect_deadline = DEADLINE)
}

/// Packets as they are before keys are exchanged: length, padding, payload.
fn packet(payload: &[u8]) -> Vec<u8> {
    let padding = 8 - (payload.len() + 5) % 8 + 8;
    let length = u32::try_from(payload.len() + 1 + padding).unwrap();
    let mut packet = length.to_be_bytes().to_vec();
    packet.push(u8::try_from(padding).unwrap());
    packet.extend_from_slice(payload);
    packet.resize(packet.len() + padding, 0);
    packet
}

/// An offer of methods that would do, with one list replaced.
fn kexinit(list: usize, text: &str) -> Vec<u8> {
    let mut lists = [
        "curve25519-sha256",
        "ssh-ed25519",
        "chacha20-poly1305@openssh.com",
        "chacha20-poly1305@openssh.com",
        "hmac-sha2-256",
        "hmac-sha2-256",
        "none",
        "none",
        "",
        "",
    ];
    lists[list] = text;
    let mut payload = vec![20];
    payload.extend_from_slice(&[9; 16]);
    for list in lists {
        payload.extend_from_slice(&u32::try_from(list.len()).unwrap().to_be_bytes());
        payload.extend_from_slice(list.as_bytes());
    }
    payload.extend_from_slice(&[0; 5]);
    packet(&payload)
}

#[tokio::test(flavor = "multi_thread")]
async fn r35_whatever_a_server_sends_is_an_error_in_time() {
    let rig = hasty();
    let healthy = rig.link().await;
    let before = rss_kib(std::process::id());
    let huge = "x,".repeat(17_000);
    let plays: Vec<(&str, Vec<u8>)> = vec![
        ("nothing", Vec::new()),
        ("no SSH", b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()),
        ("an old protocol", b"SSH-1.5-old\r\n".to_vec()),
        ("control characters", b"SSH-2.0-\x1b[2J\x07\r\n".to_vec()),
        ("a line without end", vec![b'a'; 1_000_000]),
        ("4 GB", [BANNER, &[0xff; 64]].concat()),
        ("no length", [BANNER, &[0; 64]].concat()),
        ("all padding", [BANNER, &[0, 0, 0, 12, 255], &[0; 64]].concat()),
        ("noise", [BANNER, &(0..=255).cycle().take(100_000).collect::<Vec<u8>>()].concat()),
        ("no common method", [BANNER, &kexinit(0, "none-such")].concat()),
        ("no common host key", [BANNER, &kexinit(1, "ssh-dss")].concat()),
        ("a huge list", [BANNER, &kexinit(0, &huge)].concat()),
        ("half an offer", [BANNER, &kexinit(0, "curve25519-sha256")[..60]].concat()),
        ("a short offer", [BANNER, &packet(&[20, 1, 2])].concat()),
        (
            "a list that lies",
            [BANNER, &packet(&[&[20][..], &[9; 16], &[0xff; 8]].concat())].concat(),
        ),
        (
            "a bad answer",
            [BANNER, &kexinit(0, "curve25519-sha256"), &packet(&[31, 0xff, 0xff, 0xff, 0xff])]
                .concat(),
        ),
        ("an empty answer", [BANNER, &kexinit(0, "curve25519-sha256"), &packet(&[31])].concat()),
    ];
    for (name, bytes) in plays {
        for hangs_up in [true, false] {
            let bytes = bytes.clone();
            let port = serve(move |stream| {
                stream.write_all(&bytes)?;
                if hangs_up { stream.shutdown(Shutdown::Write) } else { linger(stream) }
            });
            let begun = Instant::now();
            let error = rig.reach.try_connect(&at(port)).await.unwrap_err();
            let took = begun.elapsed();
            assert!(took < DEADLINE + Duration::from_secs(2), "{name}: {took:?} {error}");
            let told = error.to_string();
            assert!(!told.contains('\u{1b}') && told.len() < 400, "{name}: {told:?}");
            assert!(
                matches!(
                    error,
                    ReachError::Protocol { .. }
                        | ReachError::Unreachable { .. }
                        | ReachError::TimedOut { .. }
                ),
                "{name}: {error:?}"
            );
        }
    }
    let grown = rss_kib(std::process::id()).saturating_sub(before);
    assert!(grown < 64 * 1024, "{grown} KiB");
    assert_eq!(text(&healthy, "echo well").await, "well\n");
    assert_eq!(healthy.state().borrow().generation, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn r35_floods_without_end_are_cut_and_others_go_on() {
    let rig = hasty();
    let healthy = rig.link().await;
    let before = rss_kib(std::process::id());
    let lines = b"a line before the banner\r\n".repeat(2000);
    let ignored = packet(&[&[2, 0, 0, 4, 0][..], &[0; 1024]].concat()).repeat(64);
    let floods =
        [(Vec::new(), lines), ([BANNER, &kexinit(0, "curve25519-sha256")].concat(), ignored)];
    let links: Vec<_> = floods
        .into_iter()
        .map(|(first, again)| {
            let port = serve(move |stream| {
                stream.write_all(&first)?;
                loop {
                    stream.write_all(&again)?;
                }
            });
            rig.reach.link(&at(port))
        })
        .collect();
    let mut slowest = Duration::ZERO;
    for link in &links {
        reaches(link, "tried", |state| state.phase == Phase::Offline).await;
        let asked = Instant::now();
        assert_eq!(text(&healthy, "echo well").await, "well\n");
        slowest = slowest.max(asked.elapsed());
    }
    assert!(slowest < Duration::from_secs(2), "{slowest:?}");
    let grown = rss_kib(std::process::id()).saturating_sub(before);
    assert!(grown < 64 * 1024, "{grown} KiB");
    assert_eq!(online(&healthy).await.generation, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn r35_a_link_to_a_hostile_server_says_so() {
    let rig = hasty();
    let port = serve(|stream| {
        stream.write_all(BANNER)?;
        stream.write_all(&[0xff; 64])
    });
    let link = rig.reach.link(&at(port));
    let state = reaches(&link, "tried", |state| state.phase == Phase::Offline).await;
    assert_eq!(state.cause, Some(Cause::Hostile), "{state:?}");
}
