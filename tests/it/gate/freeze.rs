//! R42: a daemon that is stopped for a while and goes on.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::json;

use super::size;
use crate::support::{Daemon, Stream, custom_event, distinct_id};

/// A laptop's lid, as far as signals can play it.
#[test]
fn r42_a_stopped_daemon_goes_on_where_it_was() {
    let pause = Duration::from_secs(size(300, 20) as u64);
    let daemon = Daemon::start();
    let mut streams: Vec<_> = (0..20).map(|_| daemon.events("signals=0")).collect();
    let ends = json!({ "command": "sleep 3; echo done", "async": true, "timeout_s": 600 });
    let task = daemon.tool("execute_command", ends)["stream_id"].clone();
    let ids: Vec<_> = (0..150).map(|_| distinct_id("freeze")).collect();
    let (before, during) = ids.split_at(100);
    before.iter().for_each(|id| daemon.publish("custom.freeze", id, json!({})));
    for stream in &mut streams {
        stream.next_named("task.started");
        for id in before {
            assert_eq!(stream.next_named("custom.freeze").json()["id"], id.as_str());
        }
    }

    daemon.signal(Signal::SIGSTOP);
    let stopped = Instant::now();
    // Asked meanwhile: the kernel keeps them until somebody looks. Fewer than the
    // strangers that are let wait, since nobody reads their tokens yet.
    let mut waiting: Vec<_> = during
        .iter()
        .map(|id| {
            let mut conn = daemon.connect();
            let event = custom_event("custom.freeze", id, json!({})).to_string();
            let request = daemon.request("POST", "/events");
            let request = request.body("application/cloudevents+json", event.as_bytes());
            conn.write(&request.bytes()).expect("the kernel takes it");
            conn
        })
        .collect();
    let left = pause.saturating_sub(stopped.elapsed());
    assert_eq!(streams[0].next_within(left), None, "a stopped daemon speaks");
    daemon.signal(Signal::SIGCONT);

    for (id, conn) in during.iter().zip(&mut waiting) {
        let answer = conn.read_answer("POST").unwrap_or_else(|error| panic!("{id}: {error}"));
        assert_eq!(answer.status, 200, "{id}: {answer:?}");
    }
    println!("stopped for {:?}, then everything went on", stopped.elapsed());
    let subject = format!("task/{}", task.as_str().expect("an id"));
    let orders: Vec<_> =
        streams.iter_mut().map(|stream| rest(stream, during.len(), &subject)).collect();
    assert!(orders[0].is_sorted_by_key(|(seq, _)| *seq), "out of order: {:?}", orders[0]);
    assert!(orders.iter().all(|order| *order == orders[0]), "readers saw different orders");
    let mut seen: Vec<_> = orders[0].iter().map(|(_, id)| id.as_str()).collect();
    seen.sort_unstable();
    let mut wanted: Vec<_> = during.iter().map(String::as_str).collect();
    wanted.sort_unstable();
    assert_eq!(seen, wanted);
}

/// Position and id of the next `count` events, read on until the task has ended.
fn rest(stream: &mut Stream, count: usize, subject: &str) -> Vec<(u64, String)> {
    let (mut seen, mut ended) = (Vec::new(), false);
    while seen.len() < count || !ended {
        let event = stream.next();
        match event.name.as_str() {
            "custom.freeze" => {
                seen.push((event.seq(), event.json()["id"].as_str().expect("text").to_owned()));
            }
            "task.completed" => {
                assert_eq!(event.json()["subject"], subject);
                ended = true;
            }
            "gap" | "task.failed" | "task.unknown" | "member.offline" => panic!("{event:?}"),
            _ => {}
        }
    }
    seen
}
