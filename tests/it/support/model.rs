//! A model's API on loopback with canned answers: the only mock there is. It
//! speaks what the real programs speak: Anthropic Messages, OpenAI Responses and
//! Chat Completions, Gemini `streamGenerateContent`.
//!
//! What it does is asked for by words in the last message: `HOLD` streams the
//! first part and waits for [`Model::release`]; `RUN:<line>` calls the shell
//! tool with that line first; `FAIL:<status>` refuses.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};

use serde_json::{Value, json};

/// The parts of every answer, and all of them.
pub const PARTS: [&str; 4] = ["Hel", "lo from ", "the stub — ", "é€😀."];
pub const ANSWER: &str = "Hello from the stub — é€😀.";

/// A running stub; its threads end with the test's process.
pub struct Model {
    pub port: u16,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    asked: Mutex<Vec<Value>>,
    released: Mutex<bool>,
    release: Condvar,
}

/// One way of streaming an answer.
trait Dialect {
    fn begin(&self, out: &mut Events);
    fn text(&self, out: &mut Events, part: &str);
    fn tool(&self, out: &mut Events, line: &str);
    fn end(&self, out: &mut Events, whole: &str);
}

/// A stream of server-sent events that ends with its connection.
struct Events(TcpStream);

impl Model {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::<Shared>::default();
        let serving = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = Arc::clone(&serving);
                std::thread::spawn(move || serve(stream, &shared));
            }
        });
        Self { port, shared }
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Lets every held answer go on, those that come too.
    pub fn release(&self) {
        *self.shared.released.lock().unwrap() = true;
        self.shared.release.notify_all();
    }

    /// The bodies of the requests for answers so far.
    pub fn asked(&self) -> Vec<Value> {
        self.shared.asked.lock().unwrap().clone()
    }
}

/// One request per connection.
fn serve(stream: TcpStream, shared: &Shared) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let Some((path, body)) = request(&mut reader) else { return };
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let dialect: Box<dyn Dialect> = match path.split('?').next().unwrap() {
        path if path.ends_with("/messages") => Box::new(Anthropic(model_of(&body))),
        path if path.ends_with("/responses") => Box::new(Responses),
        path if path.ends_with("/chat/completions") => Box::new(Chat(tool_of(&body))),
        path if path.contains(":streamGenerateContent") => Box::new(Gemini),
        _ => return whole(stream, 200, &json!({ "data": [], "models": [] })),
    };
    shared.asked.lock().unwrap().push(body.clone());
    answer(stream, &*dialect, &body, shared);
}

fn answer(stream: TcpStream, dialect: &dyn Dialect, body: &Value, shared: &Shared) {
    let last = since_last_answer(body);
    let word = |mark: &str| {
        let rest = &last[last.find(mark)? + mark.len()..];
        Some(rest.split(['"', '\\', '\n']).next().unwrap().to_owned())
    };
    if let Some(status) = word("FAIL:") {
        let error = json!({ "type": "error", "error": { "message": "stub says no" } });
        return whole(stream, status[..3].parse().unwrap(), &error);
    }
    let mut out = Events(stream);
    out.raw("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n");
    dialect.begin(&mut out);
    if let Some(line) = word("RUN:") {
        return dialect.tool(&mut out, &line);
    }
    for (at, part) in PARTS.iter().enumerate() {
        dialect.text(&mut out, part);
        if at == 0 && last.contains("HOLD") {
            let released = shared.released.lock().unwrap();
            drop(shared.release.wait_while(released, |released| !*released).unwrap());
        }
    }
    dialect.end(&mut out, ANSWER);
}

/// What came after the model's last answer: a prompt, and what is told with it.
fn since_last_answer(body: &Value) -> String {
    let list = ["messages", "input", "contents"].iter().find_map(|key| body[*key].as_array());
    let list = list.map(Vec::as_slice).unwrap_or_default();
    let answered = |said: &Value| {
        ["assistant", "model"].iter().any(|role| said["role"] == *role)
            || said["type"] == "function_call"
    };
    let from = list.iter().rposition(answered).map_or(0, |at| at + 1);
    list[from..].iter().map(Value::to_string).collect()
}

fn request(reader: &mut BufReader<TcpStream>) -> Option<(String, Vec<u8>)> {
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let path = line.split(' ').nth(1)?.to_owned();
    let (mut length, mut chunked) = (0, false);
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok()?;
        let header = header.trim().to_ascii_lowercase();
        if header.is_empty() {
            break;
        }
        if let Some(value) = header.strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
        chunked |= header == "transfer-encoding: chunked";
    }
    let mut body = Vec::new();
    if !chunked {
        body.resize(length, 0);
        reader.read_exact(&mut body).ok()?;
        return Some((path, body));
    }
    loop {
        let mut size = String::new();
        reader.read_line(&mut size).ok()?;
        let size = usize::from_str_radix(size.trim(), 16).ok()?;
        let mut chunk = vec![0; size + 2];
        reader.read_exact(&mut chunk).ok()?;
        if size == 0 {
            return Some((path, body));
        }
        body.extend_from_slice(&chunk[..size]);
    }
}

fn whole(mut stream: TcpStream, status: u16, body: &Value) {
    let body = body.to_string();
    let head = format!(
        "HTTP/1.1 {status} Said\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    // A client that has gone is no fault of ours.
    let _ = stream.write_all(head.as_bytes());
}

impl Events {
    fn raw(&mut self, text: &str) {
        let _ = self.0.write_all(text.as_bytes());
    }

    /// An event named by its `type`.
    fn event(&mut self, data: Value) {
        let name = data["type"].as_str().unwrap_or_default().to_owned();
        self.raw(&format!("event: {name}\ndata: {data}\n\n"));
    }

    fn data(&mut self, data: &Value) {
        self.raw(&format!("data: {data}\n\n"));
    }
}

fn model_of(body: &Value) -> String {
    body["model"].as_str().unwrap_or_default().to_owned()
}

fn tool_of(body: &Value) -> String {
    let mut names =
        body["tools"].as_array().into_iter().flatten().map(|tool| &tool["function"]["name"]);
    names.find(|name| *name == "bash").and_then(Value::as_str).unwrap_or_default().to_owned()
}

struct Anthropic(String);

impl Anthropic {
    fn block(out: &mut Events, block: Value, delta: Value) {
        out.event(json!({"type": "content_block_start", "index": 0, "content_block": block}));
        out.event(json!({"type": "content_block_delta", "index": 0, "delta": delta}));
    }

    fn stop(out: &mut Events, reason: &str) {
        out.event(json!({"type": "content_block_stop", "index": 0}));
        out.event(json!({"type": "message_delta", "delta": {"stop_reason": reason, "stop_sequence": null}, "usage": {"output_tokens": 7}}));
        out.event(json!({"type": "message_stop"}));
    }
}

impl Dialect for Anthropic {
    fn begin(&self, out: &mut Events) {
        out.event(json!({"type": "message_start", "message": {
            "id": "msg_1", "type": "message", "role": "assistant", "model": self.0, "content": [],
            "stop_reason": null, "stop_sequence": null,
            "usage": {"input_tokens": 12, "cache_creation_input_tokens": 3,
                "cache_read_input_tokens": 5, "output_tokens": 1},
        }}));
    }

    fn text(&self, out: &mut Events, part: &str) {
        let delta = json!({"type": "text_delta", "text": part});
        if part == PARTS[0] {
            return Self::block(out, json!({"type": "text", "text": ""}), delta);
        }
        out.event(json!({"type": "content_block_delta", "index": 0, "delta": delta}));
    }

    fn tool(&self, out: &mut Events, line: &str) {
        let input = json!({"command": line, "description": "Run it"}).to_string();
        let block = json!({"type": "tool_use", "id": "toolu_1", "name": "Bash", "input": {}});
        Self::block(out, block, json!({"type": "input_json_delta", "partial_json": input}));
        Self::stop(out, "tool_use");
    }

    fn end(&self, out: &mut Events, _: &str) {
        Self::stop(out, "end_turn");
    }
}

struct Responses;

impl Responses {
    fn done(out: &mut Events, item: Value) {
        out.event(json!({"type": "response.output_item.done", "output_index": 0, "item": item}));
        out.event(json!({"type": "response.completed", "response": {"id": "resp_1", "usage": {
            "input_tokens": 20, "input_tokens_details": {"cached_tokens": 4},
            "output_tokens": 9, "output_tokens_details": {"reasoning_tokens": 2},
            "total_tokens": 29,
        }}}));
    }
}

impl Dialect for Responses {
    fn begin(&self, out: &mut Events) {
        out.event(json!({"type": "response.created", "response": {"id": "resp_1"}}));
    }

    fn text(&self, out: &mut Events, part: &str) {
        if part == PARTS[0] {
            let item = json!({"type": "message", "id": "m_1", "role": "assistant", "content": []});
            out.event(
                json!({"type": "response.output_item.added", "output_index": 0, "item": item}),
            );
        }
        out.event(json!({"type": "response.output_text.delta", "item_id": "m_1",
            "output_index": 0, "content_index": 0, "delta": part}));
    }

    fn tool(&self, out: &mut Events, line: &str) {
        let arguments = json!({"cmd": line}).to_string();
        Self::done(
            out,
            json!({"type": "function_call", "id": "fc_1", "call_id": "call_1",
            "name": "exec_command", "arguments": arguments}),
        );
    }

    fn end(&self, out: &mut Events, whole: &str) {
        Self::done(
            out,
            json!({"type": "message", "id": "m_1", "role": "assistant",
            "content": [{"type": "output_text", "text": whole, "annotations": []}]}),
        );
    }
}

/// With the name of the shell tool that was offered.
struct Chat(String);

impl Chat {
    fn chunk(out: &mut Events, delta: Value, reason: Option<&str>) {
        let mut chunk = json!({"id": "c1", "object": "chat.completion.chunk", "created": 1,
            "model": "stub-model", "choices": [{"index": 0, "delta": delta, "finish_reason": reason}]});
        if reason.is_some() {
            chunk["usage"] = json!({"prompt_tokens": 20, "completion_tokens": 9,
                "total_tokens": 29, "prompt_tokens_details": {"cached_tokens": 4}});
        }
        out.data(&chunk);
        if reason.is_some() {
            out.raw("data: [DONE]\n\n");
        }
    }
}

impl Dialect for Chat {
    fn begin(&self, _: &mut Events) {}

    fn text(&self, out: &mut Events, part: &str) {
        Self::chunk(out, json!({"role": "assistant", "content": part}), None);
    }

    fn tool(&self, out: &mut Events, line: &str) {
        let arguments = json!({"command": line, "description": "Run it"}).to_string();
        let call = json!({"index": 0, "id": "call_1", "type": "function",
            "function": {"name": self.0, "arguments": arguments}});
        Self::chunk(out, json!({"role": "assistant", "tool_calls": [call]}), None);
        Self::chunk(out, json!({}), Some("tool_calls"));
    }

    fn end(&self, out: &mut Events, _: &str) {
        Self::chunk(out, json!({}), Some("stop"));
    }
}

struct Gemini;

impl Gemini {
    fn parts(out: &mut Events, parts: Value, reason: Option<&str>) {
        let mut candidate = json!({"content": {"role": "model", "parts": parts}, "index": 0});
        if let Some(reason) = reason {
            candidate["finishReason"] = json!(reason);
        }
        out.data(&json!({"candidates": [candidate], "modelVersion": "stub", "usageMetadata": {
            "promptTokenCount": 20, "candidatesTokenCount": 9, "totalTokenCount": 29,
            "cachedContentTokenCount": 4}}));
    }
}

impl Dialect for Gemini {
    fn begin(&self, _: &mut Events) {}

    fn text(&self, out: &mut Events, part: &str) {
        let last = (part == PARTS[3]).then_some("STOP");
        Self::parts(out, json!([{"text": part}]), last);
    }

    fn tool(&self, out: &mut Events, line: &str) {
        let call = json!({"name": "run_shell_command", "args": {"command": line}});
        Self::parts(out, json!([{"functionCall": call}]), Some("STOP"));
    }

    fn end(&self, _: &mut Events, _: &str) {}
}
