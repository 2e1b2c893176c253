//! What a release is made of, and what a command inherits from it: S20.

use std::collections::BTreeSet;
use std::os::fd::AsRawFd;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Daemon, Home, run};

/// Crates with a flaw below this version, which Cargo.toml alone might let back in.
/// libssh2-sys 0.3.4 is the first with libssh2's corrections of July 2026.
const FLOORS: [(&str, [u64; 3]); 3] =
    [("rmcp", [1, 4, 0]), ("tracing-subscriber", [0, 3, 20]), ("libssh2-sys", [0, 3, 4])];

/// The WAL of earlier ones could be reset under a writer.
const SQLITE_FLOOR: [u64; 3] = [3, 51, 3];

fn version(text: &str) -> [u64; 3] {
    let numbers: Vec<u64> = text.split('.').filter_map(|part| part.parse().ok()).collect();
    numbers.try_into().unwrap_or_else(|_| panic!("not a version: {text}"))
}

#[test]
fn s20_no_crate_is_below_its_floor() {
    let lock: toml::Value = toml::from_str(include_str!("../../Cargo.lock")).expect("TOML");
    let packages = lock["package"].as_array().expect("packages");
    for (name, floor) in FLOORS {
        let found = packages.iter().filter(|package| package["name"].as_str() == Some(name));
        let found: Vec<_> =
            found.map(|package| version(package["version"].as_str().expect("text"))).collect();
        assert!(!found.is_empty(), "{name} is not used any more: drop its floor");
        assert!(found.iter().all(|version| *version >= floor), "{name} {found:?}");
    }
    let sqlite = Daemon::start().tool("version", json!({}))["sqlite"].clone();
    assert!(version(sqlite.as_str().expect("text")) >= SQLITE_FLOOR, "SQLite {sqlite}");
}

/// Whether an SPDX expression offers a choice in which all licences are allowed.
fn is_allowed(expression: &str, allowed: &BTreeSet<&str>) -> bool {
    let flat = expression.replace(['(', ')'], "").replace('/', " OR ");
    // `A AND (B OR C)` is read as `(A AND B) OR C`: good enough, and C is allowed.
    flat.split(" OR ").any(|choice| choice.split(" AND ").all(|one| allowed.contains(one.trim())))
}

#[test]
fn s20_every_licence_is_one_that_deny_toml_allows() {
    let deny: toml::Value = toml::from_str(include_str!("../../deny.toml")).expect("TOML");
    let allowed = deny["licenses"]["allow"].as_array().expect("a list");
    let allowed: BTreeSet<_> = allowed.iter().filter_map(toml::Value::as_str).collect();
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["metadata", "--locked", "--offline", "--format-version", "1"]);
    cargo.args(["--filter-platform", "x86_64-unknown-linux-gnu"]);
    cargo.current_dir(env!("CARGO_MANIFEST_DIR"));
    let output = run(cargo, b"", Duration::from_secs(60)).ok();
    let graph: Value = serde_json::from_str(&output.stdout).expect("JSON");
    let packages = graph["packages"].as_array().expect("packages");
    assert!(packages.len() > 50, "void: {} packages", packages.len());
    let refused: Vec<_> = packages
        .iter()
        .filter(|package| !is_allowed(package["license"].as_str().unwrap_or("none"), &allowed))
        .map(|package| format!("{} {}", package["name"], package["license"]))
        .collect();
    assert!(refused.is_empty(), "{refused:#?}");
}

#[test]
fn s20_a_command_inherits_three_descriptors_and_an_allowed_environment() {
    let home = Home::new();
    // As a careless starter leaves it: a descriptor without close-on-exec.
    let leaked = std::fs::File::open("/etc/passwd").expect("a file");
    let mut command = home.command("sh");
    let line =
        format!("exec 7</proc/{}/fd/{}; exec \"$0\"", std::process::id(), leaked.as_raw_fd());
    command.args(["-c", &line, env!("CARGO_BIN_EXE_fleetd")]);
    command.env("STARTERS_SECRET", "canary").env("AWS_SECRET_ACCESS_KEY", "canary");
    let daemon = Daemon::start_as(home, command);
    // The daemon itself has it: the test is not void.
    assert!(std::path::Path::new(&format!("/proc/{}/fd/7", daemon.pid())).exists());
    let ask = "ls /proc/$$/fd | tr '\\n' ' '; umask; env";
    let result = daemon.tool("execute_command", json!({ "command": ask, "env": { "MINE": "1" } }));
    let stdout = result["stdout"].as_str().expect("text");
    assert!(stdout.starts_with("0 1 2 "), "{stdout}");
    assert!(!stdout.contains("canary"), "{stdout}");
    assert!(stdout.contains("\nMINE=1\n"), "{stdout}");
}

#[test]
fn a_command_makes_files_with_the_umask_of_whoever_started_the_daemon() {
    for umask in ["0027", "0002"] {
        let home = Home::new();
        let mut command = home.command("sh");
        command.args(["-c", &format!("umask {umask}; exec \"$0\"")]);
        command.arg(env!("CARGO_BIN_EXE_fleetd"));
        let daemon = Daemon::start_as(home, command);
        let result = daemon.tool("execute_command", json!({ "command": "umask" }));
        assert_eq!(result["stdout"], format!("{umask}\n"));
    }
}
