//! `fleetctl prompt`, and calls that wait.

use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::rig::Rig;
use crate::support::{ANSWER, Program, Stream, eventually, reply, tool_request};

fn prompt(rig: &Rig, args: &[&str]) -> Program {
    let mut command = rig.daemon.home().fleetctl_command(&[&["prompt"], args].concat());
    command.current_dir(rig.work());
    Program::start(command)
}

#[test]
fn text_is_printed_as_it_is_written() {
    let rig = Rig::new();
    let program = prompt(&rig, &["HOLD on"]);
    program.says("Hel");
    assert_eq!(program.stdout(), "Hel");
    rig.model.release();
    let (status, stdout, stderr) = program.end();
    assert_eq!((status, stdout), (0, format!("{ANSWER}\n")), "{stderr}");
    let mut piped = prompt(&rig, &["--json", "--last", "-"]);
    piped.write("from a pipe".as_bytes());
    let (status, stdout, _) = piped.end();
    let result: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(
        (status, &result["response"], &result["status"]),
        (0, &json!(ANSWER), &json!("completed"))
    );
    assert!(rig.model.asked().last().unwrap().to_string().contains("HOLD on"), "the last session");
    let (status, _, stderr) = prompt(&rig, &["FAIL:401"]).end();
    assert_eq!(status, 1);
    assert!(stderr.contains("auth"), "{stderr}");
}

#[test]
fn a_detached_prompt_prints_its_id_and_ctrl_c_stops_one_that_is_watched() {
    let rig = Rig::new();
    let (status, id, _) = prompt(&rig, &["--detach", "HOLD"]).end();
    assert_eq!(status, 0);
    rig.asked(1);
    rig.daemon.tool("stop_prompt", json!({ "stream_id": id.trim() }));
    let program = prompt(&rig, &["HOLD again"]);
    program.says("Hel");
    program.signal(Signal::SIGINT);
    let (status, _, stderr) = program.end();
    assert_eq!(status, 130, "{stderr}");
    let tasks = rig.daemon.tool("list_tasks", json!({}));
    let states: Vec<_> = tasks["tasks"].as_array().unwrap().iter().map(|t| &t["state"]).collect();
    assert_eq!(states, ["cancelled", "cancelled"]);
}

/// The stream of a call that waits for a prompt that holds.
fn waiting(rig: &Rig, session: &str, id: i64) -> Stream {
    let arguments = json!({ "prompt": "HOLD", "run_from": rig.work(), "resume": false });
    let params = json!({ "name": "execute_prompt", "arguments": arguments, "_meta": { "progressToken": 7 } });
    let call = json!({ "jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params });
    Stream::open(rig.daemon.connect(), &in_session(rig, session).json(&call))
}

fn in_session(rig: &Rig, session: &str) -> crate::support::Request {
    let request = rig.daemon.request("POST", "/mcp");
    let request = request.header("Accept", "application/json, text/event-stream");
    match session {
        "" => request,
        session => request.header("Mcp-Session-Id", session),
    }
}

fn newest(rig: &Rig) -> Value {
    rig.daemon.tool("list_tasks", json!({ "limit": 1 }))["tasks"][0].take()
}

/// A cancelled call stops its prompt; one whose reader is gone does not (D3).
#[test]
fn only_who_says_so_stops_a_prompt() {
    let rig = Rig::new();
    let initialize = json!({ "jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
        "protocolVersion": "2025-06-18", "capabilities": {},
        "clientInfo": { "name": "t", "version": "1" } } });
    let answer = rig.daemon.send(&in_session(&rig, "").json(&initialize));
    let session = answer.header("mcp-session-id").unwrap().to_owned();

    let mut stream = waiting(&rig, &session, 2);
    rig.asked(1);
    let cancel = json!({ "jsonrpc": "2.0", "method": "notifications/cancelled",
        "params": { "requestId": 2 } });
    rig.daemon.send(&in_session(&rig, &session).json(&cancel));
    eventually("the cancelled prompt has ended", || newest(&rig)["state"] == "cancelled");
    assert!(stream.next_within(Duration::from_secs(5)).is_none(), "a cancelled call has no answer");

    let stream = waiting(&rig, &session, 3);
    rig.asked(2);
    drop(stream);
    rig.model.release();
    let id = newest(&rig)["task_id"].as_str().unwrap().to_owned();
    let task = rig.end(&id);
    assert_eq!(
        (&task["state"], &task["prompt"]["response"]),
        (&json!("completed"), &json!(ANSWER))
    );
}

#[test]
fn a_call_that_waits_hears_which_tools_are_called() {
    let rig = Rig::new();
    let mut arguments = rig.arguments("RUN:true", json!({}));
    arguments["async"] = json!(false);
    let mut request = json!({ "name": "execute_prompt", "arguments": arguments });
    request["_meta"] = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientInfo": { "name": "t", "version": "0" },
        "io.modelcontextprotocol/clientCapabilities": {},
        "progressToken": "p",
    });
    let call = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": request });
    let http = tool_request(&rig.daemon, "execute_prompt", json!({})).json(&call);
    let answer = rig.daemon.send(&http);
    assert!(answer.text().contains("Bash: true"), "{}", answer.text());
    assert_eq!(reply(&answer)["result"]["isError"], false);
}
