//! Fetching what a run on a member writes, and acting on it meanwhile.

use std::time::Duration;

use tokio::time::Instant;

use super::course::{AGAIN, Course, LOOK, Next, REVIEW, Stage, Trouble};
use super::place::vague;
use super::report::Word;
use super::script::Script;
use super::talk::{Said, Talk};
use crate::fleet::plan::{Cause, StdinKind};
use crate::reach::Link;

impl Course<'_> {
    /// Fetches what is not here, and looks how the run stands.
    pub async fn collect(&mut self, link: &Link) -> Result<Next, Trouble> {
        let offsets = [self.mirror.offset(0), self.mirror.offset(1)];
        let command = Script::Collect.command(&[&self.run, &offsets[0], &offsets[1]]);
        let mut talk = Talk::new(link.exec(&command).await?, self.run.clone(), true);
        let Some(Said::Word(word)) = talk.next().await else {
            talk.end().await?;
            return Err(vague(link).into());
        };
        let ended = match &word {
            Word::End(end) => Some(end.clone()),
            _ => None,
        };
        let mut came = false;
        while ended.as_ref().is_none_or(|end| self.mirror.missing(end) > 0) {
            let Some(said) = talk.next().await else { break };
            came |= self.take(said).await;
        }
        let missing = ended.as_ref().map(|end| self.mirror.missing(end));
        match (ended, missing) {
            (Some(end), Some(0)) => Ok(Next::Over(self.conclude(&end).await?)),
            (Some(end), _) => {
                // A cut says so here; otherwise somebody took the files away.
                talk.end().await?;
                if came {
                    return Ok(Next::Stage(Stage::Collect));
                }
                Ok(Next::Over(self.conclude(&end).await?))
            }
            (None, _) => {
                drop(talk);
                self.judge(link, word, Stage::Follow).await
            }
        }
    }

    /// Takes bytes into the mirror. `false`: it was none, or a word.
    pub async fn take(&mut self, said: Said) -> bool {
        let (at, bytes) = match said {
            Said::Stdout(bytes) => (0, bytes),
            Said::Stderr(bytes) => (1, bytes),
            Said::Word(_) => return false,
        };
        self.active = Instant::now();
        self.mirror.take(at, bytes).await;
        self.live.changed.send_replace(());
        true
    }

    /// Fetches what the run writes, until it ends or the link is cut.
    pub async fn follow(&mut self, link: &Link) -> Result<Next, Trouble> {
        self.stop_if_asked(link).await?;
        self.feed_more(link).await?;
        let place = self.place;
        let Ok(_permit) = place.followers.try_acquire() else {
            self.attend(link, None, Instant::now() + LOOK).await?;
            return Ok(Next::Stage(Stage::Collect));
        };
        let offsets = [self.mirror.offset(0), self.mirror.offset(1)];
        let command = Script::Follow.command(&[&self.run, &offsets[0], &offsets[1]]);
        let mut talk = Talk::new(link.exec(&command).await?, self.run.clone(), true);
        while self.attend(link, Some(&mut talk), Instant::now() + REVIEW).await? {
            let full = [self.mirror.offset(0), self.mirror.offset(1)];
            if (0..2).any(|at| full[at] == "-" && offsets[at] != "-") {
                // The rest of a stream that is full would travel for nothing.
                return Ok(Next::Stage(Stage::Follow));
            }
        }
        talk.end().await?;
        Ok(Next::Stage(Stage::Collect))
    }

    /// Waits for the next thing that happens to a running command. `false`: the
    /// follower has ended.
    async fn attend(
        &mut self,
        link: &Link,
        talk: Option<&mut Talk>,
        until: Instant,
    ) -> Result<bool, Trouble> {
        let (limit, due) = self.next_limit();
        let busy = self.feed_more(link).await?;
        let until = if busy { Instant::now() + AGAIN } else { until };
        let said = async {
            match talk {
                Some(talk) => talk.next().await,
                None => std::future::pending().await,
            }
        };
        let poked = self.live.poked();
        tokio::select! {
            said = said => match said {
                Some(said) => {
                    self.take(said).await;
                    return Ok(true);
                }
                None => return Ok(false),
            },
            () = poked => self.stop_if_asked(link).await?,
            () = tokio::time::sleep_until(due.unwrap_or(until).min(until)) => {
                if due.is_some_and(|due| Instant::now() >= due) {
                    self.limit = limit;
                    self.stop_if_asked(link).await?;
                }
            }
            () = self.inner.closing.cancelled() => return Err(Trouble::Leaving),
        }
        Ok(true)
    }

    /// The limit that is reached next, and when. The silence of a run is what we
    /// see of it: while it is cut off, nobody judges it.
    fn next_limit(&self) -> (Option<Cause>, Option<Instant>) {
        if self.limit.is_some() {
            return (self.limit, None);
        }
        let at = |since: Instant, millis: Option<u64>| {
            millis.and_then(|millis| since.checked_add(Duration::from_millis(millis)))
        };
        let total = at(self.started, self.plan.total_ms);
        let silence = at(self.active, self.plan.inactivity_ms);
        match (total, silence) {
            (Some(total), Some(silence)) if silence < total => {
                (Some(Cause::Inactivity), Some(silence))
            }
            (Some(total), _) => (Some(Cause::Total), Some(total)),
            (None, silence) => (Some(Cause::Inactivity).filter(|_| silence.is_some()), silence),
        }
    }

    async fn feed_more(&mut self, link: &Link) -> Result<bool, Trouble> {
        match &mut self.feed {
            Some(feed) => Ok(feed.push(link, &self.dir).await?),
            None => Ok(false),
        }
    }

    pub fn has_open_input(&self) -> bool {
        self.plan.stdin == StdinKind::Open
    }
}
