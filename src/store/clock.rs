//! How far the wall clock can be believed.
//!
//! A clock that is wrong for a moment must not delete history. What is to be
//! deleted for its age waits until the wall clock has gone along with the
//! monotonic one for a while; bounds in rows and bytes do not wait.

use std::time::{Duration, Instant};

use crate::model::Timestamp;

/// How far the clocks may part between two looks, which are about a second
/// apart: less than any jump that matters, more than clocks are slewed.
const SLACK: Duration = Duration::from_secs(60);

/// For how long the clocks have to agree.
const PROOF: Duration = Duration::from_secs(3600);

/// Two clocks, watched side by side.
pub struct Clock {
    wall: Timestamp,
    monotonic: Instant,
    /// They have not parted since.
    together: Instant,
}

impl Clock {
    pub fn new(wall: Timestamp, monotonic: Instant) -> Self {
        Self { wall, monotonic, together: monotonic }
    }

    /// Looks at both. Returns `wall` if what is older than `age` may be deleted.
    pub fn believed(
        &mut self,
        wall: Timestamp,
        monotonic: Instant,
        age: Duration,
    ) -> Option<Timestamp> {
        let passed = i128::from(wall.millis()) - i128::from(self.wall.millis());
        let expected = (monotonic - self.monotonic).as_millis().cast_signed();
        if (passed - expected).unsigned_abs() > SLACK.as_millis() {
            self.together = monotonic;
        }
        (self.wall, self.monotonic) = (wall, monotonic);
        // Whoever keeps less than an hour wants to see it go within the hour.
        (monotonic - self.together >= PROOF.min(age)).then_some(wall)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AGE: Duration = Duration::from_secs(86_400);

    /// What is believed at so many seconds of uptime, with the wall clock off by so many.
    fn looks(steps: &[(u64, i64)]) -> Vec<bool> {
        let (begun, wall) = (Instant::now(), Timestamp::now().millis());
        let mut clock = Clock::new(Timestamp::from_millis(wall), begun);
        let look = |&(uptime, off): &(u64, i64)| {
            let now = Timestamp::from_millis(wall + (uptime.cast_signed() + off) * 1000);
            clock.believed(now, begun + Duration::from_secs(uptime), AGE).is_some()
        };
        steps.iter().map(look).collect()
    }

    #[test]
    fn an_hour_of_agreement_is_asked_for() {
        assert_eq!(looks(&[(1, 0), (3599, 0), (3600, 0)]), [false, false, true]);
    }

    #[test]
    fn a_jump_begins_the_hour_anew_in_either_direction() {
        let year = 365 * 86_400;
        let ahead = [(3600, 0), (3601, year), (7200, year), (7201, year), (7202, 0), (7203, 0)];
        assert_eq!(looks(&ahead), [true, false, false, true, false, false]);
        assert_eq!(looks(&[(3600, 0), (3601, -year), (7201, -year)]), [true, false, true]);
    }

    #[test]
    fn a_clock_that_is_slewed_is_believed() {
        let slewed: Vec<_> =
            (0..=3600_u64).map(|second| (second, second.cast_signed() / 100)).collect();
        assert_eq!(looks(&slewed).last(), Some(&true));
    }
}
