//! Runs on members: the run directory protocol of POSIX `sh`, and what drives it.
//!
//! Theory of operation: a member needs `sh` and what every system has beside it.
//! A run has a directory there, `~/.fleetd/runs/<run>`, which the local one
//! mirrors: output is appended here as it is fetched, and the status written
//! when the member's is known, so everything else asks the local directory and
//! need not know where a run is.
//!
//! | script | what it does |
//! |---|---|
//! | `start` | begins a run behind its fence, and sends a short one's output and end on the same channel |
//! | `follow` | sends what is written, from given offsets on, until the run ends |
//! | `collect` | state, and what is not here yet |
//! | `probe` | the state of many runs; one that has not begun is forbidden to |
//! | `stop` | TERM, grace, KILL, to the group and to those who left it |
//! | `usage` | CPU time of a run's group, asked only when it has been silent |
//! | `input` | the next piece of an open standard input |
//! | `sweep` | forgets what is mirrored, and what is old |
//!
//! What is sent may arrive or not, and once only matters: `start` is repeated
//! until the fence, a file that can be made once, answers; pieces of input are
//! taken whole at their offset; a stop that runs is not begun again. A cut, a
//! silent peer, or a status of `ssh` itself is never taken for a command's.
//!
//! **The cap.** The command writes into files, with nothing in between: a pipe to
//! something that counts could block it, `ulimit -f` would kill it, and `head -c`
//! keeps what it has not written yet. So the mirror fetches up to the cap, and on
//! the member a keeper looks once a second: a file of over twice the cap is cut
//! back to it, which an appending writer does not notice. The disk there is bound
//! by twice the cap and what a second writes, for each stream. How much was cut
//! is then known at least, not exactly: what is written between the look and the
//! cut is not counted.
//!
//! **The watcher** that waits for the command is not the process that sshd
//! started: sshd counts that one as a session, of ten, until it ends.

mod course;
mod feed;
mod follow;
mod mirror;
mod place;
mod preamble;
mod report;
mod script;
mod start;
mod talk;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::{Arc, MutexGuard, PoisonError};

use tokio::time::Instant;

use super::drive::{Leaving, blocking};
use super::live::Live;
use super::outcome::never_began;
use super::output::Frames;
use super::plan::StdinKind;
use super::stall::Processes;
use super::state::Outcome;
use super::{CommandSpec, FleetError, Inner, MemberHandle, RosterError};
use crate::model::{MemberId, MemberPlace, Principal};
use crate::reach::Phase;

use course::{Course, Stage};
use feed::Feed;
use mirror::Mirror;

pub use place::{Place, real_folder};

/// Refuses what cannot be begun on a member: what its shell could not pass on,
/// and anything while it is offline, so that nobody waits for a machine that is
/// not there. What was taken before that waits.
///
/// # Errors
/// [`FleetError::Invalid`], or [`RosterError::Offline`].
pub fn check(member: &MemberHandle, spec: &CommandSpec) -> Result<(), FleetError> {
    let Some(link) = member.link() else { return Ok(()) };
    preamble::check(spec)?;
    let state = link.state().borrow().clone();
    if state.phase == Phase::Offline {
        let (member, reason) = (member.member().name.clone(), state.reason);
        return Err(RosterError::Offline { member, reason }.into());
    }
    Ok(())
}

/// Runs whose output is kept on a member though it is here.
const MIRRORED: usize = 64;

impl Inner {
    pub fn places(&self) -> MutexGuard<'_, HashMap<MemberId, Arc<Place>>> {
        // Changed by whole steps only; a panic elsewhere cannot tear it.
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A member, and what the runs on it share if it is another machine.
    pub fn place(&self, member: MemberId) -> Result<(MemberId, Option<Arc<Place>>), FleetError> {
        let handle = self.roster.get(member)?;
        if handle.member().place == MemberPlace::Local {
            return Ok((member, None));
        }
        let mut places = self.places();
        let source = self.bus.store().source();
        let instance = source.rsplit('/').next().unwrap_or_default();
        let new = || Place::new(Arc::clone(&handle), instance);
        let place = places.entry(member).or_insert_with(new);
        if !Arc::ptr_eq(&place.handle, &handle) {
            *place = new();
        }
        Ok((member, Some(Arc::clone(place))))
    }

    /// Sees a run on a member to its end. `adopted`: an earlier daemon began it.
    pub async fn remote(
        self: &Arc<Self>,
        live: &Arc<Live>,
        place: &Arc<Place>,
        adopted: bool,
    ) -> Result<Outcome, Leaving> {
        let dir = live.dir();
        let of = dir.clone();
        let opened = blocking(move || {
            let plan = of.spec()?;
            let mirror = Mirror::open(&of, plan.max_output)?;
            Ok((plan, mirror))
        });
        let (plan, mirror) = match opened.await {
            Ok(opened) => opened,
            Err(error) if !adopted => {
                return Ok(never_began(format!("its run directory cannot be used: {error}")));
            }
            Err(error) => {
                let reason = format!("its run directory cannot be used: {error}");
                return Ok(super::outcome::unknown(&dir, reason));
            }
        };
        let Some(mut frames) = Frames::new(live.id, live.project.clone(), &dir) else {
            return Err(Leaving);
        };
        if adopted {
            frames.skip_to_now();
        }
        let now = Instant::now();
        let feed = (plan.stdin == StdinKind::Open).then(Feed::default);
        let mut course = Course {
            inner: self,
            live,
            place,
            run: dir.name(),
            dir,
            plan,
            mirror,
            feed,
            adopted,
            sent: adopted,
            begun: false,
            pid: None,
            silent: None,
            started: now,
            active: now,
            limit: None,
            told: false,
        };
        let dir = course.dir.clone();
        let processes = Processes::On(Arc::clone(place));
        let outcome = tokio::select! {
            // First of all: what a link says that is taken away then means nothing.
            biased;
            () = self.closing.cancelled() => return Err(Leaving),
            outcome = course.run(if adopted { Stage::Probe } else { Stage::Start }) => outcome?,
            () = frames.serve(&self.bus, live.changed.subscribe()) => return Err(Leaving),
            Err(leaving) = self.keep_vigil(live, &dir, processes, !adopted) => return Err(leaving),
        };
        frames.finish(&self.bus);
        if place.is_mirrored(&course.run) >= MIRRORED {
            self.sweep_member(Arc::clone(place));
        }
        Ok(outcome)
    }

    /// Forgets old runs on the members that can be reached.
    pub fn sweep_members(self: &Arc<Self>) {
        // Also where nothing ran since this daemon began.
        for handle in self.roster.list(&Principal::owner()) {
            if let Ok((_, Some(place))) = self.place(handle.member().id) {
                self.sweep_member(place);
            }
        }
    }

    fn sweep_member(self: &Arc<Self>, place: Arc<Place>) {
        let (days, closing) = (self.settings().keep_days, self.closing.clone());
        self.tracker.spawn(async move {
            tokio::select! {
                swept = place.sweep(days) => {
                    if let Err(error) = swept {
                        tracing::debug!(%error, "old runs on a member were not swept");
                    }
                }
                () = closing.cancelled() => {}
            }
        });
    }
}
