//! Tokens of clients: what they see of other projects (nothing), and their end.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{Answer, Conn, Daemon, Home, Request, Stream, distinct_id, eventually, reply};

/// A client with a token of its own.
struct Client<'a> {
    daemon: &'a Daemon,
    token: String,
}

fn create(home: &Home, args: &[&str]) -> String {
    let all = [&["token", "create"], args].concat();
    home.fleetctl(&all).ok().stdout.trim().to_owned()
}

impl<'a> Client<'a> {
    fn new(daemon: &'a Daemon, args: &[&str]) -> Self {
        Self { daemon, token: create(daemon.home(), args) }
    }

    fn request(&self, method: &str, path: &str) -> Request {
        Request::new(method, path).host(&self.daemon.host()).bearer(&self.token)
    }

    fn send(&self, method: &str, path: &str) -> Answer {
        self.daemon.send(&self.request(method, path))
    }

    fn publish(&self, id: &str, project: Option<&str>) -> Answer {
        let mut event = json!({ "specversion": "1.0", "type": "custom.matrix", "source": "t",
            "id": id, "data": { "id": id } });
        if let Some(project) = project {
            event["project"] = project.into();
        }
        let request = self.request("POST", "/events");
        let body = event.to_string();
        self.daemon.send(&request.body("application/cloudevents+json", body.as_bytes()))
    }

    /// The whole result of a tool, error or not.
    fn tool(&self, tool: &str, arguments: Value) -> Value {
        let params = json!({ "name": tool, "arguments": arguments });
        self.rpc("tools/call", tool, params)["result"].clone()
    }

    /// The reply to a request whose `Mcp-Name` is `name`.
    fn rpc(&self, method: &str, name: &str, mut params: Value) -> Value {
        params["_meta"] = json!({ "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientCapabilities": {} });
        let request = self
            .request("POST", "/mcp")
            .header("Accept", "application/json, text/event-stream")
            .header("MCP-Protocol-Version", "2026-07-28")
            .header("Mcp-Method", method)
            .header("Mcp-Name", name);
        let body = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
        reply(&self.daemon.send(&request.json(&body)))
    }

    fn resource(&self, uri: &str) -> Value {
        self.rpc("resources/read", uri, json!({ "uri": uri }))
    }

    fn stream(&self, query: &str) -> Stream {
        Stream::open(self.daemon.connect(), &self.request("GET", &format!("/events?{query}")))
    }
}

/// A task that belongs to `client` and has written something.
fn task(client: &Client<'_>) -> String {
    let started = client.tool(
        "execute_command",
        json!({ "command": "echo secret; sleep 600", "async": true, "open_stdin": true }),
    );
    let id = started["structuredContent"]["stream_id"].as_str();
    let id = id.unwrap_or_else(|| panic!("{started}")).to_owned();
    eventually("the task has written", || {
        client.send("GET", &format!("/tasks/{id}/output?stream=stdout")).text().contains("secret")
    });
    id
}

/// What `red` reads, `blue` does not; foreign and absent are answered alike.
fn resources_show_one_s_own_alone(red: &Client<'_>, blue: &Client<'_>, task: &str, absent: &str) {
    for uri in ["fleet://tasks".to_owned(), "fleet://events?since=0".to_owned()] {
        assert!(!blue.resource(&uri).to_string().contains(task), "{uri}");
    }
    assert!(red.resource("fleet://tasks").to_string().contains(task));
    let [foreign, gone] = [task, absent]
        .map(|id| blue.resource(&format!("fleet://tasks/{id}")).to_string().replace(id, "ID"));
    assert_eq!(foreign, gone);
    assert!(foreign.contains("\"error\""), "{foreign}");
}

/// What `red` finds with the tools that look around, `blue` does not.
fn tools_tell_of_one_s_own_alone(red: &Client<'_>, blue: &Client<'_>, task: &str, event: &str) {
    for (tool, arguments) in [
        ("list_tasks", json!({})),
        ("fleet_status", json!({})),
        ("list_events", json!({ "since": "0" })),
        ("list_events", json!({ "since": "0", "subject": format!("task/{task}") })),
        ("wait_for_events", json!({ "since": "0", "timeout_s": 0, "types": ["custom.>"] })),
    ] {
        let said = blue.tool(tool, arguments.clone()).to_string();
        for secret in [task, event, "secret"] {
            assert!(!said.contains(secret), "{tool} {arguments} tells {secret}: {said}");
        }
        let own = red.tool(tool, arguments.clone()).to_string();
        assert!(own.contains(task) || own.contains(event), "{tool} {arguments}: {own}");
    }
}

#[test]
fn s08_a_token_of_one_project_can_neither_see_nor_touch_nor_infer_another() {
    let daemon = Daemon::start();
    let red = Client::new(&daemon, &["red", "--project", "red"]);
    let blue = Client::new(&daemon, &["blue", "--project", "blue"]);
    let (mine, absent) = (task(&red), "3b9f2a1e-0c5d-4a7b-9e8f-1d2c3b4a5f60");
    let published = distinct_id("red");
    assert_eq!(red.publish(&published, None).status / 100, 2);

    // Tasks: foreign and absent are answered alike, but for the id.
    let alike = |method: &str, path: &dyn Fn(&str) -> String| {
        let [foreign, gone] = [mine.as_str(), absent].map(|id| {
            let answer = blue.send(method, &path(id));
            (answer.status, answer.text().replace(id, "ID"))
        });
        assert_eq!(foreign, gone, "{method} {}", path("ID"));
        assert_eq!(foreign.0, 404, "{method} {}", path("ID"));
    };
    alike("GET", &|id| format!("/tasks/{id}/output?stream=stdout"));
    alike("GET", &|id| format!("/tasks/{id}/output?stream=stdout&follow=1"));
    alike("POST", &|id| format!("/tasks/{id}/input?offset=0&end=1"));
    for (tool, argument) in [("monitor_task", "task_id"), ("stop_task", "task_id")] {
        let [foreign, gone] = [mine.as_str(), absent].map(|id| {
            let result = blue.tool(tool, json!({ argument: id }));
            assert_eq!(result["isError"], true, "{tool}: {result}");
            result.to_string().replace(id, "ID")
        });
        assert_eq!(foreign, gone, "{tool}");
    }
    tools_tell_of_one_s_own_alone(&red, &blue, &mine, &published);
    resources_show_one_s_own_alone(&red, &blue, &mine, absent);

    // Streams, whatever they ask for.
    for query in ["since=0", "since=0&project=red", &format!("since=0&task={mine}")] {
        let answered = blue.send("POST", "/nothing");
        assert_eq!(answered.status, 404);
        let mut stream = blue.stream(query);
        let own = distinct_id("blue");
        assert_eq!(blue.publish(&own, None).status / 100, 2);
        if query == "since=0" {
            let event = stream.next();
            let data: Value = serde_json::from_str(&event.data).unwrap();
            assert_eq!((&data["project"], &data["id"]), (&json!("blue"), &json!(own)));
        } else {
            assert!(stream.next_within(Duration::from_millis(200)).is_none(), "{query}");
        }
    }

    // Writing into it, or claiming it.
    assert_eq!(blue.publish(&distinct_id("x"), Some("red")).status, 400);
    let claimed = blue.request("GET", "/events").header("Fleetd-Project", "red");
    assert_eq!(daemon.send(&claimed).status, 403);
    // The same id in another project is another event, not a duplicate that tells.
    assert_eq!(blue.publish(&published, None).json()["results"][0]["duplicate"], false);
    // Nothing that counts everything, and nothing that makes tokens.
    for (method, path) in [("GET", "/metrics"), ("GET", "/tokens"), ("DELETE", "/tokens/red")] {
        assert_eq!(blue.send(method, path).status, 403, "{method} {path}");
    }
    // The task knows nothing of all this.
    let state = red.tool("monitor_task", json!({ "task_id": mine }));
    assert_eq!(state["structuredContent"]["tasks"][0]["state"], "running", "{state}");
}

#[test]
fn s08_who_may_only_read_can_only_read() {
    let daemon = Daemon::start();
    let reader = Client::new(&daemon, &["reader", "--read-only"]);
    daemon.publish("custom.matrix", "seen", json!({}));
    let seen = reader.tool("list_events", json!({ "since": "0", "types": ["custom.>"] }));
    assert_eq!(seen["structuredContent"]["events"][0]["id"], "seen", "{seen}");
    assert_eq!(reader.publish("x", None).status, 403);
    for tool in ["execute_command", "publish_event", "stop_task"] {
        let arguments = match tool {
            "execute_command" => json!({ "command": "true" }),
            "stop_task" => json!({ "task_id": "3b9f2a1e-0c5d-4a7b-9e8f-1d2c3b4a5f60" }),
            _ => json!({ "type": "custom.x" }),
        };
        let refused = reader.tool(tool, arguments);
        assert_eq!(refused["_meta"]["fleetd/error"]["code"], "forbidden", "{tool}: {refused}");
    }
}

#[test]
fn s07_a_revoked_token_ends_its_streams_within_a_second_and_nobody_else_s() {
    let daemon = Daemon::start();
    let first = Client::new(&daemon, &["first"]);
    let second = Client::new(&daemon, &["second"]);
    let (mut mine, mut other) = (first.stream("since=0"), second.stream("types=custom.*"));
    let begun = Instant::now();
    daemon.fleetctl(&["token", "revoke", "first"]).ok();
    assert!(mine.ends_within(Duration::from_secs(1)), "{:?}", begun.elapsed());
    assert_eq!(first.send("GET", "/events").status, 401);
    daemon.publish("custom.still", &distinct_id("still"), json!({}));
    assert!(other.next().data.contains("custom.still"));
    // Gone for good, also after a restart; the other one is not.
    let (first, second) = (first.token, second.token);
    let daemon = Daemon::start_in(daemon.kill9());
    let again = |token: String| Client { daemon: &daemon, token }.send("GET", "/metrics").status;
    assert_eq!((again(first), again(second)), (401, 403));
    // A name can be used again, but not twice at once; unknown ones are said.
    create(daemon.home(), &["first"]);
    assert_eq!(daemon.fleetctl(&["token", "create", "first"]).code(), 1);
    assert_eq!(daemon.fleetctl(&["token", "revoke", "nobody"]).code(), 1);
    let listed = daemon.fleetctl(&["token", "list"]).ok().stdout;
    assert!(listed.contains("first") && listed.contains("second"), "{listed}");
}

/// Every kind of stream that MCP has.
fn mcp_streams(client: &Client<'_>) -> Vec<(&'static str, Stream)> {
    let open = |request: &Request| Stream::open(client.daemon.connect(), request);
    let post = || client.request("POST", "/mcp").header("Accept", "text/event-stream");
    let hello = json!({ "jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
        "protocolVersion": "2025-11-25", "capabilities": {},
        "clientInfo": { "name": "test", "version": "1" } } });
    let answer = client.daemon.send(&post().json(&hello));
    let session = answer.header("mcp-session-id").expect("a session").to_owned();
    let get = |path| client.request("GET", path).header("Accept", "text/event-stream");
    let own = get("/mcp").header("Mcp-Session-Id", &session);
    let wait = json!({ "jsonrpc": "2.0", "id": 2, "method": "tools/call",
        "params": { "name": "wait_for_events", "arguments": { "timeout_s": 40 } } });
    let call = post().header("Mcp-Session-Id", &session).json(&wait);
    let meta = json!({ "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {} });
    let filter = json!({ "resourceSubscriptions": ["fleet://events"] });
    let listen = json!({ "jsonrpc": "2.0", "id": 3, "method": "subscriptions/listen",
        "params": { "notifications": filter, "_meta": meta } });
    let listen = post()
        .header("MCP-Protocol-Version", "2026-07-28")
        .header("Mcp-Method", "subscriptions/listen")
        .json(&listen);
    let all = [("own", own), ("call", call), ("listen", listen), ("HTTP+SSE", get("/sse"))];
    all.map(|(what, request)| (what, open(&request))).into_iter().collect()
}

#[test]
fn s07_a_revoked_token_ends_its_mcp_streams_too() {
    let daemon = Daemon::start();
    let (first, second) = (Client::new(&daemon, &["first"]), Client::new(&daemon, &["second"]));
    let (mine, others) = (mcp_streams(&first), mcp_streams(&second));
    daemon.fleetctl(&["token", "revoke", "first"]).ok();
    let begun = Instant::now();
    for (what, mut stream) in mine {
        let left = Duration::from_secs(1).saturating_sub(begun.elapsed());
        assert!(stream.ends_within(left), "{what} goes on: {:?}", begun.elapsed());
    }
    for (what, mut stream) in others {
        assert!(!stream.ends_within(Duration::from_millis(50)), "{what} of another ended");
    }
}

/// A wait that is to be answered whole, however long it takes: of a session, or of
/// the era without them.
fn json_waits(client: &Client<'_>) -> [Conn; 2] {
    let post = || client.request("POST", "/mcp").header("Accept", "application/json");
    let hello = json!({ "jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
        "protocolVersion": "2025-06-18", "capabilities": {},
        "clientInfo": { "name": "test", "version": "1" } } });
    let answer = client.daemon.send(&post().json(&hello));
    let session = answer.header("mcp-session-id").expect("a session").to_owned();
    let mut params = json!({ "name": "wait_for_events",
        "arguments": { "timeout_s": 40, "types": ["custom.awaited"] } });
    let wait = |params: &Value| {
        json!({ "jsonrpc": "2.0", "id": 2, "method": "tools/call",
        "params": params })
    };
    let legacy = post().header("Mcp-Session-Id", &session).json(&wait(&params));
    params["_meta"] = json!({ "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {} });
    let modern = post()
        .header("MCP-Protocol-Version", "2026-07-28")
        .header("Mcp-Method", "tools/call")
        .header("Mcp-Name", "wait_for_events")
        .json(&wait(&params));
    [legacy, modern].map(|request| {
        let mut conn = client.daemon.connect();
        conn.write(&request.bytes()).expect("sent");
        conn
    })
}

#[test]
fn s07_a_revoked_token_is_not_answered_any_more() {
    let daemon = Daemon::start();
    let (first, second) = (Client::new(&daemon, &["first"]), Client::new(&daemon, &["second"]));
    let before = daemon.metric("fleetd_subscriptions");
    let [mut mine, _] = json_waits(&first);
    let [mut others, _] = json_waits(&second);
    eventually("all wait", || daemon.metric("fleetd_subscriptions") >= before + 4.0);
    daemon.fleetctl(&["token", "revoke", "first"]).ok();
    let begun = Instant::now();
    let refused = mine.read_answer("POST").expect("an answer");
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    assert_eq!(refused.status, 401, "{refused:?}");
    eventually("nobody waits for it", || daemon.metric("fleetd_subscriptions") <= before + 2.0);
    daemon.publish("custom.awaited", &distinct_id("awaited"), json!({}));
    let answer = others.read_answer("POST").expect("an answer");
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(answer.text().contains("custom.awaited"), "{answer:?}");
}

#[test]
fn a_wait_is_answered_when_the_daemon_stops() {
    let daemon = Daemon::start();
    let client = Client::new(&daemon, &["first"]);
    let before = daemon.metric("fleetd_subscriptions");
    let [mut waits, _] = json_waits(&client);
    eventually("both wait", || daemon.metric("fleetd_subscriptions") >= before + 2.0);
    let (_home, _exit) = daemon.terminate(Duration::from_secs(10));
    let answer = waits.read_answer("POST").expect("an answer");
    assert_eq!(answer.status, 200, "stopping takes no token away: {answer:?}");
}

#[test]
fn who_reads_a_project_reads_what_its_events_tell_and_lists_its_own_tasks_only() {
    let daemon = Daemon::start();
    let reader = Client::new(&daemon, &["reader", "--read-only"]);
    let ran = daemon.tool("execute_command", json!({ "command": "echo the owner ran this" }));
    let id = ran["stream_id"].as_str().unwrap().to_owned();
    let arguments = json!({ "since": "0", "subject": format!("task/{id}") });
    let told = reader.tool("list_events", arguments).to_string();
    assert!(told.contains("task.completed") && told.contains("the owner ran this"), "{told}");
    let listed = reader.tool("list_tasks", json!({}));
    assert_eq!(listed["structuredContent"]["tasks"], json!([]), "{listed}");
    assert_eq!(reader.tool("monitor_task", json!({ "stream_id": id }))["isError"], true);
    assert_eq!(reader.send("GET", &format!("/tasks/{id}/output")).status, 404);
    // The project is the border.
    let elsewhere = Client::new(&daemon, &["elsewhere", "--project", "web", "--read-only"]);
    let nothing = elsewhere.tool("list_events", json!({ "since": "0" })).to_string();
    assert!(!nothing.contains(&id), "{nothing}");
}

#[test]
fn one_client_cannot_take_everybody_s_connections() {
    let daemon = Daemon::configured("[server]\nmax_connections = 16\n");
    let greedy = Client::new(&daemon, &["greedy"]);
    let other = Client::new(&daemon, &["other"]);
    let mut streams: Vec<_> = (0..4).map(|_| greedy.stream("")).collect();
    // Only the head is read: it would be a stream without end if it were taken.
    let mut fifth = daemon.connect();
    fifth.write(&greedy.request("GET", "/events").bytes()).expect("sent");
    let (refused, _body) = fifth.read_head("GET").expect("an answer");
    assert_eq!(refused.status, 429, "{refused:?}");
    let mut others = other.stream("types=custom.*");
    daemon.publish("custom.still", &distinct_id("still"), json!({}));
    assert!(others.next().data.contains("custom.still"));
    streams.pop();
    eventually("the place is free again", || greedy.send("GET", "/nothing").status == 404);
}

#[test]
fn a_token_is_kept_nowhere_and_yours_stays_as_it_is() {
    let daemon = Daemon::start();
    let mine = daemon.token();
    let token = create(daemon.home(), &["ci", "--project", "web"]);
    assert_eq!(token.len(), 64);
    assert_eq!(daemon.token(), mine);
    for entry in std::fs::read_dir(daemon.home().state()).unwrap() {
        let path = entry.unwrap().path();
        let bytes = std::fs::read(&path).unwrap_or_default();
        let found = bytes.windows(token.len()).any(|part| part == token.as_bytes());
        assert!(!found, "{} holds the token", path.display());
    }
    assert!(!daemon.home().logs().contains(&token));
}
