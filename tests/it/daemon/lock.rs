//! One daemon per user: R38.

use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::support::{Daemon, Home, eventually, is_alive, run, signal};

/// The exit code of a start that found a living daemon.
const ALREADY_RUNNING: i32 = 3;

/// Those that have not ended.
fn running(children: &mut [Child]) -> Vec<u32> {
    let mut ids = Vec::new();
    for child in children {
        if matches!(child.try_wait(), Ok(None)) {
            ids.push(child.id());
        }
    }
    ids
}

#[test]
fn r38_of_forty_concurrent_starts_one_wins_and_the_others_name_it() {
    let home = Home::new();
    let mut starters: Vec<_> = (0..40)
        .map(|at| {
            let stderr = std::fs::File::create(home.path().join(format!("stderr-{at}")));
            let mut command = home.fleetd();
            command.stdin(Stdio::null()).stdout(Stdio::null());
            command.stderr(stderr.expect("a file"));
            command.spawn().expect("fleetd starts")
        })
        .collect();
    let begun = Instant::now();
    eventually("39 of 40 have ended", || running(&mut starters).len() == 1);
    let winner = running(&mut starters)[0];
    println!("39 losers had ended after {:?}", begun.elapsed());
    for (at, child) in starters.iter_mut().enumerate().filter(|(_, child)| child.id() != winner) {
        let said = std::fs::read_to_string(home.path().join(format!("stderr-{at}")));
        let said = said.expect("its stderr");
        let status = child.try_wait().expect("a child").expect("ended");
        assert_eq!(status.code(), Some(ALREADY_RUNNING), "{said}");
        assert!(said.contains(&winner.to_string()), "names {winner}: {said}");
    }
    for mut child in starters {
        drop(child.kill());
        drop(child.wait());
    }
}

#[test]
fn r38_a_second_start_ends_within_a_second_also_when_the_first_is_frozen() {
    let daemon = Daemon::start();
    let second = || {
        let output = run(daemon.home().fleetd(), b"", Duration::from_secs(5));
        assert_eq!(output.code(), ALREADY_RUNNING, "{output:?}");
        assert!(output.took < Duration::from_secs(1), "{output:?}");
        assert!(output.stderr.contains(&daemon.pid().to_string()), "{output:?}");
    };
    second();
    daemon.signal(Signal::SIGSTOP);
    second();
    daemon.signal(Signal::SIGCONT);
    assert!(is_alive(daemon.pid()));
    assert_eq!(daemon.get("/healthz").status, 200);
}

#[test]
fn r38_a_killed_holder_never_blocks_the_next_start() {
    let mut daemon = Daemon::start();
    for _ in 0..10 {
        daemon = daemon.restart_after_kill9();
    }
    assert_eq!(daemon.get("/healthz").status, 200);
}

#[test]
fn the_port_and_the_token_stay_over_restarts() {
    let daemon = Daemon::start();
    let (port, token) = (daemon.port(), daemon.token());
    let daemon = daemon.restart_after_kill9();
    assert_eq!((daemon.port(), daemon.token()), (port, token.clone()));
    let (home, _) = daemon.terminate(Duration::from_secs(5));
    // Taken by another program: a new one, and that is kept as well.
    let squatter = std::net::TcpListener::bind(("127.0.0.1", port)).expect("the port is free");
    let daemon = Daemon::start_in(home);
    let moved = daemon.port();
    assert_ne!(moved, port);
    drop(squatter);
    let daemon = daemon.restart_after_kill9();
    assert_eq!((daemon.port(), daemon.token()), (moved, token));
}

#[test]
fn xdg_variables_cannot_make_a_second_daemon() {
    let daemon = Daemon::start();
    let mut elsewhere = daemon.home().fleetd();
    for name in ["XDG_RUNTIME_DIR", "XDG_STATE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME"] {
        let folder = daemon.home().path().join(name.to_lowercase());
        std::fs::create_dir(&folder).expect("a folder");
        elsewhere.env(name, folder);
    }
    let output = run(elsewhere, b"", Duration::from_secs(5));
    assert_eq!(output.code(), ALREADY_RUNNING, "{output:?}");
}

#[test]
fn a_program_that_inherits_from_the_daemon_does_not_hold_its_lock() {
    let daemon = Daemon::start();
    let started = daemon.tool(
        "execute_command",
        serde_json::json!({ "command": "sleep 600", "async": true, "timeout_s": 0 }),
    );
    assert!(started["stream_id"].is_string(), "{started}");
    let daemon = daemon.restart_after_kill9();
    signal(daemon.pid(), Signal::SIGTERM);
}
