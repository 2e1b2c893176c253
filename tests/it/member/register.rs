//! Registering, changing and removing.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Instant;

use fleetd::fleet::MemberChange;
use fleetd::model::{MemberName, Principal, TaskId, TaskState};
use serde_json::{Value, json};

use super::rig::Rig;
use crate::support::{Daemon, Request, Sshd, eventually};
use crate::task;

#[test]
fn a_machine_that_is_not_known_is_refused_and_then_taken_on_request() {
    let rig = Rig::start();
    let refused = rig.add("web", "work", &[]);
    assert_eq!(refused.code(), 7, "{refused:?}");
    assert!(refused.stderr.contains("SHA256:"), "{refused:?}");
    // Two phases: nothing is stored, told or made.
    assert_eq!(rig.members().len(), 1);
    assert!(rig.topics(&["member.>"]).is_empty());
    assert!(!rig.sshd.path("work").exists());
    let added = rig.add("web", "work", &["--accept-new", "--tag", "gpu", "--json"]).ok();
    let added: Value = serde_json::from_str(&added.stdout).unwrap();
    assert!(rig.sshd.path("work").is_dir(), "the work folder is made");
    let member = rig.detail("WEB");
    assert_eq!(member["member_id"], added["member"]["member_id"]);
    assert_eq!((&member["type"], &member["os"]), (&json!("remote"), &json!("linux")));
    assert!(member["system"].as_str().unwrap().starts_with("Linux "), "{member}");
    assert_eq!(member["home"], rig.folder("home"));
    rig.until("web", "online");
    let (topic, data) = rig.events(&["member.>"]).remove(0);
    assert_eq!((topic.as_str(), &data["member"]), ("member.registered", &json!("web")));
    assert_eq!(data["fingerprint"], member["fingerprint"]);
    // By id, and as a table for people.
    let id = member["member_id"].as_str().unwrap();
    assert!(rig.daemon.fleetctl(&["members", "show", id]).ok().stdout.contains("web"));
    let table = rig.daemon.fleetctl(&["members", "list", "--tag", "gpu"]).ok().stdout;
    assert!(table.contains("web") && !table.contains("local"), "{table}");
    let status = rig.daemon.tool("fleet_status", json!({}));
    assert_eq!(status["members"][1]["name"], "web", "{status}");
    assert_eq!(status["members"][1]["member_id"], member["member_id"]);
}

/// Lesson 58: two members of one name, of which one can never be named again.
#[test]
fn names_and_places_are_taken_once() {
    let rig = Rig::with_web();
    for (name, folder, why) in [
        ("WEB", "other", "already"),
        ("local", "other", "already"),
        ("web-2", "work", "same folder"),
    ] {
        let refused = rig.add(name, folder, &[]);
        assert_eq!(refused.code(), 1, "{refused:?}");
        assert!(refused.stderr.contains(why), "{refused:?}");
    }
    rig.add("web-2", "other", &[]).ok();
    let error =
        rig.refused("update_member", json!({"member_name": "web-2", "friendly_name": "Web"}));
    assert!(error.contains("already"), "{error}");
    let folder = rig.folder("work/");
    let error =
        rig.refused("update_member", json!({"member_name": "web-2", "work_folder": folder}));
    assert!(error.contains("same folder"), "{error}");
    assert_eq!(rig.members().len(), 3);
}

/// D5 of the peer's defects: a channel that a server closes without a status looks
/// like success. Nothing is registered by an answer that did not come to its end.
#[test]
fn an_answer_without_an_end_registers_nobody() {
    let sshd = Sshd::with("ChannelTimeout session:command=1s");
    let rig = Rig { daemon: Daemon::start(), sshd };
    let bin = rig.sshd.home().join(".local/bin");
    std::fs::create_dir_all(&bin).unwrap();
    let uname = bin.join("uname");
    std::fs::write(&uname, "#!/bin/sh\nsleep 20\n").unwrap();
    std::fs::set_permissions(&uname, PermissionsExt::from_mode(0o755)).unwrap();
    let refused = rig.add("web", "work", &["--accept-new"]);
    assert_eq!(refused.code(), 9, "{refused:?}");
    assert!(refused.stderr.contains("did not say how the script ended"), "{refused:?}");
    assert_eq!(rig.members().len(), 1);
}

/// Lesson 49: a key that is not let in "works", because another member's
/// connection to the same machine is open.
#[test]
fn a_key_that_is_not_let_in_registers_nobody() {
    let rig = Rig::with_web();
    rig.until("web", "online");
    let stranger = rig.sshd.new_key("stranger", "ed25519", "");
    let refused = rig.add("thief", "other", &["--key", stranger.to_str().unwrap()]);
    assert_eq!(refused.code(), 7, "{refused:?}");
    assert_eq!(rig.members().len(), 2);
    assert!(!rig.sshd.path("other").exists());
}

#[test]
fn settings_change_and_a_changed_connection_is_tried_first() {
    let rig = Rig::with_web();
    rig.daemon.fleetctl(&["members", "update", "web", "--rename", "api", "--tag", "x"]).ok();
    let change = json!({"member_id": "api", "unattended": false, "model_cheap": "haiku"});
    rig.daemon.tool("update_member", change);
    let member = rig.detail("api");
    assert_eq!((&member["tags"], &member["models"]["cheap"]), (&json!(["x"]), &json!("haiku")));
    let (_, data) = rig.events(&["member.updated"]).remove(0);
    assert_eq!(data["changed"], json!(["friendly_name", "tags"]));
    assert_eq!((&data["member"], &data["previous_name"]), (&json!("api"), &json!("web")));
    // Nobody listens there: the member stays what it was.
    let error = rig.refused("update_member", json!({"member_name": "api", "port": 1}));
    assert!(error.contains("127.0.0.1"), "{error}");
    assert_eq!(rig.detail("api")["port"], rig.sshd.port());
    let folder = rig.folder("elsewhere");
    rig.daemon.tool("update_member", json!({"member_name": "api", "work_folder": folder}));
    assert!(Path::new(&folder).is_dir());
    rig.until("api", "online");
    let error = rig.refused("update_member", json!({"member_name": "api", "prot": 1}));
    assert!(error.contains("'port'"), "{error}");
    let error = rig.refused("update_member", json!({"member_name": "local", "friendly_name": "x"}));
    assert!(error.contains("cannot be renamed"), "{error}");
}

#[test]
fn another_folder_of_this_machine_is_a_member_too() {
    let daemon = Daemon::start();
    let folder = daemon.home().path().join("a b");
    let at = folder.to_str().unwrap();
    let add = ["members", "add", "here", "--local", "--work-folder", at];
    daemon.fleetctl(&add).ok();
    assert!(folder.is_dir());
    let daemon = daemon.restart_after_kill9();
    let listed = daemon.tool("list_members", json!({}));
    assert_eq!(listed["members"][1]["name"], "here", "{listed}");
    assert_eq!(listed["members"][1]["state"], "online", "{listed}");
    assert_eq!(listed["total"], 2);
    let removed = daemon.fleetctl(&["members", "rm", "here"]).ok();
    assert!(removed.stdout.contains("no member"), "{removed:?}");
    assert!(folder.is_dir(), "what was made there stays");
    assert_eq!(daemon.fleetctl(&["members", "rm", "here"]).code(), 1);
    assert_eq!(daemon.fleetctl(&["members", "rm", "local"]).code(), 2);
}

/// Issue 3, item 9: nothing crosses from one project to another.
#[test]
fn a_member_of_one_project_is_nobody_to_another() {
    let rig = Rig::start();
    rig.add("blue", "blue", &["--accept-new", "--project", "blue"]).ok();
    rig.add("all", "all", &["--all-projects"]).ok();
    let token = |project: &str| {
        let name = format!("of-{project}");
        let made = rig.daemon.fleetctl(&["token", "create", &name, "--project", project]).ok();
        made.stdout.trim().to_owned()
    };
    let call = |token: &str, tool: &str, arguments: Value| {
        let body = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {
            "name": tool, "arguments": arguments, "_meta": {
                "io.modelcontextprotocol/protocolVersion": "2026-07-28",
                "io.modelcontextprotocol/clientCapabilities": {}}}});
        let request = Request::new("POST", "/mcp/x/all")
            .host(&rig.daemon.host())
            .bearer(token)
            .header("Accept", "application/json, text/event-stream")
            .header("MCP-Protocol-Version", "2026-07-28")
            .header("Mcp-Method", "tools/call")
            .header("Mcp-Name", tool);
        crate::support::reply(&rig.daemon.send(&request.json(&body)))["result"].clone()
    };
    for (project, seen) in [("blue", 3), ("red", 2)] {
        let token = token(project);
        let listed = call(&token, "list_members", json!({}));
        assert_eq!(listed["structuredContent"]["total"], seen, "{project}: {listed}");
        let status = call(&token, "fleet_status", json!({}));
        let members = status["structuredContent"]["members"].as_array().unwrap().len();
        assert_eq!(members, seen, "{project}: {status}");
        let detail = call(&token, "member_detail", json!({"member_name": "blue"}));
        assert_eq!(detail["isError"] == true, project == "red", "{project}: {detail}");
        // Changing the roster is the owner's.
        let removed = call(&token, "remove_member", json!({"member_name": "blue"}));
        assert_eq!(removed["isError"], true, "{removed}");
    }
    assert_eq!(rig.members().len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_with_tasks_is_neither_renamed_nor_removed_unless_forced() {
    let rig = task::rig::Rig::new().await;
    let (roster, owner) = (rig.fleet.roster(), Principal::owner());
    let folder = rig.dir.path().join("work").display().to_string();
    let change = MemberChange { work_folder: Some(folder), ..MemberChange::default() };
    let name = MemberName::parse("here").unwrap();
    let here = roster.register(&owner, name, false, change).await.unwrap().handle;
    let mut row = rig.run(task::rig::sh("true")).await;
    (row.id, row.member, row.state) = (TaskId::random(), "here".to_owned(), TaskState::Running);
    let stored = row.clone();
    rig.store.write(move |tx| tx.put_task(&stored)).await.unwrap();
    let reports = rig.fleet.members(&owner).await.unwrap();
    assert_eq!((reports[0].running, reports[1].running), (0, 1));
    let rename = MemberChange { name: MemberName::parse("x").ok(), ..MemberChange::default() };
    let refused = roster.update(&owner, &here, rename.clone()).await.err().unwrap();
    assert!(refused.to_string().contains("open tasks (1)"), "{refused}");
    let refused = roster.remove(&here, false).await.err().unwrap();
    assert!(refused.to_string().contains("force"), "{refused}");
    assert!(!here.gone().is_cancelled());
    row.state = TaskState::Completed;
    rig.store.write(move |tx| tx.put_task(&row)).await.unwrap();
    roster.update(&owner, &here, rename).await.unwrap();
    assert_eq!(here.member().name.as_str(), "x");
    roster.remove(&here, false).await.unwrap();
    assert!(here.gone().is_cancelled());
    assert!(roster.resolve(&owner, None, Some("x")).is_err());
}

/// Asking how the fleet is, asks no member: there was a probe storm elsewhere.
#[test]
fn a_status_costs_no_member_anything() {
    let rig = Rig::start();
    for number in 0..8 {
        let name = format!("m{number}");
        rig.add(&name, &name, &["--accept-new"]).ok();
    }
    (0..8).for_each(|number| rig.until(&format!("m{number}"), "online"));
    let mut log = rig.sshd.log().len();
    eventually("sshd has said all it has to say", || {
        std::mem::replace(&mut log, rig.sshd.log().len()) == log
    });
    let mut times = Vec::new();
    for _ in 0..100 {
        let since = Instant::now();
        let status = rig.daemon.tool("fleet_status", json!({}));
        times.push(since.elapsed());
        assert_eq!(status["members"].as_array().unwrap().len(), 9);
        rig.members();
    }
    times.sort();
    println!("fleet_status of 9 members: median {:?}, p99 {:?}", times[50], times[98]);
    let said = rig.sshd.log()[log..].to_owned();
    assert!(!said.contains("Connection from") && !said.contains("exec"), "{said}");
}
