//! The commands around the daemon's life, and what they say when there is none.

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::support::{Conn, Daemon, Home, Program, Request, eventually, is_alive, living_in};

fn json_of(home: &Home, args: &[&str]) -> Value {
    serde_json::from_str(&home.fleetctl(args).ok().stdout).unwrap()
}

#[test]
fn up_status_restart_down() {
    let home = Home::new();
    let up = home.fleetctl(&["up"]).ok();
    assert!(up.stdout.starts_with("fleetd is running (pid "), "{up:?}");
    assert!(home.fleetctl(&["up"]).ok().stdout.starts_with("fleetd is already running"));
    let first = json_of(&home, &["status", "--json"]);
    assert!(first["url"].as_str().unwrap().starts_with("http://127.0.0.1:"), "{first}");
    home.fleetctl(&["restart"]).ok();
    let second = json_of(&home, &["status", "--json"]);
    assert_ne!(first["pid"], second["pid"]);
    assert_eq!(first["url"], second["url"], "the port stays");
    assert!(home.fleetctl(&["status"]).ok().stdout.contains(second["url"].as_str().unwrap()));
    let down = home.fleetctl(&["down"]).ok();
    assert_eq!(down.stdout, "fleetd has stopped; no tasks were running\n");
    assert_eq!(home.fleetctl(&["down"]).ok().stdout, "fleetd is not running\n");
    let pid = u32::try_from(second["pid"].as_u64().unwrap()).unwrap();
    assert!(!is_alive(pid) && living_in(home.path()).is_empty());
}

#[test]
fn what_comes_right_after_up_finds_the_runtime_file() {
    let home = Home::new();
    for round in 0..8 {
        home.fleetctl(&["up"]).ok();
        // It lists addresses, which the socket alone does not tell.
        let printed = home.fleetctl(&["mcp-config"]);
        assert!(printed.status.success(), "round {round}: {printed:?}");
        home.fleetctl(&["down"]).ok();
    }
}

#[test]
fn down_leaves_tasks_and_stop_tasks_ends_them() {
    let home = Home::new();
    home.fleetctl(&["up"]).ok();
    let start = || home.fleetctl(&["run", "--detach", "--", "sleep", "60"]).ok().stdout;
    let ids = [start(), start()].map(|id| id.trim().to_owned());
    let down = home.fleetctl(&["down"]).ok();
    assert_eq!(down.stdout, "fleetd has stopped; 2 tasks go on without it\n");
    home.fleetctl(&["up"]).ok();
    for id in &ids {
        let shown = json_of(&home, &["tasks", "show", id, "--json"]);
        assert_eq!(shown["state"], "running", "{shown}");
        assert!(is_alive(u32::try_from(shown["pid"].as_u64().unwrap()).unwrap()));
    }
    // A clean stop is nothing to recover from.
    let seen = home.fleetctl(&["events", "--since", "0", "--json"]).ok().stdout;
    assert!(!seen.contains("fleet.recovered"), "{seen}");
    let down = home.fleetctl(&["down", "--stop-tasks"]).ok();
    let said = "2 tasks stopped\nfleetd has stopped; no tasks were running\n";
    assert_eq!(down.stdout, said);
    assert_eq!(living_in(home.path()), Vec::<u32>::new());
    home.fleetctl(&["up"]).ok();
    for id in &ids {
        let shown = json_of(&home, &["tasks", "show", id, "--json"]);
        assert_eq!(shown["state"], "cancelled", "{shown}");
    }
    home.fleetctl(&["down"]).ok();
}

#[test]
fn without_a_daemon_everything_that_needs_one_says_69() {
    let home = Home::new();
    for args in [
        &["status"][..],
        &["run", "--", "true"],
        &["tasks"],
        &["events"],
        &["events", "--follow"],
        &["publish", "custom.a"],
        &["mcp-config"],
        &["mcp-headers"],
    ] {
        let ran = home.fleetctl(args);
        assert_eq!((ran.code(), &*ran.stdout), (69, ""), "{args:?}: {ran:?}");
        assert!(ran.stderr.contains("fleetctl up"), "{args:?}: {ran:?}");
    }
    let status = home.fleetctl(&["status", "--json"]);
    assert_eq!(status.code(), 69);
    let status: Value = serde_json::from_str(&status.stdout).unwrap();
    assert_eq!(status, json!({"state": "not_running", "pid": null, "url": null}));
    let version = home.fleetctl(&["version", "--json"]).ok();
    let version: Value = serde_json::from_str(&version.stdout).unwrap();
    assert_eq!(version["fleetd"], Value::Null);
}

#[test]
fn a_frozen_daemon_is_said_to_be_frozen_and_not_replaced() {
    let daemon = Daemon::start();
    daemon.signal(Signal::SIGSTOP);
    let status = daemon.fleetctl(&["status", "--json"]);
    assert_eq!(status.code(), 69, "{status:?}");
    let said: Value = serde_json::from_str(&status.stdout).unwrap();
    assert_eq!((&said["state"], &said["pid"]), (&json!("frozen"), &json!(daemon.pid())));
    for command in ["up", "down"] {
        let ran = daemon.fleetctl(&[command]);
        assert_eq!(ran.code(), 69, "{ran:?}");
        assert!(ran.stderr.contains("frozen"), "{ran:?}");
    }
    daemon.signal(Signal::SIGCONT);
    daemon.fleetctl(&["status"]).ok();
}

#[test]
fn every_documented_status_of_a_start_that_fails() {
    // 78: the configuration is wrong.
    let home = Home::new();
    home.configure("[tasks]\nconcurency = 1\n");
    let ran = home.fleetctl(&["up"]);
    assert_eq!(ran.code(), 78, "{ran:?}");
    assert!(ran.stderr.contains("concurency") && ran.stderr.contains(":2:1"), "{ran:?}");
    // 4: the state folder is unusable.
    let home = Home::new();
    std::fs::create_dir_all(home.state().parent().unwrap()).unwrap();
    std::fs::write(home.state(), "a file").unwrap();
    assert_eq!(home.fleetctl(&["up"]).code(), 4);
    // 5: the journal cannot be used (it comes from a newer fleetd).
    let home = Home::new();
    home.fleetctl(&["up"]).ok();
    home.fleetctl(&["down"]).ok();
    let mut newer = home.command("sqlite3");
    newer.arg(home.state().join("journal.db")).arg("PRAGMA user_version = 999");
    assert!(newer.status().unwrap().success());
    assert_eq!(home.fleetctl(&["up"]).code(), 5);
    // 3: already running.
    let daemon = Daemon::start();
    let (code, _, said) = Program::start(daemon.home().fleetd()).end();
    assert_eq!(code, 3);
    assert!(said.contains(&daemon.pid().to_string()), "{said}");
    // 2: usage.
    for args in [&["bogus"][..], &["run"], &["events", "--follow", "--wait"]] {
        assert_eq!(daemon.fleetctl(args).code(), 2, "{args:?}");
    }
}

#[test]
fn the_token_is_in_no_configuration_and_rotates() {
    let daemon = Daemon::start();
    let old = daemon.token();
    let config = daemon.fleetctl(&["mcp-config"]).ok();
    assert!(!config.stdout.contains(&old) && !config.stderr.contains(&old));
    let config: Value = serde_json::from_str(&config.stdout).unwrap();
    assert_eq!(config["mcpServers"]["fleet"]["url"], format!("http://{}/mcp", daemon.host()));
    let headers = || -> Value {
        serde_json::from_str(&daemon.fleetctl(&["mcp-headers"]).ok().stdout).unwrap()
    };
    assert_eq!(headers(), json!({"Authorization": format!("Bearer {old}")}));
    let follower =
        Program::start(daemon.home().fleetctl_command(&["events", "--follow", "--json"]));
    let rotated = daemon.fleetctl(&["token", "rotate"]).ok();
    let new = daemon.token();
    assert!(new != old && !rotated.stdout.contains(&new) && !rotated.stderr.contains(&new));
    assert_eq!(headers(), json!({"Authorization": format!("Bearer {new}")}));
    let status = |token: &str| {
        let request = Request::new("GET", "/metrics").host(&daemon.host()).bearer(token);
        Conn::tcp(daemon.port()).exchange(&request).status
    };
    eventually("the new token is taken", || status(&new) == 200);
    assert_eq!(status(&old), 401);
    // fleetctl itself enters by the socket and goes on.
    daemon.fleetctl(&["publish", "custom.after"]).ok();
    follower.says("custom.after");
    let logs = daemon.home().logs();
    assert!(!logs.contains(&old) && !logs.contains(&new));
}

#[test]
fn logs_and_completions_and_version() {
    let daemon = Daemon::start();
    let logs = daemon.fleetctl(&["logs"]).ok();
    assert!(logs.stdout.contains("ready"), "{logs:?}");
    assert_eq!(daemon.fleetctl(&["logs", "--lines", "1"]).ok().stdout.lines().count(), 1);
    let follower = Program::start(daemon.home().fleetctl_command(&["logs", "--follow"]));
    follower.says("ready");
    daemon.signal(Signal::SIGHUP);
    follower.says("configuration anew");
    for shell in ["bash", "zsh", "fish"] {
        let script = daemon.fleetctl(&["completions", shell]).ok().stdout;
        assert!(script.contains("mcp-config"), "{shell}: {script}");
    }
    let script = daemon.fleetctl(&["completions", "bash"]).ok().stdout;
    std::fs::write(daemon.home().path().join("complete"), script).unwrap();
    let mut bash = daemon.home().command("bash");
    bash.args(["-n", "complete"]);
    assert!(bash.status().unwrap().success());
    let version = daemon.fleetctl(&["version"]).ok().stdout;
    let ours = env!("CARGO_PKG_VERSION");
    assert!(version.contains(&format!("fleetctl {ours}\nfleetd {ours} (SQLite 3.")), "{version}");
}
