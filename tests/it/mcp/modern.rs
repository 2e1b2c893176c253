//! The stateless era.

use http::StatusCode;
use serde_json::{Value, json};

use super::rig::{MODERN, Rig, request};
use super::schema;

#[tokio::test]
async fn discover_needs_nothing_before_it() {
    let rig = Rig::new();
    let answer = rig.modern("server/discover", json!({})).await;
    assert_eq!((answer.status, answer.session.as_deref()), (StatusCode::OK, None), "{answer:?}");
    let result = answer.json()["result"].take();
    let versions: Vec<_> = result["supportedVersions"].as_array().unwrap().iter().collect();
    assert_eq!(versions, [MODERN, "2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"]);
    assert_eq!(result["resultType"], "complete");
    assert!(result["ttlMs"].is_u64() && result["cacheScope"].is_string(), "{result}");
    assert_eq!(result["_meta"]["io.modelcontextprotocol/serverInfo"]["name"], "fleetd");
    assert!(result["capabilities"]["tools"].is_object());
    assert!(result["capabilities"].get("logging").is_none(), "nothing that is not served");
    assert!(result["instructions"].as_str().unwrap().contains("wait_for_events"));
}

#[tokio::test]
async fn the_list_of_tools_is_the_same_every_time_and_in_every_era() {
    let rig = Rig::new();
    let first = rig.modern("tools/list", json!({})).await;
    let second = rig.modern("tools/list", json!({})).await;
    assert_eq!(first.body, second.body);
    let result = first.json()["result"].take();
    assert_eq!(result["resultType"], "complete");
    assert!(result["ttlMs"].is_u64() && result["cacheScope"].is_string());
    let session = rig.session("2025-11-25").await;
    let legacy = rig.post(Some(&session), &request(7, "tools/list", json!({}))).await;
    assert_eq!(legacy.json()["result"]["tools"], result["tools"]);
    assert!(legacy.json()["result"].get("resultType").is_none());
    let names: Vec<_> = result["tools"]
        .as_array()
        .unwrap()
        .iter()
        .map(|tool| tool["name"].as_str().unwrap())
        .collect();
    assert_eq!(
        names,
        [
            "execute_command",
            "monitor_task",
            "list_tasks",
            "stop_task",
            "execute_prompt",
            "stop_prompt",
            "list_events",
            "wait_for_events",
            "publish_event",
            "fleet_status",
            "version",
            "list_members"
        ]
    );
}

#[tokio::test]
async fn every_result_fits_its_output_schema() {
    let rig = Rig::new();
    let tools = rig.modern("tools/list", json!({})).await.json()["result"]["tools"].take();
    rig.publish("custom.a", "info").await;
    for (name, arguments) in [
        ("publish_event", json!({"type": "custom.b", "data": [1, null]})),
        ("list_events", json!({})),
        ("wait_for_events", json!({"since": "0"})),
        ("wait_for_events", json!({"timeout_s": 0})),
        ("list_tasks", json!({})),
        ("list_members", json!({})),
        ("fleet_status", json!({})),
        ("version", json!({})),
    ] {
        let result = rig.tool(name, arguments).await;
        assert_eq!(result["isError"], false, "{name}: {result}");
        assert_eq!(result["resultType"], "complete");
        assert_eq!(result["_meta"]["io.modelcontextprotocol/serverInfo"]["name"], "fleetd");
        assert!(result["content"][0]["text"].is_string());
        let tool = tools.as_array().unwrap().iter().find(|tool| tool["name"] == name).unwrap();
        schema::check(&tool["outputSchema"], &result["structuredContent"], name);
    }
}

#[tokio::test]
async fn a_failure_is_a_result_with_a_code_for_programs() {
    let rig = Rig::new();
    let id = "00000000-0000-4000-8000-000000000000";
    let result = rig.tool("monitor_task", json!({"task_id": id})).await;
    assert_eq!(result["isError"], true);
    assert_eq!(result["_meta"]["fleetd/error"]["code"], "not_found");
    assert!(result["content"][0]["text"].as_str().unwrap().contains(id));
}

#[tokio::test]
async fn a_session_id_means_nothing_to_a_modern_request() {
    let rig = Rig::new();
    let message = json!({"jsonrpc": "2.0", "id": "a", "method": "server/discover", "params": {"_meta": {
        "io.modelcontextprotocol/protocolVersion": MODERN,
        "io.modelcontextprotocol/clientCapabilities": {},
    }}});
    let headers = [
        ("content-type", "application/json"),
        ("mcp-protocol-version", MODERN),
        ("mcp-method", "server/discover"),
        ("mcp-session-id", "nonsense"),
    ];
    let response = rig.send(http::Method::POST, &headers, &message.to_string()).await;
    let answer = super::rig::read(response).await;
    assert_eq!((answer.status, answer.session.as_deref()), (StatusCode::OK, None));
    assert_eq!(answer.json()["id"], Value::from("a"));
}
