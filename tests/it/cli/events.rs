//! `fleetctl events`.

use serde_json::{Value, json};

use crate::support::{Daemon, Program};

/// The CloudEvents of `--json`, one per line; a line that is still being
/// written is none.
fn events(text: &str) -> Vec<Value> {
    let whole = &text[..text.rfind('\n').map_or(0, |at| at + 1)];
    whole.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn ids(text: &str) -> Vec<String> {
    events(text).iter().map(|event| event["id"].as_str().unwrap().to_owned()).collect()
}

fn publish(daemon: &Daemon, from: usize, to: usize) -> Vec<String> {
    let names: Vec<_> = (from..to).map(|n| format!("id-{n}")).collect();
    names.iter().for_each(|id| daemon.publish("custom.count", id, json!({})));
    names
}

#[test]
fn what_is_held_is_listed_one_cloud_event_per_line() {
    let daemon = Daemon::start();
    let published = publish(&daemon, 0, 1200);
    let all = daemon.fleetctl(&["events", "--since", "0", "--json"]).ok();
    let all = events(&all.stdout);
    assert_eq!(all[0]["type"], "fleet.started");
    assert_eq!(all[0]["specversion"], "1.0");
    let sequences: Vec<u64> =
        all.iter().map(|event| event["sequence"].as_str().unwrap().parse().unwrap()).collect();
    assert!(sequences.windows(2).all(|pair| pair[1] == pair[0] + 1), "{sequences:?}");
    let only = ["events", "--since", "0", "--json", "--types", "custom.>"];
    assert_eq!(ids(&daemon.fleetctl(&only).ok().stdout), published);
    let newest = daemon.fleetctl(&["events", "--json"]).ok();
    assert_eq!(ids(&newest.stdout), published[1150..]);
    let people = daemon.fleetctl(&["events"]).ok();
    assert_eq!(people.stdout.lines().count(), 50);
    assert!(people.stdout.contains("custom.count"));
    let topics = daemon.fleetctl(&["events", "topics", "--json"]).ok();
    let topics: Value = serde_json::from_str(&topics.stdout).unwrap();
    assert!(topics.as_array().unwrap().iter().any(|topic| topic["name"] == "task.completed"));
}

#[test]
fn a_cursor_that_cannot_be_is_a_usage_error() {
    let daemon = Daemon::start();
    for (cursor, said) in [("17", "cursor"), ("zz:1", "cursor"), ("", "cursor")] {
        let ran = daemon.fleetctl(&["events", "--since", cursor]);
        assert_eq!(ran.code(), 2, "{ran:?}");
        assert!(ran.stderr.to_lowercase().contains(said), "{ran:?}");
    }
    let newest = daemon.fleetctl(&["status", "--json"]).ok();
    let status: Value = serde_json::from_str(&newest.stdout).unwrap();
    let epoch = status["cursor"].as_str().unwrap().split(':').next().unwrap().to_owned();
    let future = format!("{epoch}:999999");
    for args in [&["events", "--since", &future][..], &["events", "--follow", "--since", &future]] {
        let ran = daemon.fleetctl(args);
        assert_eq!((ran.code(), &*ran.stdout), (2, ""), "{ran:?}");
    }
}

#[test]
fn following_goes_through_kill_9_without_loss_or_repetition() {
    let mut daemon = Daemon::start();
    let args = ["events", "--follow", "--json", "--types", "custom.>", "--since", "0"];
    let follower = Program::start(daemon.home().fleetctl_command(&args));
    let mut published = Vec::new();
    for round in 0..3 {
        published.extend(publish(&daemon, round * 100, (round + 1) * 100));
        // Without waiting for the follower: some of it is on its way.
        daemon = daemon.restart_after_kill9();
    }
    published.extend(publish(&daemon, 300, 301));
    follower.until("the last event", |said| said.contains("\"id-300\"").then_some(()));
    assert_eq!(ids(&follower.stdout()), published);
}

#[test]
fn waiting_ends_with_the_first_that_fits_or_with_1() {
    let daemon = Daemon::start();
    let args = ["events", "--wait", "--json", "--types", "custom.wanted", "--since", "0"];
    let waiter = Program::start(daemon.home().fleetctl_command(&args));
    daemon.publish("custom.other", "no", json!({}));
    daemon.publish("custom.wanted", "yes", json!({}));
    let (code, stdout, _) = waiter.end();
    assert_eq!((code, ids(&stdout)), (0, vec!["yes".to_owned()]));
    let none = ["events", "--wait", "--types", "custom.never", "--timeout", "1"];
    let ran = daemon.fleetctl(&none);
    assert_eq!((ran.code(), &*ran.stdout), (1, ""), "{ran:?}");
    assert!(ran.took.as_millis() >= 1000 && ran.took.as_secs() < 5, "{:?}", ran.took);
}

#[test]
fn a_named_place_goes_on_where_it_was() {
    let daemon = Daemon::start();
    let first = publish(&daemon, 0, 3);
    let args = ["events", "--json", "--types", "custom.>", "--as", "me"];
    let from_start = [&args[..], &["--since", "0"]].concat();
    assert_eq!(ids(&daemon.fleetctl(&from_start).ok().stdout), first);
    assert_eq!(daemon.fleetctl(&args).ok().stdout, "");
    let second = publish(&daemon, 3, 5);
    let daemon = daemon.restart_after_kill9();
    assert_eq!(ids(&daemon.fleetctl(&args).ok().stdout), second);
    let third = publish(&daemon, 5, 6);
    let wait = [&args[..], &["--wait", "--timeout", "10"]].concat();
    assert_eq!(ids(&daemon.fleetctl(&wait).ok().stdout), third);
    let follower =
        Program::start(daemon.home().fleetctl_command(&[&args[..], &["--follow"]].concat()));
    publish(&daemon, 6, 7);
    follower.says("\"id-6\"");
    follower.signal(nix::sys::signal::Signal::SIGTERM);
    let (code, stdout, _) = follower.end();
    assert_eq!((code, ids(&stdout)), (143, vec!["id-6".to_owned()]));
    assert_eq!(daemon.fleetctl(&args).ok().stdout, "");
}

#[test]
fn a_named_place_is_told_a_new_epoch_once() {
    let daemon = Daemon::start();
    publish(&daemon, 0, 2);
    let args = ["events", "--json", "--types", "custom.>", "--as", "me"];
    assert_eq!(daemon.fleetctl(&args).ok().stdout, "", "a new name begins now");
    let second = publish(&daemon, 2, 4);
    let home = daemon.kill9();
    std::fs::remove_file(home.state().join("journal.mark")).unwrap();
    let daemon = Daemon::start_in(home);
    let told = daemon.fleetctl(&args).ok();
    assert!(told.stderr.contains("gap"), "{told:?}");
    assert_eq!(ids(&told.stdout), second, "{told:?}");
    let third = publish(&daemon, 4, 5);
    let told = daemon.fleetctl(&args).ok();
    assert_eq!((ids(&told.stdout), told.stderr.contains("gap")), (third, false), "{told:?}");
}
