//! `fleetctl publish`.

use serde_json::{Value, json};

use crate::support::Daemon;

#[test]
fn an_event_of_ones_own_is_stored_once() {
    let daemon = Daemon::start();
    let data = r#"{"version":"1.4.2"}"#;
    let args = ["publish", "custom.deploy_done", "--data", data, "--subject", "deploy/42"];
    let more = ["--id", "one", "--severity", "notice", "--json"];
    let args = [&args[..], &more].concat();
    let first: Value = serde_json::from_str(&daemon.fleetctl(&args).ok().stdout).unwrap();
    let second: Value = serde_json::from_str(&daemon.fleetctl(&args).ok().stdout).unwrap();
    assert_eq!((&first["id"], &first["duplicate"]), (&json!("one"), &json!(false)));
    assert_eq!((&second["cursor"], &second["duplicate"]), (&first["cursor"], &json!(true)));
    let listed = daemon.tool("list_events", json!({"types": ["custom.>"], "since": "0"}));
    let events = listed["events"].as_array().unwrap();
    assert_eq!(events.len(), 1);
    assert_eq!(events[0]["data"], json!({"version": "1.4.2"}));
    assert_eq!(
        (&events[0]["subject"], &events[0]["severity"]),
        (&json!("deploy/42"), &json!("notice"))
    );
}

#[test]
fn data_comes_from_input_and_files_too() {
    let daemon = Daemon::start();
    let from_input = ["publish", "custom.a", "--data", "-"];
    daemon.home().fleetctl_with(&from_input, b"[1, \"two\"]").ok();
    std::fs::write(daemon.home().path().join("data.json"), "{\"n\": null}").unwrap();
    daemon.fleetctl(&["publish", "custom.b", "--data", "@data.json"]).ok();
    daemon.fleetctl(&["publish", "custom.c"]).ok();
    let listed = daemon.tool("list_events", json!({"types": ["custom.>"], "since": "0"}));
    let data: Vec<_> =
        listed["events"].as_array().unwrap().iter().map(|event| event["data"].clone()).collect();
    assert_eq!(data, [json!([1, "two"]), json!({"n": null}), Value::Null]);
}

#[test]
fn what_is_not_ours_to_say_is_refused() {
    let daemon = Daemon::start();
    for (args, said) in [
        (&["publish", "task.completed", "--data", "{}"][..], "custom."),
        (&["publish", "custom.A", "--data", "{}"], "custom.A"),
        (&["publish", "custom.a", "--data", "{"], "JSON"),
        (&["publish", "custom.a", "--data", "@nowhere"], "nowhere"),
        (&["publish", "custom.a", "--severity", "loud"], "severity"),
    ] {
        let ran = daemon.fleetctl(args);
        assert!([1, 2].contains(&ran.code()), "{ran:?}");
        assert!(ran.stdout.is_empty() && ran.stderr.contains(said), "{ran:?}");
    }
    let listed = daemon.tool("list_events", json!({"types": ["custom.>"], "since": "0"}));
    assert_eq!(listed["events"], json!([]));
}
