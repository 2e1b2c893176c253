//! Resuming: bookmarks, gaps, the future, named cursors. R05, R07, R08.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::{Daemon, PATIENCE, distinct_id, within};

const ALL: &str = "types=custom.*&signals=0";

#[test]
fn a_stream_says_something_at_once_and_resumes_behind_what_was_seen() {
    let daemon = Daemon::start();
    let mut first = daemon.events(ALL);
    within(PATIENCE, "a comment at once", || {
        first.next_within(Duration::from_millis(10));
        first.seen().starts_with(':').then_some(())
    });
    for n in 0..10 {
        daemon.publish("custom.n", &distinct_id("n"), json!(n));
    }
    let seen = first.take(4);
    drop(first);
    let rest = daemon.events_after(ALL, &seen[3].id).take(6);
    let numbers: Vec<u64> =
        seen.iter().chain(&rest).map(|event| event.json()["data"].as_u64().expect("n")).collect();
    assert_eq!(numbers, (0..10).collect::<Vec<_>>());
    // Last-Event-ID wins over the address the reader began with.
    let mut both = daemon.events_after(&format!("{ALL}&since=0"), &seen[3].id);
    assert_eq!(both.next(), rest[0]);
}

#[test]
fn a_bookmark_moves_the_cursor_of_a_narrow_reader() {
    let daemon = Daemon::start();
    let stream = daemon.events("types=custom.never&signals=0");
    daemon.publish("custom.other", "other", json!({}));
    let head = daemon.events(&format!("{ALL}&since=0")).next().id;
    let mut stream = stream;
    // Every 15 seconds.
    let begun = Instant::now();
    while !stream.seen().contains(&format!("id: {head}\n")) {
        assert_eq!(stream.next_within(Duration::from_millis(50)), None);
        assert!(begun.elapsed() < Duration::from_secs(20), "no {head} in {stream:?}");
    }
}

#[test]
fn r07_a_cursor_from_the_future_is_refused_and_nonsense_too() {
    let daemon = Daemon::start();
    daemon.publish("custom.x", "x", json!({}));
    let head = daemon.events("since=0&types=custom.*").next();
    let (epoch, _) = head.id.split_once(':').expect("a cursor");
    let future = format!("/events?since={epoch}:{}", head.seq() + 1000);
    let answer = daemon.get(&future);
    assert_eq!((answer.status, answer.error_code().as_str()), (400, "cursor_in_future"));
    for wrong in ["1", "x:1", "00000000:", "00000000:-1", "00000000:99999999999999999999"] {
        let answer = daemon.get(&format!("/events?since={wrong}"));
        assert_eq!((answer.status, answer.error_code().as_str()), (400, "invalid_argument"));
    }
}

#[test]
fn r07_a_cursor_older_than_retention_gets_one_gap_with_both_bounds() {
    let daemon = Daemon::configured("[journal]\nmax_events = 1000\n");
    let batch = |from: u64| {
        let events: Vec<_> = (from..from + 500)
            .map(|n| crate::support::custom_event("custom.n", &format!("n-{n}"), json!(n)))
            .collect();
        let body = serde_json::Value::from(events).to_string();
        let request = daemon.request("POST", "/events");
        let answer =
            daemon.send(&request.body("application/cloudevents-batch+json", body.as_bytes()));
        assert_eq!(answer.status, 200, "{answer:?}");
    };
    (0..10).for_each(|n| batch(n * 500));
    let last = daemon.events_after("types=custom.*", &first_cursor(&daemon));
    let mut stream = last;
    let gap = stream.next();
    assert_eq!(gap.name, "gap", "{gap:?}");
    let bounds = gap.json();
    assert_eq!(bounds["from"], first_cursor(&daemon).as_str(), "{bounds}");
    assert_eq!(bounds["to"], gap.id.as_str(), "{bounds}");
    assert_eq!(bounds["reason"], "retention", "{bounds}");
    let next = stream.next();
    assert_eq!(next.seq(), gap.seq() + 1, "goes on with the oldest that is held");
    let rest = stream.take_until_quiet(Duration::from_millis(500));
    assert!(rest.iter().all(|event| event.name != "gap"), "one gap only");
    assert_eq!(rest.last().expect("the newest").json()["data"], 4999);
}

/// The position of the first event of this journal.
fn first_cursor(daemon: &Daemon) -> String {
    let head = daemon.tool("fleet_status", json!({}))["cursor"].clone();
    let (epoch, _) = head.as_str().expect("a cursor").split_once(':').expect("a cursor");
    format!("{epoch}:1")
}

#[test]
fn r05_another_epoch_is_a_gap_that_says_so() {
    let daemon = Daemon::start();
    daemon.publish("custom.x", "x", json!({}));
    let mut stream = daemon.events("types=custom.*&since=deadbeef:5");
    let gap = stream.next();
    assert_eq!((gap.name.as_str(), &gap.json()["reason"]), ("gap", &json!("epoch")), "{gap:?}");
    assert_eq!(stream.next().json()["id"], "x");
}

#[test]
fn a_named_reader_goes_on_behind_what_it_confirmed() {
    let daemon = Daemon::start();
    for n in 0..6 {
        daemon.publish("custom.n", &distinct_id("n"), json!(n));
    }
    let named = format!("{ALL}&as=reader");
    let all = daemon.events(&format!("{named}&since=0")).take(6);
    // What was sent may have been cut on its way: without a word it comes again.
    let daemon = daemon.restart_after_kill9();
    assert_eq!(daemon.events(&named).take(6), all);
    assert_eq!(daemon.events_after(&named, &all[2].id).take(3), all[3..]);
    assert_eq!(daemon.events(&named).take(3), all[3..], "only what was confirmed is kept");
}

#[test]
fn a_named_reader_that_never_read_on_loses_nothing() {
    let daemon = Daemon::start();
    daemon.publish("custom.n", "first", json!(0));
    let named = format!("{ALL}&as=stalled");
    let mut stalled = daemon.events(&format!("{named}&since=0"));
    assert_eq!(stalled.next().json()["id"], "first");
    for n in 0..500 {
        daemon.publish("custom.n", &distinct_id("n"), json!({ "n": n, "text": "x".repeat(2000) }));
    }
    // It is gone with most of them in the kernel's buffers.
    drop(stalled);
    let again = daemon.events(&named).take(501);
    assert_eq!(again[500].json()["data"]["n"], 499);
}
