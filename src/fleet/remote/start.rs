//! Beginning a run, and seeing a short one through on the same channel.

use std::fs::File;
use std::io::Read;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::course::{Course, Next, Stage, Trouble};
use super::preamble::preamble;
use super::report::{Ending, Word};
use super::script::Script;
use super::talk::{Said, Talk};
use crate::fleet::drive::blocking;
use crate::fleet::outcome::never_began;
use crate::fleet::plan::StdinKind;
use crate::reach::{Input, Link, ReachError};

/// A command that takes longer gets a follower, and its start's channel back.
const SHORT: Duration = Duration::from_millis(300);

/// How long a start waits for the end before it is recorded: most short commands
/// need one commit then, and not two.
const QUICK: Duration = Duration::from_millis(15);

/// How long login files may take before the script speaks; counted from when the
/// last of its input was taken.
const SILENT: Duration = Duration::from_secs(60);

/// One piece of standard input.
const PIECE: usize = 256 * 1024;

impl Course<'_> {
    pub async fn start(&mut self, link: &Link) -> Result<Next, Trouble> {
        let (kind, length) = match self.plan.stdin {
            StdinKind::Closed => ("none", 0),
            StdinKind::Bytes => ("bytes", self.input_length()),
            StdinKind::Open => ("open", 0),
        };
        let (length, cap) = (length.to_string(), self.plan.max_output.to_string());
        let owner = &self.place.owner;
        let command = Script::Start.command(&[&self.run, kind, &length, &cap, owner]);
        let mut exec = match link.exec(&command).await {
            Err(error @ (ReachError::Offline { .. } | ReachError::Refused { .. })) => {
                return Err(error.into());
            }
            opened => {
                self.sent = true;
                opened?
            }
        };
        let input = exec.input.take();
        let talk = Talk::new(exec, self.run.clone(), false);
        let is_prompt = self.live.claim.is_some();
        let head = preamble(&self.plan, &self.run, is_prompt);
        let stdin = self.dir.file("stdin");
        let whole = self.plan.stdin == StdinKind::Bytes;
        let accepted = Notify::new();
        let feed = async {
            if let Some(input) = input {
                // Its failure is the channel's end, which the other side sees.
                let _ = send(&input, head, whole.then_some(stdin), &accepted).await;
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            next = self.listen(talk, &accepted) => next,
            () = feed => Ok(Next::Stage(Stage::Probe)),
        }
    }

    fn input_length(&self) -> u64 {
        std::fs::metadata(self.dir.file("stdin")).map_or(0, |meta| meta.len())
    }

    /// `accepted`: another piece of the input is on its way.
    async fn listen(&mut self, mut talk: Talk, accepted: &Notify) -> Result<Next, Trouble> {
        let mut due = Instant::now() + SILENT;
        let mut began = None;
        loop {
            tokio::select! {
                said = talk.next() => match said {
                    Some(Said::Word(Word::Began { pid })) => {
                        self.started = Instant::now();
                        self.active = self.started;
                        self.pid = pid;
                        began = Some(pid);
                        due = self.started + QUICK;
                    }
                    Some(Said::Word(Word::End(end))) => return self.receive(talk, end).await,
                    Some(Said::Word(Word::Refused(why))) => {
                        return Ok(Next::Over(never_began(self.explain(&why))));
                    }
                    // Begun before: by an attempt of ours whose link was cut.
                    Some(Said::Word(_)) => return Ok(Next::Stage(Stage::Probe)),
                    // The first of its stderr may be quicker than the word of its
                    // end. Stdout comes behind that word.
                    Some(said) => drop(self.take(said).await),
                    None => {
                        talk.end().await?;
                        return Ok(Next::Stage(Stage::Probe));
                    }
                },
                // A slow line is no silence.
                () = accepted.notified(), if began.is_none() => due = Instant::now() + SILENT,
                () = tokio::time::sleep_until(due) => {
                    let Some(pid) = began.take() else {
                        return Ok(Next::Stage(Stage::Probe));
                    };
                    if self.pid_is_told(pid).await? {
                        return Ok(Next::Stage(Stage::Follow));
                    }
                    began = Some(pid);
                    due = self.started + SHORT;
                }
                () = self.live.poked() => {
                    // Input is passed on once it runs.
                    if self.is_stop_asked() {
                        return Ok(Next::Stage(Stage::Probe));
                    }
                }
                () = self.inner.closing.cancelled() => return Err(Trouble::Leaving),
            }
        }
    }

    /// Records the start. `true`: it was recorded before, or needs a follower.
    async fn pid_is_told(&mut self, pid: Option<u32>) -> Result<bool, Trouble> {
        let told = self.begun;
        self.begin(pid).await?;
        Ok(told || self.has_open_input())
    }

    /// The run has ended while we listened: its output comes next.
    async fn receive(&mut self, mut talk: Talk, end: Ending) -> Result<Next, Trouble> {
        while self.mirror.missing(&end) > 0 {
            let Some(said) = talk.next().await else {
                talk.end().await?;
                return Ok(Next::Stage(Stage::Collect));
            };
            self.take(said).await;
        }
        Ok(Next::Over(self.conclude(&end).await?))
    }

    fn explain(&self, why: &str) -> String {
        match why {
            "folder" => format!("there is no folder '{}' to run in", self.plan.folder),
            "directory" => String::from("its run directory on the member cannot be made"),
            "input" => String::from("its input could not be kept on the member"),
            _ => String::from("the member refused it"),
        }
    }
}

/// Sends preamble and input, and closes.
async fn send(
    input: &Input,
    head: Vec<u8>,
    stdin: Option<std::path::PathBuf>,
    accepted: &Notify,
) -> Result<(), ReachError> {
    input.write(Bytes::from(head)).await?;
    accepted.notify_one();
    let Some(path) = stdin else { return Ok(()) };
    let Ok(mut file) = blocking(move || File::open(path)).await else { return Ok(()) };
    loop {
        let read = blocking(move || {
            let mut bytes = vec![0; PIECE];
            let count = file.read(&mut bytes)?;
            bytes.truncate(count);
            Ok((file, bytes))
        });
        match read.await {
            Ok((_, bytes)) if bytes.is_empty() => return Ok(()),
            Ok((rest, bytes)) => {
                file = rest;
                input.write(Bytes::from(bytes)).await?;
                accepted.notify_one();
            }
            // Cut short, the member begins nothing.
            Err(_) => return Ok(()),
        }
    }
}
