//! Readers that take nothing: they lose nothing and cost others nothing. R14, R15, R16.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::{
    Conn, Daemon, Stream, custom_event, distinct_id, eventually, rss_kib, within,
};

const MIB: u64 = 1024;

/// Opens a stream whose reader will not read on.
fn stalled(daemon: &Daemon, query: &str) -> Stream {
    let request = daemon.request("GET", &format!("/events?{query}"));
    Stream::open(Conn::narrow(daemon.port()), &request)
}

/// Publishes on one connection, as a client in a hurry does.
struct Publisher<'a> {
    daemon: &'a Daemon,
    conn: Conn,
}

impl<'a> Publisher<'a> {
    fn new(daemon: &'a Daemon) -> Self {
        Self { daemon, conn: daemon.connect() }
    }

    fn publish(&mut self, topic: &str, data: serde_json::Value) -> String {
        let id = distinct_id("stalled");
        let body = custom_event(topic, &id, data).to_string();
        let request = self.daemon.request("POST", "/events");
        let request = request.body("application/cloudevents+json", body.as_bytes());
        let answer = self.conn.exchange(&request);
        assert_eq!(answer.status, 200, "{answer:?}");
        id
    }
}

#[test]
fn r16_a_reader_that_takes_nothing_is_cut_with_a_reason_and_resumes() {
    let daemon = Daemon::start();
    let _stalled = stalled(&daemon, "since=0");
    let begun = Instant::now();
    // More than the kernel's buffers on both sides can hold.
    let mut publisher = Publisher::new(&daemon);
    let text = "x".repeat(200 * 1024);
    let ids: Vec<_> = (0..40).map(|_| publisher.publish("custom.load", json!(text))).collect();
    within(Duration::from_secs(30), "the cut", || {
        (daemon.metric("fleetd_http_readers_cut_total") >= 1.0).then_some(())
    });
    println!("stalled: cut after {:?}", begun.elapsed());
    eventually("its end", || daemon.metric("fleetd_subscriptions") < 1.0);
    eventually("the reason in the log", || daemon.home().logs().contains("reason=\"stalled\""));
    // Nothing was lost: whoever comes back is given all of it.
    let mut again = daemon.events("since=0&types=custom.load");
    let seen: Vec<_> = again.take(40).iter().map(|event| event.json()["id"].clone()).collect();
    assert_eq!(seen, ids);
}

/// Publishes `count` ticks and returns the 99th percentile of the time from
/// before the publish to its arrival, over all `readers`.
fn p99_of_ticks(daemon: &Daemon, readers: &mut [Stream], count: usize) -> Duration {
    let base = Instant::now();
    let mut lags: Vec<Duration> = std::thread::scope(|scope| {
        let handles: Vec<_> = readers
            .iter_mut()
            .map(|reader| {
                scope.spawn(move || {
                    let arrived = |_| {
                        let event = reader.next().json();
                        let sent = event["data"]["at"].as_u64().expect("micros");
                        base.elapsed().saturating_sub(Duration::from_micros(sent))
                    };
                    (0..count).map(arrived).collect::<Vec<_>>()
                })
            })
            .collect();
        let mut publisher = Publisher::new(daemon);
        for _ in 0..count {
            let at = u64::try_from(base.elapsed().as_micros()).expect("fits");
            publisher.publish("custom.tick", json!({ "at": at, "pad": "x".repeat(1000) }));
        }
        handles.into_iter().flat_map(|handle| handle.join().expect("a reader")).collect()
    });
    lags.sort();
    lags[lags.len() * 99 / 100]
}

#[test]
fn r14_half_the_readers_stalled_leave_the_others_as_quick_as_before() {
    /// Below this the machine's own noise is all that is measured.
    const NOISE: Duration = Duration::from_millis(60);
    let daemon = Daemon::start();
    let mut healthy: Vec<_> = (0..20).map(|_| daemon.events("types=custom.tick")).collect();
    let alone = p99_of_ticks(&daemon, &mut healthy, 300);

    let _stalled: Vec<_> = (0..20).map(|_| stalled(&daemon, "types=custom.*")).collect();
    let mut publisher = Publisher::new(&daemon);
    let text = "x".repeat(200 * 1024);
    (0..60).for_each(|_| drop(publisher.publish("custom.bulk", json!(text))));
    let beside = p99_of_ticks(&daemon, &mut healthy, 300);
    println!("healthy p99: {alone:?} alone, {beside:?} beside 20 stalled");
    assert!(beside <= (alone * 2).max(NOISE), "{alone:?} became {beside:?}");
    // The test is void if they had been cut or had swallowed it all.
    assert!(daemon.metric("fleetd_subscriptions") >= 40.0, "the stalled were gone too soon");
}

#[test]
fn r15_fifty_stalled_readers_of_large_events_cost_little_memory_and_give_it_back() {
    let daemon = Daemon::start();
    let mut publisher = Publisher::new(&daemon);
    publisher.publish("custom.warm", json!(1));
    let base = rss_kib(daemon.pid());
    let readers: Vec<_> = (0..50).map(|_| stalled(&daemon, "types=custom.large")).collect();
    let text = "x".repeat(64 * 1024);
    let mut peak = base;
    for _ in 0..400 {
        publisher.publish("custom.large", json!(text));
        peak = peak.max(rss_kib(daemon.pid()));
    }
    assert!(daemon.metric("fleetd_subscriptions") >= 50.0, "the stalled were gone too soon");
    drop(readers);
    let left = Instant::now();
    let after = || rss_kib(daemon.pid()).saturating_sub(base);
    println!("50 stalled × 400 × 64 KiB: base {base} KiB, {} KiB more at most", peak - base);
    assert!(peak - base <= 80 * MIB, "grew by {} KiB", peak - base);
    within(Duration::from_secs(10), "memory is back", || (after() <= 30 * MIB).then_some(()));
    println!("{} KiB above base {:?} after they left", after(), left.elapsed());
}
