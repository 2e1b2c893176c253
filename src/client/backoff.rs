//! The pause between attempts to get the daemon back.

use std::time::Duration;

/// A restart takes well under a second, so the first attempts come quickly; a
/// daemon that is gone for hours should cost next to nothing.
const FIRST: Duration = Duration::from_millis(50);
const LONGEST: Duration = Duration::from_secs(2);

/// A pause that is zero until something failed, and doubles with each failure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backoff(Duration);

impl Backoff {
    /// Notes a failure.
    pub fn grow(&mut self) {
        self.0 = (self.0 * 2).clamp(FIRST, LONGEST);
    }

    /// Waits out the pause.
    pub async fn wait(self) {
        tokio::time::sleep(self.0).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_from_nothing_to_its_bound() {
        let mut backoff = Backoff::default();
        assert_eq!(backoff.0, Duration::ZERO);
        backoff.grow();
        assert_eq!(backoff.0, FIRST);
        for _ in 0..100 {
            backoff.grow();
        }
        assert_eq!(backoff.0, LONGEST);
    }
}
