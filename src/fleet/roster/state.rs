//! What the keepalive's word changes in a member's row: pure functions on the
//! current row, run inside the transaction.

use super::events;
use crate::model::{EventError, Member, NewEvent, Reachable, Timestamp};
use crate::reach::Cause;

/// The next row, and what to tell. `None`: nothing that is not known.
pub type Flip = Result<Option<(Member, Vec<NewEvent>)>, EventError>;

/// Longest reason that a row holds; the peer may have written it.
const MOST_REASON: usize = 300;

/// It is reached. `boot` is what the machine said of its boot, if it was asked.
///
/// # Errors
/// If an event cannot be made.
pub fn online(row: &Member, since: Timestamp, boot: Option<&str>) -> Flip {
    let mut next = row.clone();
    let mut events = Vec::new();
    if !row.reachable.online {
        next.reachable = Reachable { online: true, since, reason: None, offered: None };
        events.push(events::online(row, &next)?);
    }
    if let Some(boot) = boot
        && row.facts.boot.as_deref() != Some(boot)
    {
        next.facts.boot = Some(boot.to_owned());
        if row.facts.boot.is_some() {
            events.push(events::rebooted(&next)?);
        }
    }
    Ok((next != *row).then_some((next, events)))
}

/// It is not reached.
///
/// # Errors
/// If an event cannot be made.
pub fn offline(row: &Member, since: Timestamp, reason: &str, cause: Option<&Cause>) -> Flip {
    let mut next = row.clone();
    let mut events = Vec::new();
    if row.reachable.online {
        let reason = Some(reason.chars().take(MOST_REASON).collect());
        next.reachable = Reachable { online: false, since, reason, offered: None };
        events.push(events::offline(&next, word(cause))?);
    }
    if let Some(Cause::HostKeyChanged { offered, known }) = cause {
        let offered = offered.to_string();
        // Told once for each key, however often it is tried again.
        if row.reachable.offered.as_ref() != Some(&offered) {
            events.push(events::hostkey_changed(&next, known, &offered)?);
            next.reachable.offered = Some(offered);
        }
    }
    Ok((next != *row).then_some((next, events)))
}

/// The cause in one word that scripts may rely on.
fn word(cause: Option<&Cause>) -> &'static str {
    match cause {
        None | Some(Cause::Unreachable) => "unreachable",
        Some(Cause::Lost) => "lost",
        Some(Cause::Auth) => "auth",
        Some(Cause::HostKeyUnknown { .. }) => "hostkey_unknown",
        Some(Cause::HostKeyChanged { .. }) => "hostkey_changed",
        Some(Cause::HostKeyRevoked { .. }) => "hostkey_revoked",
        Some(Cause::Hostile) => "hostile",
        Some(Cause::Config) => "config",
    }
}

#[cfg(test)]
mod tests {
    use super::super::profile::blank;
    use super::*;
    use crate::model::MemberName;
    use crate::reach::HostKey;

    fn web() -> Member {
        blank(MemberName::parse("web").unwrap(), true)
    }

    fn told(flip: &Option<(Member, Vec<NewEvent>)>) -> Vec<String> {
        let events = flip.iter().flat_map(|(_, events)| events);
        events.map(|event| event.topic.to_string()).collect()
    }

    fn key(fingerprint: &str) -> HostKey {
        let algorithm = String::from("ssh-ed25519");
        HostKey { algorithm, fingerprint: fingerprint.to_owned() }
    }

    #[test]
    fn a_flip_is_told_once() {
        let at = Timestamp::from_millis(5000);
        let gone = offline(&web(), at, "cut", Some(&Cause::Lost)).unwrap();
        assert_eq!(told(&gone), ["member.offline"]);
        let (row, events) = gone.unwrap();
        assert_eq!(events[0].data["cause"], "lost");
        assert_eq!(offline(&row, at, "refused", Some(&Cause::Unreachable)).unwrap(), None);
        let back = online(&row, Timestamp::from_millis(7000), None).unwrap();
        assert_eq!(told(&back), ["member.online"]);
        let (row, events) = back.unwrap();
        assert_eq!(events[0].data["offline_ms"], 2000);
        assert_eq!(online(&row, at, None).unwrap(), None);
    }

    #[test]
    fn another_boot_is_a_reboot_and_the_first_is_none() {
        let at = Timestamp::from_millis(1);
        let first = online(&web(), at, Some("b1")).unwrap();
        assert_eq!(told(&first), Vec::<String>::new());
        let (row, _) = first.unwrap();
        assert_eq!(online(&row, at, Some("b1")).unwrap(), None);
        assert_eq!(told(&online(&row, at, Some("b2")).unwrap()), ["member.rebooted"]);
    }

    #[test]
    fn a_changed_host_key_is_told_once_for_each_key() {
        let at = Timestamp::from_millis(1);
        let known = String::from("SHA256:old");
        let cause = |print| Cause::HostKeyChanged { offered: key(print), known: known.clone() };
        let one = offline(&web(), at, "changed", Some(&cause("SHA256:a"))).unwrap();
        assert_eq!(told(&one), ["member.offline", "member.hostkey_changed"]);
        let (row, _) = one.unwrap();
        assert_eq!(offline(&row, at, "changed", Some(&cause("SHA256:a"))).unwrap(), None);
        let other = offline(&row, at, "changed", Some(&cause("SHA256:b"))).unwrap();
        assert_eq!(told(&other), ["member.hostkey_changed"]);
    }
}
