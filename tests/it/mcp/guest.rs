//! Tools that fleetd itself does not have: tasks that ask, and arguments that
//! stand in headers.

use fleetd::mcp::{Guest, GuestReply, Talk, TaskSupport};
use fleetd::model::Principal;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::{Method, StatusCode};
use serde_json::{Map, Value, json};
use tokio::sync::broadcast;

use super::rig::{Answer, Lines, MODERN, Reader, Rig, read};

/// Has one tool, `ship`, that asks two things and says what it was told.
struct Port {
    support: TaskSupport,
}

impl Guest for Port {
    fn claims(&self, request: &Value) -> bool {
        request["params"]["name"] == "ship"
    }

    fn serve(&self, _: Value, talk: Talk) -> BoxFuture<'static, GuestReply> {
        async move {
            talk.notify("notifications/message", json!({ "level": "info", "data": "x" })).await;
            let form = |message: &str| {
                let schema = json!({ "type": "object", "properties": {} });
                json!({ "mode": "form", "message": message, "requestedSchema": schema })
            };
            let one = talk.ask("elicitation/create", form("one?"));
            let two = talk.ask("elicitation/create", form("two?"));
            let (one, two) = tokio::join!(one, two);
            let said = json!([one, two]).to_string();
            let content = [json!({ "type": "text", "text": said })];
            Ok(json!({ "resultType": "complete", "content": content }))
        }
        .boxed()
    }

    fn task(&self, _: &Value) -> TaskSupport {
        self.support
    }

    fn input_of(&self, tool: &str) -> Option<Map<String, Value>> {
        let place = json!({ "type": "string", "x-mcp-header": "Place" });
        let schema = json!({ "type": "object", "properties": { "place": place } });
        schema.as_object().filter(|_| tool == "ship").cloned()
    }

    fn amend(&self, _: &str, _: bool, _: &mut Map<String, Value>) {}

    fn changes(&self) -> broadcast::Receiver<&'static str> {
        broadcast::channel(1).1
    }
}

fn meta() -> Value {
    json!({
        "io.modelcontextprotocol/protocolVersion": MODERN,
        "io.modelcontextprotocol/clientCapabilities": {
            "elicitation": {},
            "extensions": { "io.modelcontextprotocol/tasks": {} },
        },
    })
}

async fn ship(rig: &Rig, meta: Value) -> Answer {
    rig.modern("tools/call", json!({ "name": "ship", "arguments": {}, "_meta": meta })).await
}

async fn begin(rig: &Rig) -> String {
    let task = ship(rig, meta()).await.json()["result"].take();
    assert_eq!((&task["resultType"], &task["status"]), (&json!("task"), &json!("working")));
    assert_eq!((&task["ttlMs"], task["pollIntervalMs"].is_u64()), (&Value::Null, true), "{task}");
    assert_eq!(task["_meta"]["io.modelcontextprotocol/serverInfo"]["name"], "fleetd");
    task["taskId"].as_str().unwrap().to_owned()
}

async fn ask(rig: &Rig, method: &str, id: &str, more: Value) -> Value {
    let mut params = json!({ "taskId": id, "_meta": meta() });
    for (name, value) in more.as_object().unwrap() {
        params[name] = value.clone();
    }
    rig.modern(method, params).await.json()
}

async fn listen(rig: &Rig, id: &str) -> Reader {
    let params = json!({ "notifications": { "taskIds": [id] }, "_meta": meta() });
    let response = rig.modern_response("subscriptions/listen", params).await;
    let mut stream = Reader::new(response.into_body());
    let (_, ack) = stream.message().await;
    assert_eq!(ack["params"]["notifications"]["taskIds"], json!([id]));
    stream
}

/// What the stream tells of the task next.
async fn told(stream: &mut Reader) -> Value {
    let (_, message) = stream.message().await;
    assert_eq!(message["method"], "notifications/tasks");
    message["params"].clone()
}

#[tokio::test]
async fn a_task_asks_and_goes_on_with_the_answers() {
    let rig = Rig::with_guest(Port { support: TaskSupport::Optional });
    let id = begin(&rig).await;
    let mut stream = listen(&rig, &id).await;
    let open = loop {
        let task = told(&mut stream).await;
        assert_eq!(task["status"], "input_required", "{task}");
        let open: Vec<_> = task["inputRequests"].as_object().unwrap().keys().cloned().collect();
        if open.len() == 2 {
            break open;
        }
    };
    let answer = |text: &str| json!({ "action": "accept", "content": { "said": text } });
    // What answers nothing, or is no answer, leaves the questions open.
    let idle = json!({ "nobody-asked": answer("x"), open[0].clone(): "yes" });
    let ack = ask(&rig, "tasks/update", &id, json!({ "inputResponses": idle })).await;
    assert_eq!(ack["result"]["resultType"], "complete", "{ack}");
    let first = json!({ "inputResponses": { open[0].clone(): answer("a") } });
    ask(&rig, "tasks/update", &id, first).await;
    let task = told(&mut stream).await;
    let left: Vec<_> = task["inputRequests"].as_object().unwrap().keys().cloned().collect();
    assert_eq!(left, open[1..]);
    let second = json!({ "inputResponses": { open[1].clone(): answer("b") } });
    ask(&rig, "tasks/update", &id, second).await;
    let done = loop {
        let task = told(&mut stream).await;
        if task["status"] != "working" {
            break task;
        }
    };
    assert_eq!(done["status"], "completed", "{done}");
    let text = done["result"]["content"][0]["text"].as_str().unwrap();
    assert!(text.contains(r#""said":"a""#) && text.contains(r#""said":"b""#), "{text}");
    let read = ask(&rig, "tasks/get", &id, json!({})).await;
    assert_eq!(read["result"]["result"], done["result"]);
}

#[tokio::test]
async fn a_task_that_asks_can_be_given_up_and_is_nobody_elses() {
    let rig = Rig::with_guest(Port { support: TaskSupport::Required });
    let id = begin(&rig).await;
    let stranger = Principal { id: "stranger".into(), ..Principal::owner() };
    let stranger = Principal { scopes: vec![fleetd::model::Scope::Run], ..stranger };
    let params = json!({ "taskId": id, "_meta": meta() });
    let message = json!({"jsonrpc": "2.0", "id": 7, "method": "tasks/cancel", "params": params});
    let headers = [
        ("content-type", "application/json"),
        ("mcp-protocol-version", MODERN),
        ("mcp-method", "tasks/cancel"),
        ("mcp-name", &id),
    ];
    let foreign = rig.send_as(stranger, Method::POST, &headers, &message.to_string()).await;
    assert_eq!(read(foreign).await.error_code(), -32602);
    let mut stream = listen(&rig, &id).await;
    for _ in 0..2 {
        let ack = ask(&rig, "tasks/cancel", &id, json!({})).await;
        assert_eq!(ack["result"]["resultType"], "complete", "{ack}");
    }
    while told(&mut stream).await["status"] != "cancelled" {}
}

#[tokio::test]
async fn who_cannot_read_a_task_waits_or_is_refused() {
    let rig = Rig::with_guest(Port { support: TaskSupport::Optional });
    let waited = ship(&rig, json!({})).await.json();
    assert_eq!(waited["result"]["content"][0]["text"], "[null,null]", "{waited}");
    let rig = Rig::with_guest(Port { support: TaskSupport::Required });
    let refused = ship(&rig, json!({})).await;
    assert_eq!((refused.status, refused.error_code()), (StatusCode::BAD_REQUEST, -32021));
    let needed = refused.json()["error"]["data"]["requiredCapabilities"].take();
    assert_eq!(needed, json!({ "extensions": { "io.modelcontextprotocol/tasks": {} } }));
}

#[tokio::test]
async fn an_annotated_argument_has_to_stand_in_its_header() {
    let rig = Rig::with_guest(Port { support: TaskSupport::Never });
    let arguments = json!({ "place": "été" });
    let params = json!({ "name": "ship", "arguments": arguments, "_meta": meta() });
    let message = json!({"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": params});
    let post = async |place: Option<&str>| {
        let mut headers = vec![
            ("content-type", "application/json"),
            ("mcp-protocol-version", MODERN),
            ("mcp-method", "tools/call"),
            ("mcp-name", "ship"),
        ];
        headers.extend(place.map(|place| ("Mcp-Param-Place", place)));
        read(rig.send(Method::POST, &headers, &message.to_string()).await).await
    };
    assert_eq!(post(Some("=?base64?w6l0w6k=?=")).await.json()["result"]["resultType"], "complete");
    for wrong in [None, Some("hiver"), Some("=?base64?w6l0w6k?=")] {
        let refused = post(wrong).await;
        assert_eq!((refused.status, refused.error_code()), (StatusCode::BAD_REQUEST, -32020));
        assert_eq!(refused.json()["id"], 7);
    }
    // Where there are no headers, none are expected.
    let mut pipe = Lines::new(&rig);
    pipe.say(message).await;
    let reply = loop {
        let said = pipe.next().await;
        if said["id"] == 7 {
            break said;
        }
    };
    assert_eq!(reply["result"]["resultType"], "complete", "{reply}");
}
