//! Whether a run still shows life: a pure state machine, and the loop that feeds it.
//!
//! Theory of operation: three things are signs of life: bytes of output, growth of
//! a transcript, CPU time of the processes. A run that writes is never looked at:
//! its growing files say so by themselves. One that is silent is looked at five
//! times in the time after which it counts as stalled, at most every thirty
//! seconds. Only time in which we did look counts as silence: a daemon that was
//! itself stopped, or a member that is cut off, makes nothing look stalled. A
//! stalled run is told once and goes on, unless the policy says `stop`; what it
//! had shown by then stands in its row, so the next daemon knows what is news.

mod evidence;
mod transcript;
mod vigil;

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::model::Stalled;

pub use evidence::Processes;

use evidence::Evidence;
pub use transcript::{at_home, of_program};

/// Looks in the time after which a silent run counts as stalled.
const LOOKS: u32 = 5;

/// Bounds of the time between two looks.
const SHORTEST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(30);

/// How much later than due a look may come and its time still count as watched.
const SLACK: Duration = Duration::from_secs(1);

/// CPU use that is life: a hundredth of the time between two looks, and more than
/// the clock's grain. Waiting in a loop uses less, work uses more.
const BUSY: u32 = 100;
const GRAIN: Duration = Duration::from_millis(20);

/// A tool call that declares how long it may take has that long and this grace,
/// up to the ceiling.
const GRACE: Duration = Duration::from_secs(60);
const CEILING: Duration = Duration::from_secs(30 * 60);

/// What a run's plan says of this. Absent: it is not watched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watch {
    /// Milliseconds without a sign of life after which it counts as stalled.
    pub after_ms: u64,
    /// It is stopped then.
    pub stop: bool,
    /// A pattern of files whose growth is life.
    pub transcript: Option<String>,
}

/// What a run has shown of itself so far. `None` is not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    /// Bytes it wrote to both streams and took from its input.
    pub bytes: Option<u64>,
    /// A number that changes when its transcript grows.
    pub transcript: Option<u64>,
    /// CPU time of its processes, those included that have ended and were waited for.
    pub cpu: Option<Duration>,
}

/// One look at a run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Reading {
    pub sample: Sample,
    /// How long a tool call that is under way may take, as it declared itself.
    pub declared: Option<Duration>,
}

/// What follows from a look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    Same,
    /// It counts as stalled from now on, after so much silence.
    Stalled(Duration),
    /// It was stalled, and lives.
    Resumed,
}

/// What is known of one run's life.
pub struct Stall {
    after: Duration,
    every: Duration,
    seen: Sample,
    looked: Instant,
    silent: Duration,
    stalled: bool,
}

impl Stall {
    /// A run of which `seen` is known at `now`.
    pub fn new(after: Duration, seen: Sample, now: Instant) -> Self {
        let every = (after / LOOKS).clamp(SHORTEST, LONGEST);
        Self { after, every, seen, looked: now, silent: Duration::ZERO, stalled: false }
    }

    /// A run that an earlier daemon told as stalled.
    pub fn told(after: Duration, told: &Stalled, now: Instant) -> Self {
        let seen = Sample {
            bytes: Some(told.bytes),
            transcript: told.transcript,
            cpu: told.cpu_ms.map(Duration::from_millis),
        };
        Self { stalled: true, ..Self::new(after, seen, now) }
    }

    pub fn is_stalled(&self) -> bool {
        self.stalled
    }

    /// When to look next.
    pub fn next_look(&self) -> Instant {
        self.looked + self.every
    }

    /// It wrote since the last look, so nothing had to be read.
    pub fn wrote(&mut self, now: Instant) {
        self.looked = now;
        self.silent = Duration::ZERO;
        // How much it was is read when it is silent again. Its CPU time is kept: what
        // it used meanwhile rather counts twice than not at all.
        self.seen.bytes = None;
    }

    /// Takes what was read at `now`; `None`: nothing could be seen of the run.
    pub fn look(&mut self, now: Instant, reading: Option<Reading>) -> Turn {
        let gap = now.saturating_duration_since(self.looked);
        self.looked = now;
        let Some(Reading { sample, declared }) = reading else { return Turn::Same };
        let lives = self.is_life(&sample, gap);
        // The first look at a transcript says nothing of the time before.
        let compared = self.seen.transcript.is_some() || sample.transcript.is_none();
        self.seen = sample;
        if lives {
            self.silent = Duration::ZERO;
            return if std::mem::take(&mut self.stalled) { Turn::Resumed } else { Turn::Same };
        }
        if compared && gap <= self.every * 2 + SLACK {
            self.silent += gap;
        }
        if self.stalled || self.silent < self.allowed(declared) {
            return Turn::Same;
        }
        self.stalled = true;
        Turn::Stalled(self.silent)
    }

    fn allowed(&self, declared: Option<Duration>) -> Duration {
        declared.map_or(self.after, |declared| self.after.max(declared.min(CEILING) + GRACE))
    }

    fn is_life(&self, sample: &Sample, gap: Duration) -> bool {
        let changed =
            |was: Option<u64>, is: Option<u64>| was.is_some() && is.is_some() && was != is;
        let used = self.seen.cpu.zip(sample.cpu).map(|(was, is)| is.saturating_sub(was));
        let busy = GRAIN.max(gap.min(self.every) / BUSY);
        changed(self.seen.bytes, sample.bytes)
            || changed(self.seen.transcript, sample.transcript)
            || used.is_some_and(|used| used >= busy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AFTER: Duration = Duration::from_secs(150);

    fn reading(bytes: u64, transcript: u64, cpu_ms: u64) -> Option<Reading> {
        let sample = Sample {
            bytes: Some(bytes),
            transcript: Some(transcript),
            cpu: Some(Duration::from_millis(cpu_ms)),
        };
        Some(Reading { sample, declared: None })
    }

    /// Looks when a look is due, with what `at` says is there then.
    async fn watch(
        stall: &mut Stall,
        looks: usize,
        at: impl Fn(usize) -> Option<Reading>,
    ) -> Vec<Turn> {
        let mut turns = Vec::new();
        for number in 0..looks {
            tokio::time::sleep_until(stall.next_look()).await;
            turns.push(stall.look(Instant::now(), at(number)));
        }
        turns
    }

    fn begun() -> Stall {
        let seen = Sample { bytes: Some(0), transcript: Some(0), cpu: Some(Duration::ZERO) };
        Stall::new(AFTER, seen, Instant::now())
    }

    #[tokio::test(start_paused = true)]
    async fn silence_is_told_once_and_life_once() {
        let mut stall = begun();
        let turns = watch(&mut stall, 8, |_| reading(0, 0, 2)).await;
        let mut expected = vec![Turn::Same; 8];
        expected[4] = Turn::Stalled(AFTER);
        assert_eq!(turns, expected);
        let turns = watch(&mut stall, 3, |_| reading(1, 0, 2)).await;
        assert_eq!(turns, [Turn::Resumed, Turn::Same, Turn::Same]);
        assert!(!stall.is_stalled());
    }

    #[tokio::test(start_paused = true)]
    async fn each_kind_of_evidence_is_life() {
        for which in 0..3 {
            let mut stall = begun();
            let grown = |look: usize| {
                let by = |index, step| if which == index { (look as u64 + 1) * step } else { 0 };
                reading(by(0, 1), by(1, 1), by(2, 300))
            };
            let turns = watch(&mut stall, 20, grown).await;
            assert!(turns.iter().all(|turn| *turn == Turn::Same), "{which}: {turns:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_loop_that_waits_is_no_work() {
        let mut stall = begun();
        // A fork a second: two milliseconds of each thousand.
        let turns = watch(&mut stall, 5, |look| reading(0, 0, (look as u64 + 1) * 60)).await;
        assert_eq!(turns[4], Turn::Stalled(AFTER));
    }

    #[tokio::test(start_paused = true)]
    async fn r42_time_in_which_nobody_looked_is_no_silence() {
        let mut stall = begun();
        watch(&mut stall, 2, |_| reading(0, 0, 0)).await;
        // The daemon was stopped, or asleep, for ten minutes.
        tokio::time::advance(Duration::from_secs(600)).await;
        assert_eq!(stall.look(Instant::now(), reading(0, 0, 0)), Turn::Same);
        let turns = watch(&mut stall, 3, |_| reading(0, 0, 0)).await;
        assert_eq!(turns, [Turn::Same, Turn::Same, Turn::Stalled(AFTER)]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_cannot_be_seen_is_no_silence() {
        let mut stall = begun();
        let turns = watch(&mut stall, 50, |_| None).await;
        assert!(turns.iter().all(|turn| *turn == Turn::Same));
        let unknown = || Some(Reading::default());
        assert_eq!(watch(&mut stall, 5, |_| unknown()).await[4], Turn::Stalled(AFTER));
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_look_at_a_transcript_says_nothing() {
        let seen = Sample { bytes: Some(0), transcript: None, cpu: Some(Duration::ZERO) };
        let mut stall = Stall::new(AFTER, seen, Instant::now());
        let turns = watch(&mut stall, 6, |_| reading(0, 9, 0)).await;
        assert_eq!(turns[4..], [Turn::Same, Turn::Stalled(AFTER)]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_declared_tool_call_has_its_time_and_no_more_than_the_ceiling() {
        for (declared, expected) in [(600, 660), (7200, 1860), (10, 150)] {
            let mut stall = begun();
            let declared = Some(Duration::from_secs(declared));
            let at = |_| reading(0, 0, 0).map(|reading| Reading { declared, ..reading });
            let turns = watch(&mut stall, 100, at).await;
            let told: Vec<_> = turns.iter().filter(|turn| **turn != Turn::Same).collect();
            assert_eq!(told, [&Turn::Stalled(Duration::from_secs(expected))]);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_next_daemon_knows_what_is_news() {
        let told = Stalled {
            since: crate::model::Timestamp::now(),
            bytes: 7,
            transcript: None,
            cpu_ms: Some(40),
        };
        let mut stall = Stall::told(AFTER, &told, Instant::now());
        assert_eq!(watch(&mut stall, 9, |_| reading(7, 3, 41)).await, [Turn::Same; 9]);
        let mut stall = Stall::told(AFTER, &told, Instant::now());
        assert_eq!(watch(&mut stall, 1, |_| reading(8, 3, 41)).await, [Turn::Resumed]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_run_that_writes_is_never_stalled() {
        let mut stall = begun();
        for _ in 0..50 {
            tokio::time::sleep_until(stall.next_look()).await;
            stall.wrote(Instant::now());
        }
        // What came meanwhile is no news when it is read.
        assert_eq!(watch(&mut stall, 5, |_| reading(50, 0, 0)).await[4], Turn::Stalled(AFTER));
    }
}
