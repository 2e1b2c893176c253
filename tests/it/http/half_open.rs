//! A peer that has vanished without a word: R17.

use std::process::Command;
use std::time::{Duration, Instant};

use crate::support::{Daemon, Request, in_own_network, run, within};

/// Within what a peer that is gone has to be noticed.
const REAPED: Duration = Duration::from_secs(30);

/// A value of `/metrics`, asked on the Unix socket, which no firewall touches.
fn subscriptions(daemon: &Daemon) -> String {
    let request = Request::new("GET", "/metrics").host("localhost");
    let text = daemon.connect_unix().exchange(&request).text();
    let line = text.lines().find(|line| line.starts_with("fleetd_subscriptions "));
    line.and_then(|line| line.split(' ').nth(1)).expect("a count").to_owned()
}

#[test]
fn r17_a_half_open_peer_is_reaped_within_thirty_seconds() {
    in_own_network("http::half_open::r17_a_half_open_peer_is_reaped_within_thirty_seconds", || {
        let daemon = Daemon::start();
        let stream = daemon.events("");
        assert_eq!(subscriptions(&daemon), "1");
        // From here on no packet arrives, in either direction, and none is refused.
        let mut firewall = Command::new("iptables");
        firewall.args(["-A", "INPUT", "-i", "lo", "-p", "tcp", "-j", "DROP"]);
        run(firewall, b"", Duration::from_secs(10)).ok();
        let cut = Instant::now();
        within(REAPED, "the peer is reaped", || (subscriptions(&daemon) == "0").then_some(()));
        println!("half-open: reaped after {:?}", cut.elapsed());
        assert!(cut.elapsed() > Duration::from_secs(1), "void: the wire was not cut silently");
        // The peer is there and has heard nothing: it was no orderly end.
        drop(stream);
    });
}
