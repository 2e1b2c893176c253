//! Commands on one connection.

use std::time::{Duration, Instant};

use bytes::Bytes;
use fleetd::reach::{Chunk, End, Limits, ReachError};

use super::rig::{LIMITS, Rig, ask, text};
use crate::support::{Sshd, eventually_async};

#[tokio::test]
async fn a_command_ends_with_its_own_word() {
    let rig = Rig::new();
    let link = rig.link().await;
    for (command, end) in [
        ("true", End::Code(0)),
        ("exit 7", End::Code(7)),
        // What ssh itself says of a lost connection is an exit code like any other.
        ("exit 255", End::Code(255)),
        ("kill -9 $$", End::Signal("KILL".into())),
        ("kill -TERM $$", End::Signal("TERM".into())),
        // Its output ends long before it does.
        ("exec >&- 2>&-; sleep 0.3; exit 9", End::Code(9)),
    ] {
        assert_eq!(ask(&link, command).await.end, end, "{command}");
    }
    assert_eq!(text(&link, "echo $HOME").await.trim(), rig.sshd.home().to_str().unwrap());
    let facts = link.state().borrow().facts.clone().expect("facts of the connection");
    assert_eq!((facts.host.as_str(), facts.port), ("127.0.0.1", rig.sshd.port()));
    assert!(facts.banner.contains("OpenSSH"), "{facts:?}");
    assert!(facts.latency < Duration::from_secs(5) && !facts.newly_trusted, "{facts:?}");
}

#[tokio::test]
async fn every_byte_goes_there_and_back() {
    let rig = Rig::new();
    let link = rig.link().await;
    let all: Vec<u8> = (0..=255).cycle().take(3_000_000).collect();
    let answer = link.ask("cat", Bytes::from(all.clone()), LIMITS).await.unwrap();
    assert!(answer.stdout == all, "{} bytes came back", answer.stdout.len());
    // Its output is closed at once; the input still flows.
    let answer = link.ask("exec cat >$HOME/copy", Bytes::from(all.clone()), LIMITS).await.unwrap();
    assert_eq!(answer.end, End::Code(0));
    assert!(std::fs::read(rig.sshd.home().join("copy")).unwrap() == all);
    // A command that does not read its input does not hold us up.
    let answer = link.ask("exit 3", Bytes::from(all), LIMITS).await.unwrap();
    assert_eq!(answer.end, End::Code(3));
}

#[tokio::test]
async fn both_streams_are_read_however_much_comes_of_one() {
    let rig = Rig::new();
    let link = rig.link().await;
    let command = "head -c 8000000 /dev/zero >&2; head -c 8000000 /dev/zero; exit 4";
    let answer = ask(&link, command).await;
    let sizes = (answer.stdout.len(), answer.stderr.len(), answer.end);
    assert_eq!(sizes, (8_000_000, 8_000_000, End::Code(4)));
}

#[tokio::test]
async fn more_commands_than_sessions_are_allowed_wait_for_their_turn() {
    let rig = Rig::new();
    let link = rig.link().await;
    let begun = Instant::now();
    let commands = (0..20).map(|n| {
        let link = link.clone();
        async move { text(&link, &format!("sleep 0.3; echo {n}")).await.trim() == n.to_string() }
    });
    let answers = futures_util::future::join_all(commands).await;
    assert!(answers.into_iter().all(|right| right));
    // Twice ten at a time, not one after the other.
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    let sessions = rig.sshd.log().matches("Accepted publickey").count();
    assert_eq!(sessions, 1, "one connection");
}

#[tokio::test]
async fn a_server_that_allows_fewer_sessions_is_believed() {
    let rig = Rig::with(Sshd::with("MaxSessions 2"), |_| {});
    let link = rig.link().await;
    let commands = (0..6).map(|_| {
        let link = link.clone();
        async move { text(&link, "sleep 0.1; echo x").await }
    });
    let answers = futures_util::future::join_all(commands).await;
    assert_eq!(answers, ["x\n"; 6]);
    assert!(rig.sshd.log().contains("no more sessions"), "void: it was never asked for more");
}

#[tokio::test]
async fn a_slow_reader_holds_its_own_command_up_and_no_other() {
    let rig = Rig::new();
    let link = rig.link().await;
    let mut slow = link.exec("head -c 50000000 /dev/zero").await.unwrap();
    assert!(matches!(slow.next().await, Some(Chunk::Stdout(_))));
    for _ in 0..20 {
        assert_eq!(text(&link, "echo quick").await, "quick\n");
    }
    let mut bytes = 0;
    while let Some(Chunk::Stdout(piece)) = slow.next().await {
        bytes += piece.len();
    }
    assert!(bytes > 49_000_000, "{bytes}");
    assert_eq!(slow.end().await.unwrap(), End::Code(0));
}

#[tokio::test]
async fn a_command_is_fed_while_it_runs() {
    let rig = Rig::new();
    let link = rig.link().await;
    let mut command = link.exec("while read line; do echo got $line; done; exit 2").await.unwrap();
    let input = command.input.take().unwrap();
    for n in 0..3 {
        input.write(Bytes::from(format!("{n}\n"))).await.unwrap();
        let wanted = Chunk::Stdout(Bytes::from(format!("got {n}\n")));
        assert_eq!(command.next().await, Some(wanted));
    }
    drop(input);
    assert_eq!(command.end().await.unwrap(), End::Code(2));
}

#[tokio::test]
async fn limits_end_the_question_and_not_the_link() {
    let rig = Rig::new();
    let link = rig.link().await;
    let short = Limits { deadline: Duration::from_millis(200), ..LIMITS };
    let error = link.ask("sleep 60", Bytes::new(), short).await.unwrap_err();
    assert!(matches!(error, ReachError::Deadline { .. }), "{error}");
    let small = Limits { most_output: 1000, ..LIMITS };
    let error = link.ask("cat /dev/zero", Bytes::new(), small).await.unwrap_err();
    assert!(matches!(error, ReachError::TooMuch { most: 1000, .. }), "{error}");
    for _ in 0..15 {
        let one = Limits { most_output: 10, ..LIMITS };
        let error = link.ask("cat /dev/zero", Bytes::new(), one).await.unwrap_err();
        assert!(matches!(error, ReachError::TooMuch { .. }), "{error}");
    }
    assert_eq!(text(&link, "echo still here").await, "still here\n");
    assert_eq!(link.state().borrow().generation, 1);
    let error = link.exec("a\0b").await.unwrap_err();
    assert!(matches!(error, ReachError::Invalid { .. }), "{error}");
}

#[tokio::test]
async fn s17_nothing_is_ever_forwarded() {
    let rig = Rig::with(
        Sshd::with("LogLevel DEBUG1\nAllowAgentForwarding yes\nX11Forwarding yes\nAcceptEnv *"),
        |_| {},
    );
    let link = rig.link().await;
    let environment = text(&link, "env").await;
    for name in ["SSH_AUTH_SOCK", "DISPLAY", "CARGO", "LANG"] {
        assert!(!environment.contains(&format!("\n{name}")), "{environment}");
    }
    link.files().await.unwrap().list(".").await.unwrap();
    let log = rig.sshd.log();
    eventually_async("the file service is logged", async || log.contains("subsystem")).await;
    let asked: Vec<_> = log.lines().filter(|line| line.contains("channel_req")).collect();
    assert!(asked.iter().any(|line| line.contains(" exec ")), "void: {asked:?}");
    for word in ["auth-agent", "x11", "tcpip-forward", "env", "pty-req", "streamlocal"] {
        assert!(!asked.iter().any(|line| line.contains(word)), "{word}: {asked:?}");
    }
    assert!(!log.contains("tcpip-forward") && !log.contains("direct-tcpip"), "{log}");
}

/// D5 of the peer's defects. A server may close a channel without a status, which
/// the library does not tell from 0; so a word on stdout says what succeeded.
#[tokio::test]
async fn a_missing_status_is_never_the_word_of_a_success() {
    let rig = Rig::with(Sshd::with("ChannelTimeout session:command=1s"), |_| {});
    let link = rig.link().await;
    let told = link.ask("echo begun; sleep 20; echo done", Bytes::new(), LIMITS).await;
    // If this ever becomes an error, `End::Code` may promise more than it does.
    let told = told.unwrap();
    assert_eq!((&told.stdout[..], told.end), (&b"begun\n"[..], End::Code(0)));
    let files = link.files().await.unwrap();
    let home = rig.sshd.home();
    std::fs::write(home.join("from"), "new").unwrap();
    let [from, to] = ["from", "to"].map(|name| home.join(name).display().to_string());
    files.replace(&from, &to).await.unwrap();
    assert_eq!(std::fs::read(&to).unwrap(), b"new");
    // A cut in the middle is lost at once.
    let running = link.exec("sleep 0.9").await.unwrap();
    rig.sshd.kill_sessions();
    let end = running.end().await;
    assert!(matches!(end, Err(ReachError::Lost { .. })), "{end:?}");
}
