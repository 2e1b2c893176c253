//! Whether the peer lives, by what was heard of it.

use std::time::{Duration, Instant};

use crate::reach::options::Keepalive;

/// Waking up so much later than planned means that we ourselves stood still
/// (a stopped process, a machine asleep): that is no silence of the peer.
const OVERSLEPT: Duration = Duration::from_secs(1);

/// What follows from the silence so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Well,
    /// Silent for an interval: to be asked.
    Ask,
    /// It does not answer.
    Suspect,
    /// Silent for longer than the budget.
    Dead,
}

/// The time since the last sign of life.
pub struct Life {
    keepalive: Keepalive,
    heard: Instant,
    planned: Instant,
}

impl Life {
    pub fn new(keepalive: Keepalive, now: Instant) -> Self {
        Self { keepalive, heard: now, planned: now }
    }

    pub fn hear(&mut self, now: Instant) {
        self.heard = now;
    }

    /// To be asked whenever the loop looks.
    pub fn judge(&mut self, now: Instant) -> Verdict {
        let late = now.saturating_duration_since(self.planned);
        if late > OVERSLEPT {
            self.heard += late;
        }
        self.planned = now;
        let silent = now.saturating_duration_since(self.heard);
        let Keepalive { interval, budget } = self.keepalive;
        match silent {
            _ if silent >= budget => Verdict::Dead,
            _ if silent >= interval * 2 => Verdict::Suspect,
            _ if silent >= interval => Verdict::Ask,
            _ => Verdict::Well,
        }
    }

    /// When to look again at the latest; the loop's plan.
    pub fn plan(&mut self, now: Instant) -> Instant {
        let Keepalive { interval, budget } = self.keepalive;
        let steps = [interval, interval * 2, budget].map(|step| self.heard + step);
        let next = steps.into_iter().filter(|at| *at > now).min();
        self.planned = next.unwrap_or(now);
        self.planned
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn life(now: Instant) -> Life {
        Life::new(Keepalive { interval: SECOND * 5, budget: SECOND * 15 }, now)
    }

    #[test]
    fn silence_is_asked_about_then_suspected_then_taken_for_death() {
        let begun = Instant::now();
        let mut life = life(begun);
        let mut seen = Vec::new();
        let mut now = begun;
        for _ in 0..4 {
            seen.push((now.duration_since(begun).as_secs(), life.judge(now)));
            now = life.plan(now);
        }
        let wanted =
            [(0, Verdict::Well), (5, Verdict::Ask), (10, Verdict::Suspect), (15, Verdict::Dead)];
        assert_eq!(seen, wanted);
        life.hear(now);
        assert_eq!(life.judge(now), Verdict::Well);
    }

    #[test]
    fn standing_still_ourselves_is_no_silence_of_the_peer() {
        let begun = Instant::now();
        let mut life = life(begun);
        let planned = life.plan(begun);
        assert_eq!(life.judge(planned + SECOND * 300), Verdict::Ask);
    }
}
