//! Resources: listed, read with a cursor, watched.

use serde_json::{Value, json};

use super::rig::{MODERN, Rig, request};

/// The content of a resource, read as a modern client does.
async fn content(rig: &Rig, uri: &str) -> Value {
    let answer = rig.modern("resources/read", json!({"uri": uri})).await.json();
    let content = &answer["result"]["contents"][0];
    assert_eq!((&content["uri"], &content["mimeType"]), (&uri.into(), &"application/json".into()));
    assert!(answer["result"]["ttlMs"].is_u64(), "{answer}");
    serde_json::from_str(content["text"].as_str().unwrap()).unwrap()
}

#[tokio::test]
async fn what_is_listed_can_be_read_and_goes_on_from_its_cursor() {
    let rig = Rig::new();
    let list = rig.modern("resources/list", json!({})).await.json();
    assert!(list["result"]["cacheScope"].is_string(), "{list}");
    let uris = list["result"]["resources"].as_array().unwrap();
    let uris: Vec<_> = uris.iter().map(|resource| resource["uri"].as_str().unwrap()).collect();
    assert_eq!(uris, ["fleet://events", "fleet://tasks", "fleet://members"]);
    for uri in uris {
        let before = content(&rig, uri).await;
        let cursor = before["cursor"].as_str().unwrap();
        let after = content(&rig, &format!("{uri}?since={cursor}")).await;
        assert_eq!(after["events"], json!([]), "{uri}");
    }
    let templates = rig.modern("resources/templates/list", json!({})).await.json();
    assert_eq!(templates["result"]["resourceTemplates"].as_array().unwrap().len(), 3);
    let begun = rig.tool("execute_command", json!({"command": "true"})).await;
    let id = begun["structuredContent"]["stream_id"].as_str().unwrap();
    let task = content(&rig, &format!("fleet://tasks/{id}?since=0")).await;
    assert_eq!(task["task"]["state"], "completed");
    let types: Vec<_> = task["events"].as_array().unwrap().iter().map(|e| &e["type"]).collect();
    assert_eq!(types.last().unwrap(), &"task.completed");
    assert_eq!(content(&rig, "fleet://tasks").await["tasks"][0]["task_id"], id);
    assert_eq!(content(&rig, "fleet://members/local").await["member"]["state"], "online");
}

#[tokio::test]
async fn what_is_not_there_is_said_as_the_revision_says_it() {
    let rig = Rig::new();
    let session = rig.session("2025-11-25").await;
    for uri in [
        "fleet://nothing",
        "test://nonexistent",
        "fleet://tasks/01234567-89ab-4def-8123-456789abcdef",
        "fleet://members/nobody",
    ] {
        let modern = rig.modern("resources/read", json!({"uri": uri})).await.json();
        assert_eq!(modern["error"]["code"], -32602, "{modern}");
        assert_eq!(modern["error"]["data"]["uri"], uri);
        for method in ["resources/read", "resources/subscribe"] {
            let legacy = request(2, method, json!({"uri": uri}));
            let legacy = rig.post(Some(&session), &legacy).await.json();
            assert_eq!(legacy["error"]["code"], -32002, "{method}: {legacy}");
        }
    }
    let bad = rig.modern("resources/read", json!({"uri": "fleet://events?since=x"})).await.json();
    assert_eq!(bad["error"]["code"], -32602, "{bad}");
    assert_eq!(
        rig.modern("resources/subscribe", json!({"uri": "fleet://events"})).await.status,
        404
    );
    let discovered = rig.modern("server/discover", json!({})).await.json();
    assert_eq!(discovered["result"]["capabilities"]["resources"]["subscribe"], true, "{MODERN}");
}

#[tokio::test]
async fn a_watched_resource_is_told_of_on_the_sessions_stream() {
    let rig = Rig::new();
    let session = rig.session("2025-06-18").await;
    let ask = async |method: &str, uri: &str| {
        let answer = rig.post(Some(&session), &request(3, method, json!({"uri": uri}))).await;
        assert_eq!(answer.json()["result"], json!({}));
    };
    let mut stream = rig.listen(&session, None).await;
    ask("resources/subscribe", "fleet://tasks").await;
    // Not told as a log message, so that only the notice can come.
    let level = request(4, "logging/setLevel", json!({"level": "emergency"}));
    rig.post(Some(&session), &level).await;
    rig.publish("custom.other", "info").await;
    assert!(stream.is_silent().await, "nothing about tasks happened");
    rig.tool("execute_command", json!({"command": "true"})).await;
    let (id, message) = stream.message().await;
    assert_eq!(id, None);
    assert_eq!(message["method"], "notifications/resources/updated");
    assert_eq!(message["params"]["uri"], "fleet://tasks");
    ask("resources/unsubscribe", "fleet://tasks").await;
    while !stream.is_silent().await {}
    rig.tool("execute_command", json!({"command": "true"})).await;
    assert!(stream.is_silent().await, "nobody watches any more");
}

#[tokio::test]
async fn a_change_while_no_stream_was_open_is_told_when_one_is() {
    let rig = Rig::new();
    let session = rig.session("2025-06-18").await;
    let watch = request(3, "resources/subscribe", json!({"uri": "fleet://events"}));
    assert_eq!(rig.post(Some(&session), &watch).await.json()["result"], json!({}));
    for _ in 0..20 {
        rig.publish("custom.n", "debug").await;
    }
    let mut stream = rig.listen(&session, None).await;
    assert_eq!(stream.message().await.1["params"]["uri"], "fleet://events");
    assert!(stream.is_silent().await, "twenty changes collapse into one notice");
}
