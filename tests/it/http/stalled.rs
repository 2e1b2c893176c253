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

    /// `count` events in one request.
    fn publish_batch(&mut self, topic: &str, text: &str, count: usize) {
        let event = || custom_event(topic, &distinct_id("stalled"), json!(text));
        let batch: serde_json::Value = std::iter::repeat_with(event).take(count).collect();
        let request = self.daemon.request("POST", "/events");
        let body = batch.to_string();
        let request = request.body("application/cloudevents-batch+json", body.as_bytes());
        let answer = self.conn.exchange(&request);
        assert_eq!(answer.status, 200, "{answer:?}");
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

/// One comparison: the percentile without, and with as many stalled readers.
fn alone_and_beside(daemon: &Daemon, healthy: &mut [Stream]) -> (Duration, Duration) {
    let alone = p99_of_ticks(daemon, healthy, 200);
    let stalled: Vec<_> =
        healthy.iter().map(|_| stalled(daemon, "types=custom.bulk,custom.tick")).collect();
    let text = "x".repeat(200 * 1024);
    (0..5).for_each(|_| Publisher::new(daemon).publish_batch("custom.bulk", &text, 12));
    let beside = p99_of_ticks(daemon, healthy, 200);
    println!("healthy p99: {alone:?} alone, {beside:?} beside {} stalled", stalled.len());
    // The comparison is void if they had been cut or had swallowed it all.
    let all = (healthy.len() + stalled.len()) as f64;
    let void = daemon.metric("fleetd_subscriptions") < all;
    drop(stalled);
    let left = healthy.len() as f64;
    eventually("the stalled are gone", || daemon.metric("fleetd_subscriptions") <= left);
    (alone, if void { Duration::MAX } else { beside })
}

#[test]
fn r14_half_the_readers_stalled_leave_the_others_as_quick_as_before() {
    /// Below this the machine's own noise is all that is measured.
    const NOISE: Duration = Duration::from_millis(60);
    /// Other work on the machine spoils one comparison, a defect spoils all.
    const ROUNDS: usize = 5;
    let daemon = Daemon::start();
    let mut healthy: Vec<_> = (0..20).map(|_| daemon.events("types=custom.tick")).collect();
    let found: Vec<_> = std::iter::repeat_with(|| alone_and_beside(&daemon, &mut healthy))
        .take(ROUNDS)
        .map(|(alone, beside)| beside <= (alone * 2).max(NOISE))
        .take_while(|holds| !holds)
        .collect();
    assert!(found.len() < ROUNDS, "in none of {ROUNDS} rounds were they as quick as before");
}

#[test]
fn r15_fifty_stalled_readers_of_large_events_cost_little_memory_and_give_it_back() {
    let daemon = Daemon::start();
    daemon.publish("custom.warm", "warm", json!(1));
    let base = rss_kib(daemon.pid());
    let readers: Vec<_> = (0..50).map(|_| stalled(&daemon, "types=custom.large")).collect();
    let text = "x".repeat(64 * 1024);
    let mut publisher = Publisher::new(&daemon);
    let (mut peak, mut stalled_at_peak) = (base, 0.0_f64);
    // Some at a time, so that all are there before the first reader is cut.
    for _ in 0..400 / 8 {
        publisher.publish_batch("custom.large", &text, 8);
        peak = peak.max(rss_kib(daemon.pid()));
        stalled_at_peak = daemon.metric("fleetd_subscriptions");
    }
    assert!(stalled_at_peak >= 50.0, "void: only {stalled_at_peak} readers were left");
    drop(readers);
    let left = Instant::now();
    let after = || rss_kib(daemon.pid()).saturating_sub(base);
    println!("50 stalled × 400 × 64 KiB: base {base} KiB, {} KiB more at most", peak - base);
    assert!(peak - base <= 80 * MIB, "grew by {} KiB", peak - base);
    within(Duration::from_secs(10), "memory is back", || (after() <= 30 * MIB).then_some(()));
    println!("{} KiB above base {:?} after they left", after(), left.elapsed());
}
