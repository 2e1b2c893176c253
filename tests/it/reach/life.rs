//! Connections that fall silent, are cut, and come back.

use std::time::{Duration, Instant};

use bytes::Bytes;
use fleetd::reach::{Cause, Keepalive, Phase, ReachError};

use super::rig::{LIMITS, Rig, offline, online, reaches, text};
use crate::support::{Sshd, eventually_async};

/// Of the rig's settings.
const BUDGET: Duration = Duration::from_millis(1500);

#[tokio::test]
async fn r32_a_frozen_peer_is_noticed_within_the_budget_while_others_go_on() {
    let (frozen, healthy) = (Rig::new(), Rig::new());
    let (link, other) = (frozen.link().await, healthy.link().await);
    let running = link.exec("sleep 60").await.unwrap();
    let waiting = {
        let link = link.clone();
        async move { link.ask("true", Bytes::new(), LIMITS).await }
    };
    frozen.sshd.freeze();
    let begun = Instant::now();
    let watch = async {
        let suspect = reaches(&link, "suspect", |state| state.phase == Phase::Suspect).await;
        assert!(suspect.is_up() && suspect.cause == Some(Cause::Lost), "{suspect:?}");
        let state = offline(&link).await;
        assert_eq!(state.cause, Some(Cause::Lost));
        begun.elapsed()
    };
    let others = async {
        let mut slowest = Duration::ZERO;
        while begun.elapsed() < BUDGET {
            let asked = Instant::now();
            assert_eq!(text(&other, "echo x").await, "x\n");
            slowest = slowest.max(asked.elapsed());
        }
        slowest
    };
    let (noticed, slowest, cut) = tokio::join!(watch, others, waiting);
    assert!(noticed < BUDGET + Duration::from_secs(2), "{noticed:?}");
    assert!(slowest < Duration::from_secs(1), "{slowest:?}");
    // What may have been sent is lost; what was running is never said to have ended.
    assert!(matches!(cut, Err(ReachError::Lost { .. } | ReachError::Offline { .. })), "{cut:?}");
    let error = running.end().await.unwrap_err();
    assert!(matches!(error, ReachError::Lost { .. }), "{error}");
    frozen.sshd.thaw();
    link.hurry();
    assert_eq!(online(&link).await.generation, 2);
    assert_eq!(text(&link, "echo back").await, "back\n");
}

#[tokio::test]
async fn r32_frozen_machines_do_not_keep_another_from_connecting() {
    let frozen: Vec<_> = (0..4).map(|_| Rig::new()).collect();
    let rig = Rig::with(Sshd::start(), |options| {
        options.connect_deadline = Duration::from_secs(3);
    });
    let mut links = Vec::new();
    for other in &frozen {
        other.sshd.freeze();
        // More than there are threads.
        for port_owner in 0..3 {
            let mut target = other.target();
            target.accept_new = port_owner == 0;
            target.jump = (port_owner == 1).then(|| "none".into());
            links.push(rig.reach.link(&target));
        }
    }
    let begun = Instant::now();
    rig.link().await;
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    for link in links {
        let state = offline(&link).await;
        assert!(state.reason.contains("did not answer"), "{state:?}");
    }
}

#[tokio::test]
async fn r26_a_killed_session_is_lost_and_made_again() {
    let rig = Rig::new();
    let link = rig.link().await;
    let running = link.exec("sleep 60; exit 255").await.unwrap();
    let begun = Instant::now();
    rig.sshd.kill_sessions();
    let error = running.end().await.unwrap_err();
    assert!(matches!(error, ReachError::Lost { .. }), "{error}");
    let state =
        reaches(&link, "made again", |state| state.generation == 2 && state.phase == Phase::Online)
            .await;
    assert!(state.reason.is_empty() && state.cause.is_none(), "{state:?}");
    // Seen at once, not by asking.
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    assert_eq!(text(&link, "echo back").await, "back\n");
}

#[tokio::test]
async fn an_idle_link_sees_the_end_of_its_wire_at_once() {
    let rig = Rig::with(Sshd::start(), |options| {
        options.keepalive =
            Keepalive { interval: Duration::from_secs(60), budget: Duration::from_secs(180) };
    });
    let link = rig.link().await;
    rig.sshd.kill_sessions();
    reaches(&link, "made again", |state| state.generation == 2).await;
}

#[tokio::test]
async fn a_server_that_restarts_is_reached_again_and_attempts_go_on_meanwhile() {
    let mut rig = Rig::new();
    let link = rig.link().await;
    rig.sshd.stop();
    let state = offline(&link).await;
    assert!(matches!(state.cause, Some(Cause::Lost | Cause::Unreachable)), "{state:?}");
    let refused = reaches(&link, "refused", |state| state.cause == Some(Cause::Unreachable)).await;
    assert!(refused.reason.contains("refused"), "{refused:?}");
    assert_eq!(refused.since, state.since, "offline since it went");
    rig.sshd.restart();
    let state = online(&link).await;
    assert_eq!(state.generation, 2);
    assert!(state.since > refused.since);
}

#[tokio::test]
async fn a_quiet_link_stays_up_and_a_quiet_command_is_left_alone() {
    let rig = Rig::with(Sshd::with("LogLevel DEBUG1"), |_| {});
    let link = rig.link().await;
    let states = link.state();
    let begun = Instant::now();
    // Twice the budget without a byte of its own.
    assert_eq!(text(&link, "sleep 3; echo done").await, "done\n");
    assert!(begun.elapsed() > BUDGET * 2 - Duration::from_millis(1));
    assert_eq!(states.borrow().generation, 1);
    assert!(rig.sshd.log().contains("probe@fleetd"), "void: it was never asked");
}

#[tokio::test]
async fn a_link_ends_with_its_last_share() {
    let rig = Rig::new();
    let link = rig.link().await;
    let copy = link.clone();
    drop(link);
    assert_eq!(text(&copy, "echo one").await, "one\n");
    drop(copy);
    eventually_async("the session ends", async || {
        let log = rig.sshd.log();
        log.contains("Received disconnect") || log.contains("Connection closed by")
    })
    .await;
    let again = rig.link().await;
    assert_eq!(again.state().borrow().generation, 1, "a link of its own");
    let mut states = again.state();
    rig.reach.close().await;
    let error = again.exec("true").await.unwrap_err();
    assert!(matches!(error, ReachError::Offline { .. } | ReachError::Lost { .. }), "{error}");
    assert!(rig.reach.try_connect(&rig.target()).await.is_err());
    assert!(states.borrow_and_update().generation == 1);
}
