//! A client that others wrote: the official TypeScript SDK, with nothing but
//! what `fleetctl mcp-config` prints.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::support::{Daemon, Program, eventually};

/// Where `tests/setup` puts the SDK, at the version it pins.
fn sdk() -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/mcp-client");
    let module = folder.join("node_modules/@modelcontextprotocol/sdk/package.json");
    assert!(module.is_file(), "{} is missing; run tests/setup", module.display());
    folder
}

fn connect(daemon: &Daemon) -> Program {
    let folder = sdk();
    // Modules are found beside the script, so it is put beside them.
    let script = folder.join(format!("client-{}.mjs", std::process::id()));
    std::fs::write(&script, include_str!("client.mjs")).unwrap();
    let config = daemon.fleetctl(&["mcp-config"]).ok().stdout;
    let mut command = daemon.home().command("node");
    command.arg(&script).env("CONFIG", config);
    let client = Program::start(command);
    client.says("\"tools\"");
    std::fs::remove_file(&script).unwrap();
    client
}

/// What the client said so far.
fn said(client: &Program) -> Vec<Value> {
    let text = client.stdout();
    let whole = &text[..text.rfind('\n').map_or(0, |at| at + 1)];
    whole.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Pushed events of `topic` about the task `id`.
fn pushed(client: &Program, topic: &str, id: &str) -> Vec<Value> {
    let about = |value: &Value| value["pushed"] == topic && value["event"]["data"]["task_id"] == id;
    said(client).into_iter().filter(about).collect()
}

/// Starts `line` and returns the task's id.
fn start(client: &mut Program, line: &str) -> String {
    let before = said(client).iter().filter(|value| value.get("started").is_some()).count();
    client.write(format!("run {line}\n").as_bytes());
    let started = client.until("the answer", |_| {
        said(client)
            .into_iter()
            .filter_map(|mut v| v.get_mut("started").map(Value::take))
            .nth(before)
    });
    assert_eq!(started["status"], "started", "{started}");
    started["stream_id"].as_str().unwrap().to_owned()
}

#[test]
fn the_typescript_sdk_lists_calls_and_hears_exactly_once_through_kill_9() {
    let daemon = Daemon::start();
    let mut client = connect(&daemon);
    let tools = &said(&client)[0];
    assert_eq!(tools["tools"].as_array().unwrap().len(), 10, "{tools}");
    assert_eq!(tools["revision"], "2025-11-25");

    let quick = start(&mut client, "echo hello");
    eventually("task.completed is pushed", || pushed(&client, "task.completed", &quick).len() == 1);
    let event = pushed(&client, "task.completed", &quick).remove(0);
    assert_eq!(
        (&event["level"], &event["event"]["data"]["exit_code"]),
        (&json!("info"), &json!(0))
    );

    let (away, back) = (daemon.home().path().join("away"), daemon.home().path().join("back"));
    let line = |gate: &Path| format!("while [ ! -e '{}' ]; do sleep 0.02; done", gate.display());
    let ends_away = start(&mut client, &line(&away));
    let ends_back = start(&mut client, &line(&back));
    let home = daemon.kill9();
    std::fs::write(&away, "").unwrap();
    eventually("the first has ended without its daemon", || {
        let runs = std::fs::read_dir(home.state().join("runs")).unwrap();
        runs.flatten().filter(|run| run.path().join("status").exists()).count() == 2
    });
    let daemon = Daemon::start_in(home);
    std::fs::write(&back, "").unwrap();
    eventually("both ends are pushed", || {
        [&ends_away, &ends_back].iter().all(|id| !pushed(&client, "task.completed", id).is_empty())
    });
    // The session goes on with the new daemon, and nothing comes twice.
    let last = start(&mut client, "exit 6");
    eventually("the last end is pushed", || !pushed(&client, "task.failed", &last).is_empty());
    for id in [&quick, &ends_away, &ends_back] {
        assert_eq!(pushed(&client, "task.started", id).len(), 1, "{:#?}", said(&client));
        assert_eq!(pushed(&client, "task.completed", id).len(), 1, "{:#?}", said(&client));
    }
    let recovered = said(&client).iter().filter(|v| v["pushed"] == "fleet.recovered").count();
    assert_eq!(recovered, 1);
    let (code, ..) = client.end();
    assert_eq!(code, 0);
    drop(daemon);
}
