//! Counters of this edge, and everybody's figures as Prometheus text
//! (exposition format 0.0.4).

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A number that only rises.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    pub fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Upper bounds of the latency buckets, in microseconds.
const BOUNDS: [u64; 10] =
    [500, 1_000, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 1_000_000, 10_000_000];

/// How long requests took until their answer began.
#[derive(Debug, Default)]
pub struct Histogram {
    /// Not cumulative; the last one is beyond all bounds.
    buckets: [Counter; BOUNDS.len() + 1],
    micros: AtomicU64,
}

impl Histogram {
    pub fn observe(&self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.buckets[BOUNDS.partition_point(|bound| *bound < micros)].add();
        self.micros.fetch_add(micros, Ordering::Relaxed);
    }

    fn write(&self, out: &mut String, name: &str) {
        let mut count = 0;
        for (bucket, bound) in self.buckets.iter().zip(BOUNDS) {
            count += bucket.get();
            let _ = writeln!(out, "{name}_bucket{{le=\"{}\"}} {count}", seconds(bound));
        }
        count += self.buckets[BOUNDS.len()].get();
        let _ = writeln!(out, "{name}_bucket{{le=\"+Inf\"}} {count}");
        let _ = writeln!(out, "{name}_sum {}", seconds(self.micros.load(Ordering::Relaxed)));
        let _ = writeln!(out, "{name}_count {count}");
    }
}

#[expect(clippy::cast_precision_loss, reason = "a figure for people and graphs")]
fn seconds(micros: u64) -> f64 {
    micros as f64 / 1e6
}

/// What this edge counts.
#[derive(Debug, Default)]
pub struct Metrics {
    /// Readers that took nothing for too long.
    pub cut_readers: Counter,
    /// Requests that were not well framed.
    pub refused_requests: Counter,
    /// Connections closed because a cap was reached.
    pub capped_connections: Counter,
    /// Connections without a token that gave way to newer ones.
    pub evicted_connections: Counter,
    /// Times that no file descriptor was left for a connection.
    pub starved_accepts: Counter,
    /// Requests without a valid token.
    pub unauthorized: Counter,
    /// Requests refused for where they came from.
    pub forbidden: Counter,
    /// Handlers that panicked.
    pub panics: Counter,
    pub latency: Histogram,
}

/// Figures of the other components at one moment.
#[derive(Clone, Copy, Debug, Default)]
pub struct Gauges {
    pub journal_head: u64,
    pub journal_oldest: u64,
    pub journal_bytes: u64,
    pub journal_degraded: bool,
    pub journal_full: bool,
    pub subscriptions: usize,
    pub ring_bytes: usize,
    pub ring_events: usize,
    pub published: u64,
    pub connections: usize,
    pub unauthenticated: usize,
    pub open_tasks: usize,
    pub dropped_log_lines: u64,
}

impl Metrics {
    /// Everything, as text.
    pub fn render(&self, gauges: &Gauges) -> String {
        let mut out = String::with_capacity(4096);
        write_gauges(&mut out, gauges);
        let counters = [
            (
                "fleetd_events_published_total",
                "Events published since the start.",
                gauges.published,
            ),
            (
                "fleetd_log_lines_dropped_total",
                "Log lines dropped because the disk was slower.",
                gauges.dropped_log_lines,
            ),
            (
                "fleetd_http_readers_cut_total",
                "Stalled readers that were cut.",
                self.cut_readers.get(),
            ),
            (
                "fleetd_http_malformed_total",
                "Requests that were not well framed.",
                self.refused_requests.get(),
            ),
            (
                "fleetd_http_capped_total",
                "Connections closed because a cap was reached.",
                self.capped_connections.get(),
            ),
            (
                "fleetd_http_evicted_total",
                "Connections without a token that gave way.",
                self.evicted_connections.get(),
            ),
            (
                "fleetd_http_starved_total",
                "Accepts that found no file descriptor.",
                self.starved_accepts.get(),
            ),
            (
                "fleetd_http_unauthorized_total",
                "Requests without a valid token.",
                self.unauthorized.get(),
            ),
            (
                "fleetd_http_forbidden_total",
                "Requests refused for their Host or Origin.",
                self.forbidden.get(),
            ),
            ("fleetd_http_panics_total", "Handlers that panicked.", self.panics.get()),
        ];
        for (name, help, value) in counters {
            entry(&mut out, name, help, "counter", value);
        }
        let name = "fleetd_http_request_seconds";
        let _ = writeln!(out, "# HELP {name} Time until an answer began.\n# TYPE {name} histogram");
        self.latency.write(&mut out, name);
        out
    }
}

fn write_gauges(out: &mut String, gauges: &Gauges) {
    let rows = (gauges.journal_head + 1).saturating_sub(gauges.journal_oldest);
    let entries = [
        ("fleetd_journal_head", "Newest position of the journal.", gauges.journal_head),
        ("fleetd_journal_events", "Events that are held.", rows),
        ("fleetd_journal_bytes", "Bytes of encoded events that are held.", gauges.journal_bytes),
        (
            "fleetd_journal_degraded",
            "1 while the journal cannot be written.",
            u64::from(gauges.journal_degraded),
        ),
        (
            "fleetd_journal_full",
            "1 while the disk is full and new events are refused.",
            u64::from(gauges.journal_full),
        ),
        ("fleetd_subscriptions", "Open subscriptions.", gauges.subscriptions as u64),
        ("fleetd_ring_bytes", "Bytes of recent events in memory.", gauges.ring_bytes as u64),
        ("fleetd_ring_events", "Recent events in memory.", gauges.ring_events as u64),
        ("fleetd_tasks_open", "Tasks that run or wait.", gauges.open_tasks as u64),
    ];
    for (name, help, value) in entries {
        entry(out, name, help, "gauge", value);
    }
    let name = "fleetd_http_connections";
    let _ = writeln!(out, "# HELP {name} Open connections.\n# TYPE {name} gauge");
    let known = gauges.connections.saturating_sub(gauges.unauthenticated);
    let _ = writeln!(out, "{name}{{state=\"authenticated\"}} {known}");
    let _ = writeln!(out, "{name}{{state=\"unauthenticated\"}} {}", gauges.unauthenticated);
}

fn entry(out: &mut String, name: &str, help: &str, kind: &str, value: u64) {
    // Writing to a String cannot fail.
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_a_comment_or_a_name_and_a_number() {
        let metrics = Metrics::default();
        metrics.latency.observe(Duration::from_millis(3));
        metrics.latency.observe(Duration::from_secs(60));
        let gauges = Gauges { journal_head: 7, journal_oldest: 3, ..Gauges::default() };
        let text = metrics.render(&gauges);
        for line in text.lines().filter(|line| !line.starts_with("# ")) {
            let (name, value) = line.rsplit_once(' ').unwrap();
            assert!(name.starts_with("fleetd_"), "{line}");
            assert!(value.parse::<f64>().is_ok(), "{line}");
        }
        assert!(text.contains("fleetd_journal_events 5\n"));
        assert!(text.contains("fleetd_http_request_seconds_bucket{le=\"0.005\"} 1\n"));
        assert!(text.contains("fleetd_http_request_seconds_bucket{le=\"+Inf\"} 2\n"));
    }
}
