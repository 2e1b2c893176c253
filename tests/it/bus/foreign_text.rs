//! No text can end a frame, forge one, or be changed on its way: R54.

use serde_json::{Value, json};

use crate::support::{Daemon, Random, custom_event, distinct_id};

/// Pieces that mean something to a parser of event streams, lines or JSON.
const PIECES: [&str; 20] = [
    "\r",
    "\n",
    "\r\n",
    "\n\n",
    "\r\r",
    "\0",
    "\u{2028}",
    "\u{2029}",
    "\u{85}",
    "\u{feff}",
    "id: 1",
    "data: {}",
    "event: gap",
    ": ",
    "retry: 0",
    "\"",
    "\\",
    "\u{1b}[31m",
    "}",
    "\u{10ffff}",
];

fn nasty(random: &mut Random) -> String {
    (0..random.below(12)).map(|_| *random.pick(&PIECES)).collect()
}

#[test]
fn r54_any_text_comes_out_as_exactly_one_event_with_equal_data() {
    let daemon = Daemon::start();
    let mut live = daemon.events("types=custom.*");
    let mut random = Random::fresh("r54");
    let mut sent = Vec::new();
    for _ in 0..300 {
        let id = distinct_id("nasty");
        let data = json!({ nasty(&mut random): nasty(&mut random), "list": [nasty(&mut random)] });
        let event = custom_event("custom.nasty", &id, data);
        let answer = daemon.post_event(&event);
        assert_eq!(answer.status, 200, "{event}: {}", answer.text());
        sent.push(event);
    }
    let mut replay = daemon.events("types=custom.*&since=0&signals=0");
    for event in &sent {
        let out = live.next();
        assert_eq!(out.name, "custom.nasty");
        assert_eq!(out.json()["id"], event["id"]);
        assert_eq!(out.json()["data"], event["data"]);
        assert_eq!(replay.next(), out, "replay and live differ");
    }
    let quiet = std::time::Duration::from_millis(200);
    assert_eq!(live.next_within(quiet), None, "an extra event was forged");
}

#[test]
fn r54_attributes_cannot_carry_a_frame_either() {
    let daemon = Daemon::start();
    let mut random = Random::fresh("r54 attributes");
    let mut taken: Vec<Value> = Vec::new();
    for _ in 0..300 {
        let mut event = custom_event("custom.nasty", &distinct_id("nasty"), json!({}));
        let attribute = *random.pick(&["id", "subject", "source", "extension"]);
        event[attribute] = format!("{}{}", nasty(&mut random), distinct_id("x")).into();
        let answer = daemon.post_event(&event);
        match answer.status {
            200 => taken.push(event),
            400 => assert_eq!(answer.error_code(), "invalid_argument"),
            other => panic!("{other} for {event}"),
        }
    }
    let mut replay = daemon.events("types=custom.*&since=0&signals=0");
    for event in &taken {
        let out = replay.next().json();
        assert_eq!(
            (&out["id"], &out["subject"]),
            (&event["id"], event.get("subject").unwrap_or(&out["subject"]))
        );
    }
    assert_eq!(replay.next_within(std::time::Duration::from_millis(200)), None);
}
