//! The way of one run on a member, from its dispatch to its end.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::feed::Feed;
use super::mirror::Mirror;
use super::place::Place;
use super::report::{Ending, Word, cause};
use super::script::Script;
use crate::fleet::Inner;
use crate::fleet::drive::{Leaving, blocking};
use crate::fleet::live::{Live, Phase};
use crate::fleet::outcome::{conclusion, never_began, unbegun, unknown};
use crate::fleet::plan::{Cause, Plan};
use crate::fleet::rundir::RunDir;
use crate::fleet::state::{Input, Outcome};
use crate::model::TaskState;
use crate::reach::{self, Link, LinkState, ReachError};

/// How long a run may be begun without a word of its watcher.
const LATE: Duration = Duration::from_secs(5);

/// Pause before a question comes again that could not be answered.
pub const AGAIN: Duration = Duration::from_millis(100);

/// Pause between two looks at a run that nobody follows.
pub const LOOK: Duration = Duration::from_secs(1);

/// Looks at a link whose news may have been missed: it may be another one now.
pub const REVIEW: Duration = Duration::from_secs(5);

/// What is to be done next about a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Begin it. Whether an attempt got through is decided by its fence, so it
    /// may be repeated.
    Start,
    /// Find out what became of it.
    Probe,
    /// It runs: fetch what it writes.
    Follow,
    /// Fetch what is not here yet, and its state.
    Collect,
}

pub enum Next {
    Stage(Stage),
    Over(Outcome),
}

/// Why a stage was not done.
pub enum Trouble {
    Leaving,
    Reach(ReachError),
}

impl From<Leaving> for Trouble {
    fn from(_: Leaving) -> Self {
        Self::Leaving
    }
}

impl From<ReachError> for Trouble {
    fn from(error: ReachError) -> Self {
        Self::Reach(error)
    }
}

/// One run under way.
pub struct Course<'a> {
    pub inner: &'a Inner,
    pub live: &'a Arc<Live>,
    pub place: &'a Place,
    pub dir: RunDir,
    pub run: String,
    pub plan: Plan,
    pub mirror: Mirror,
    pub feed: Option<Feed>,
    /// An earlier daemon began it, or meant to.
    pub adopted: bool,
    /// A start may have arrived there.
    pub sent: bool,
    /// It is recorded that the command runs.
    pub begun: bool,
    pub pid: Option<u32>,
    /// Since when the watcher has been silent.
    pub silent: Option<Instant>,
    pub started: Instant,
    /// When a byte was last seen, or the link came back.
    pub active: Instant,
    /// The limit that was reached.
    pub limit: Option<Cause>,
    pub told: bool,
}

impl Course<'_> {
    /// Sees the run to its end.
    pub async fn run(&mut self, mut stage: Stage) -> Result<Outcome, Leaving> {
        let mut refusals = 0_u32;
        loop {
            let link = match self.link(stage).await? {
                Ok(link) => link,
                Err(outcome) => return Ok(outcome),
            };
            let next = match stage {
                Stage::Start => self.start(&link).await,
                Stage::Probe => self.probe(&link).await,
                Stage::Follow => self.follow(&link).await,
                Stage::Collect => self.collect(&link).await,
            };
            match next {
                Ok(Next::Over(outcome)) => return Ok(outcome),
                Ok(Next::Stage(next)) => {
                    stage = next;
                    refusals = 0;
                }
                Err(Trouble::Leaving) => return Err(Leaving),
                Err(Trouble::Reach(error)) => {
                    refusals += 1;
                    tracing::debug!(run = %self.run, %error, "a member did not answer");
                    if stage == Stage::Start && !self.sent && refusals > 20 {
                        return Ok(never_began(format!("could not be begun: {error}")));
                    }
                    // What was seen to begin is not begun again, even if its
                    // fence there is gone.
                    let seen = self.begun || self.pid.is_some();
                    if stage != Stage::Start || seen || self.is_stop_asked() {
                        stage = Stage::Probe;
                    }
                    if let Some(feed) = &mut self.feed {
                        feed.forget();
                    }
                    // Grows to two seconds: a member that refuses is not pestered.
                    self.inner.pause(AGAIN * refusals.min(20)).await?;
                }
            }
        }
    }

    /// The link, when it is up. `Err`: there will be none.
    async fn link(&mut self, stage: Stage) -> Result<Result<Link, Outcome>, Leaving> {
        let gone = self.place.handle.gone();
        loop {
            if stage == Stage::Start && !self.sent && self.is_stop_asked() {
                return Ok(Err(self.cancelled().await?));
            }
            if gone.is_cancelled() {
                let outcome = if self.sent {
                    unknown(&self.dir, String::from("its member was removed while it ran"))
                } else {
                    never_began(String::from("its member was removed before it began"))
                };
                return Ok(Err(outcome));
            }
            // A member that is not removed has none only when the roster closes.
            let link = self.place.handle.link().ok_or(Leaving)?;
            let mut states = link.state();
            let state = states.borrow_and_update().clone();
            if state.is_up() {
                return Ok(Ok(link));
            }
            if stage != Stage::Start && state.phase == reach::Phase::Offline {
                self.tell_away(&state).await?;
            }
            tokio::select! {
                _ = states.changed() => {}
                () = gone.cancelled() => {}
                () = self.live.poked() => {}
                () = tokio::time::sleep(REVIEW) => {}
                () = self.inner.closing.cancelled() => return Err(Leaving),
            }
        }
    }

    pub fn is_stop_asked(&self) -> bool {
        self.dir.has("stop")
    }

    /// The run never began, because somebody stopped it.
    async fn cancelled(&self) -> Result<Outcome, Leaving> {
        let end = Ending {
            code: None,
            outlived: None,
            cause: Some(Cause::Stopped),
            missing: false,
            duration_ms: 0,
            kept: [0; 2],
            cut: [0; 2],
        };
        self.conclude(&end).await
    }

    /// The run has ended so, and its output is here.
    pub async fn conclude(&self, end: &Ending) -> Result<Outcome, Leaving> {
        loop {
            let (settling, dir) = (self.mirror.settling(end, self.pid), self.dir.clone());
            let settled = blocking(move || {
                let status = settling.write()?;
                Ok(conclusion(&dir, Ok(Some(status))))
            });
            match settled.await {
                Ok(outcome) => return Ok(outcome),
                Err(error) => {
                    // A full disk delays the truth, it does not change it.
                    tracing::warn!(run = %self.run, %error, "a status could not be written yet");
                    self.inner.pause(LOOK).await?;
                }
            }
        }
    }

    async fn probe(&mut self, link: &Link) -> Result<Next, Trouble> {
        // What has begun is looked at: a fence would say that it never did.
        let fence = !self.has_begun().await;
        let word = self.place.probe(link, &self.run, fence).await?;
        // What it wrote meanwhile, or did not, is not known: the clock of its
        // silence begins anew.
        self.active = Instant::now();
        self.judge(link, word, Stage::Follow).await
    }

    /// Whether it is known that the command ran. Not knowing that counts as yes:
    /// of what has not begun it is said that it may be run again.
    async fn has_begun(&self) -> bool {
        if self.begun || self.pid.is_some() {
            return true;
        }
        let (id, run) = (self.live.id, self.run.clone());
        let row = self.inner.bus.store().read(move |snapshot| snapshot.task(id)).await;
        match row {
            Ok(Some(row)) => {
                let same = row.run.is_some_and(|of| of.to_string() == run);
                same && row.state == TaskState::Running
            }
            _ => true,
        }
    }

    /// What follows from what the member says about the run.
    pub async fn judge(&mut self, link: &Link, word: Word, runs: Stage) -> Result<Next, Trouble> {
        let begun = matches!(word, Word::Never | Word::Absent) && self.has_begun().await;
        let over = |reason: String| Ok(Next::Over(unknown(&self.dir, reason)));
        match word {
            Word::End(end) if self.mirror.missing(&end) == 0 => {
                Ok(Next::Over(self.conclude(&end).await?))
            }
            Word::End(_) => Ok(Next::Stage(Stage::Collect)),
            Word::Runs { pid, age_ms } => {
                self.begin(pid).await?;
                let age = Duration::from_millis(age_ms);
                self.started = Instant::now().checked_sub(age).unwrap_or(self.started);
                self.tell_back().await?;
                self.stop_if_asked(link).await?;
                Ok(Next::Stage(runs))
            }
            Word::Begins | Word::Exists => {
                let since = *self.silent.get_or_insert_with(Instant::now);
                if since.elapsed() > LATE {
                    // Whoever still comes shall not begin: this is told as unknown.
                    self.ask_stop(link, Cause::Stopped).await?;
                    return over(String::from("its watcher on the member never reported"));
                }
                self.inner.pause(AGAIN).await?;
                Ok(Next::Stage(Stage::Probe))
            }
            Word::Gone { pid: Some(pid), alive: true } => over(format!(
                "its watcher on the member was killed; the command is process {pid} and may still be running"
            )),
            Word::Gone { .. } => over(String::from("its watcher on the member was killed")),
            Word::Rebooted => over(String::from("member rebooted while it ran")),
            Word::Never | Word::Absent if begun => {
                over(String::from("its run directory on the member is gone"))
            }
            Word::Never if self.is_stop_asked() => Ok(Next::Over(self.cancelled().await?)),
            Word::Never => {
                let detail =
                    "never started: the connection or the daemon went down before it began";
                // Once in the life of a daemon: what keeps a run from beginning
                // here may keep the next one from it too.
                Ok(Next::Over(match self.adopted {
                    true => unbegun(&self.dir, detail.to_owned()),
                    false => never_began(detail.to_owned()),
                }))
            }
            _ => Err(super::place::vague(link).into()),
        }
    }

    /// The command runs, as far as is known here for the first time.
    pub async fn begin(&mut self, pid: Option<u32>) -> Result<(), Leaving> {
        self.silent = None;
        self.pid = pid;
        if !self.begun {
            self.inner.persist(self.live.id, Input::Began { pid }).await?;
            self.live.reach(Phase::Running);
            self.begun = true;
        }
        Ok(())
    }

    /// Once per cut, whichever daemon sees it.
    async fn tell_away(&mut self, state: &LinkState) -> Result<(), Leaving> {
        self.live.set_unreachable(Some(state.since));
        if !self.told && !self.dir.has("unreachable") {
            let reason = state.reason.chars().take(256).collect();
            self.inner.persist(self.live.id, Input::Away { reason }).await?;
            let dir = self.dir.clone();
            let _ = blocking(move || dir.mark("unreachable")).await;
        }
        self.told = true;
        Ok(())
    }

    async fn tell_back(&mut self) -> Result<(), Leaving> {
        self.live.set_unreachable(None);
        if std::mem::take(&mut self.told) || self.dir.has("unreachable") {
            self.active = Instant::now();
            self.inner.persist(self.live.id, Input::Back).await?;
            let mark = self.dir.file("unreachable");
            let _ = blocking(move || std::fs::remove_file(mark)).await;
        }
        Ok(())
    }

    /// Passes a wish to stop on to the member, or a limit that was reached.
    pub async fn stop_if_asked(&mut self, link: &Link) -> Result<(), Trouble> {
        let stalled = || self.dir.has("stop.stalled");
        let why = match self.is_stop_asked() {
            true if stalled() => Some(Cause::Stalled),
            true => Some(Cause::Stopped),
            false => self.limit,
        };
        match why {
            Some(why) => self.ask_stop(link, why).await,
            None => Ok(()),
        }
    }

    async fn ask_stop(&self, link: &Link, why: Cause) -> Result<(), Trouble> {
        let tenths = (self.plan.grace_ms / 100).to_string();
        let owner = &self.place.owner;
        let command = Script::Stop.command(&[&self.run, &tenths, cause(why), owner]);
        link.ask(&command, bytes::Bytes::new(), super::place::BRIEF).await?;
        Ok(())
    }
}
