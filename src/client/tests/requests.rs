//! Calls, streams, and what becomes of them when the connection breaks.

use super::*;

#[tokio::test]
async fn a_tool_call_is_what_the_revision_asks_for() {
    let server = Server::new().on_socket().await;
    server.then(|_| whole(result(json!({"n": 1}))));
    let got: Value = server.client().call_tool("version", &NoArguments {}).await.unwrap();
    assert_eq!(got, json!({"n": 1}));
    let seen = &server.seen()[0];
    assert_eq!(seen.target, "/mcp/x/all");
    assert_eq!(seen.header("mcp-protocol-version"), Some("2026-07-28"));
    assert_eq!(seen.header("mcp-method"), Some("tools/call"));
    assert_eq!(seen.header("mcp-name"), Some("version"));
    assert_eq!(seen.header("accept"), Some("application/json, text/event-stream"));
    let body: Value = serde_json::from_slice(&seen.body).unwrap();
    assert_eq!(body["params"]["name"], "version");
    let meta = &body["params"]["_meta"];
    assert_eq!(meta["io.modelcontextprotocol/protocolVersion"], "2026-07-28");
    assert!(meta["io.modelcontextprotocol/clientCapabilities"].is_object());
}

#[tokio::test]
async fn an_answer_may_come_as_a_stream_after_progress() {
    let server = Server::new().on_socket().await;
    server.then(|_| {
        let progress =
            "data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/progress\",\"params\":{}}\n\n";
        let answer = format!(": hi\n\ndata: {}\n\n", result(json!({"n": 2})));
        let (head, tail) = answer.split_at(20);
        pieces("text/event-stream", &[progress, head, tail], false)
    });
    let got: Value = server.client().call_tool("x", &NoArguments {}).await.unwrap();
    assert_eq!(got, json!({"n": 2}));
}

#[tokio::test]
async fn refusals_and_cuts_are_told_apart() {
    let server = Server::new().on_socket().await;
    server
        .then(|_| refusal(507, "storage_full"))
        .then(|_| pieces("text/event-stream", &["data: {"], true))
        .then(|_| pieces("application/json", &["{\"jsonrpc\":"], true))
        .then(|_| pieces("text/event-stream", &[": going down\n\n"], false))
        .then(|_| whole(json!("hello")));
    let client = server.client();
    let call = async || client.call_tool::<_, Value>("x", &NoArguments {}).await.unwrap_err();
    let refused = call().await;
    assert_eq!(
        (refused.code(), refused.to_string().as_str()),
        (ErrorCode::StorageFull, "it is storage_full")
    );
    assert!(matches!(call().await, ClientError::Cut(_)));
    assert!(matches!(call().await, ClientError::Cut(_)));
    assert!(matches!(call().await, ClientError::Ended));
    assert!(matches!(call().await, ClientError::Protocol(_)));
}

fn event(seq: u64) -> String {
    format!("id: 0000002a:{seq}\nevent: custom.x\ndata: {{\"sequence\":\"{seq}\"}}\n\n")
}

async fn ids(stream: &mut EventStream, count: usize) -> Vec<String> {
    let mut ids = Vec::new();
    for _ in 0..count {
        ids.push(match stream.next().await.unwrap() {
            Incoming::Frame(frame) => frame.id.unwrap_or_default(),
            Incoming::Lost(_) => "lost".to_owned(),
        });
    }
    ids
}

#[tokio::test]
async fn a_stream_goes_on_where_it_broke() {
    let server = Server::new().on_socket().await;
    server
        .then(|_| pieces("text/event-stream", &[": hi\n\n", &event(5), &event(6)[..9]], true))
        .then(|_| refusal(503, "unavailable"))
        // A bookmark moves the cursor without being shown.
        .then(|_| pieces("text/event-stream", &[&event(6), "id: 0000002a:9\n\n"], false))
        .then(|_| pieces("text/event-stream", &[&event(10)], false));
    let query = EventQuery { since: Some("0000002a:4".into()), ..EventQuery::default() };
    let mut stream = server.client().events(query).await.unwrap();
    assert_eq!(
        ids(&mut stream, 5).await,
        ["0000002a:5", "lost", "0000002a:6", "lost", "0000002a:10"]
    );
    let seen = server.seen();
    assert_eq!(seen[0].target, "/events?signals=0&since=0000002a%3A4");
    let resumed: Vec<_> = seen.iter().map(|seen| seen.header("last-event-id")).collect();
    let [five, nine] = [Some("0000002a:5"), Some("0000002a:9")];
    assert_eq!(resumed, [None, five, five, nine]);
}

#[tokio::test]
async fn a_stream_does_not_repeat_what_cannot_succeed() {
    let server = Server::new().on_socket().await;
    server
        .then(|_| pieces("text/event-stream", &[&event(5)], false))
        .then(|_| refusal(400, "cursor_in_future"));
    let mut stream = server.client().events(EventQuery::default()).await.unwrap();
    assert_eq!(ids(&mut stream, 2).await, ["0000002a:5", "lost"]);
    assert_eq!(stream.next().await.unwrap_err().code(), ErrorCode::CursorInFuture);
}

#[tokio::test]
async fn output_goes_on_at_its_offset_until_the_task_has_ended() {
    let server = Server::new().on_socket().await;
    server
        .then(|_| pieces("application/octet-stream", &["one ", "two "], true))
        // The daemon went down in good order: an end that is not the task's.
        .then(|_| pieces("application/octet-stream", &["three "], false))
        .then(|_| monitored("running"))
        .then(|_| pieces("application/octet-stream", &["four "], false))
        .then(|_| monitored("completed"))
        .then(|_| pieces("application/octet-stream", &["five"], false));
    let mut output = server.client().output(task(), OutputStream::Stdout, 0, true);
    let mut read = Vec::new();
    while let Some(bytes) = output.next().await.unwrap() {
        read.extend_from_slice(&bytes);
    }
    assert_eq!(String::from_utf8(read).unwrap(), "one two three four five");
    assert_eq!(output.offset(), 23);
    let offsets: Vec<_> = server
        .seen()
        .iter()
        .filter_map(|seen| Some(seen.target.split_once("offset=")?.1.to_owned()))
        .collect();
    assert_eq!(offsets, ["0&follow=1", "8&follow=1", "14&follow=1", "19&follow=1"]);
}

#[tokio::test]
async fn input_says_where_it_belongs() {
    let server = Server::new().on_socket().await;
    server.then(|_| whole(json!({"held": 8}))).then(|_| refusal(409, "conflict"));
    let client = server.client();
    assert_eq!(client.input(task(), 3, "hello".into(), false).await.unwrap(), 8);
    let error = client.input(task(), 8, Bytes::new(), true).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::Conflict);
    let seen = server.seen();
    assert_eq!(seen[0].target, format!("/tasks/{}/input?offset=3", task()));
    assert_eq!(seen[0].body, "hello");
    assert_eq!(seen[1].target, format!("/tasks/{}/input?offset=8&end=1", task()));
}
