//! The loop that looks after one run for as long as it runs.

use std::convert::Infallible;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::evidence::Processes;
use super::{Evidence, LONGEST, Reading, Sample, Stall, Turn, Watch};
use crate::fleet::Inner;
use crate::fleet::drive::{Leaving, blocking};
use crate::fleet::live::Live;
use crate::fleet::output;
use crate::fleet::rundir::RunDir;
use crate::fleet::state::{Input, Quiet};
use crate::model::{OutputStream, Task};

/// What ends sooner costs a timer and nothing else.
const FIRST: Duration = Duration::from_secs(1);

impl Inner {
    /// Tells when the run in `dir` stalls and when it lives again. Goes on until
    /// it is dropped. `begun`: nothing of it was there before this daemon.
    pub async fn keep_vigil(
        &self,
        live: &Live,
        dir: &RunDir,
        processes: Processes,
        begun: bool,
    ) -> Result<Infallible, Leaving> {
        let start = Instant::now();
        let mut changed = live.changed.subscribe();
        sleep_until(start + FIRST).await;
        let (watch, row) = loop {
            let of = dir.clone();
            let plan = blocking(move || of.spec()).await;
            // Not to be had for want of a descriptor, say: it is asked for again.
            if let (Ok(plan), Ok(Some(row))) = (plan, self.row(live.id).await) {
                let Some(watch) = plan.stall else { return std::future::pending().await };
                break (watch, row);
            }
            tokio::time::sleep(LONGEST).await;
        };
        let mut stall = begin(&watch, &row, start, begun);
        let transcript = watch.transcript.clone();
        let evidence = Evidence { dir: dir.clone(), processes, transcript };
        loop {
            if stall.is_stalled() {
                // Its first byte is told at once, not when the next look is due.
                tokio::select! {
                    _ = changed.changed() => {}
                    () = sleep_until(stall.next_look()) => {}
                }
            } else {
                sleep_until(stall.next_look()).await;
                if changed.has_changed().unwrap_or(false) {
                    changed.mark_unchanged();
                    stall.wrote(Instant::now());
                    continue;
                }
            }
            let reading = evidence.read().await;
            match stall.look(Instant::now(), reading) {
                Turn::Same => {}
                Turn::Resumed => {
                    self.persist(live.id, Input::Lively).await?;
                }
                Turn::Stalled(silent) => {
                    let quiet = quiet(dir, silent, reading.unwrap_or_default(), watch.stop).await;
                    self.persist(live.id, Input::Quiet(Box::new(quiet))).await?;
                }
            }
            if stall.is_stalled() && watch.stop {
                self.end_stalled(live, dir).await;
            }
        }
    }

    /// Ends a run by policy; once, whichever daemon does it.
    async fn end_stalled(&self, live: &Live, dir: &RunDir) {
        let of = dir.clone();
        let asked = blocking(move || {
            if of.has("stop") {
                return Ok(false);
            }
            of.mark("stop.stalled")?;
            of.ask_stop()?;
            Ok(true)
        });
        match asked.await {
            Ok(true) => live.poke(),
            Ok(false) => {}
            // On a full disk, say: the next look comes.
            Err(error) => tracing::warn!(task = %live.id, %error, "a stalled run is not stopped"),
        }
    }
}

fn begin(watch: &Watch, row: &Task, start: Instant, begun: bool) -> Stall {
    let after = Duration::from_millis(watch.after_ms);
    match &row.stalled {
        Some(told) => Stall::told(after, told, start),
        None if begun => {
            let seen = Sample { bytes: Some(0), transcript: None, cpu: Some(Duration::ZERO) };
            Stall::new(after, seen, start)
        }
        None => Stall::new(after, Sample::default(), start),
    }
}

async fn quiet(dir: &RunDir, silent: Duration, reading: Reading, stops: bool) -> Quiet {
    let of = dir.clone();
    let said = blocking(move || {
        let bytes = [OutputStream::Stdout, OutputStream::Stderr].map(|stream| of.counts(stream).0);
        Ok((bytes, output::last_lines(&of, false)))
    });
    let (offsets, last_lines) = said.await.unwrap_or_default();
    Quiet { silent, sample: reading.sample, offsets, last_lines, stops }
}
