//! A remote member as its runs share it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Semaphore, oneshot};

use super::report::{Word, parse};
use super::script::{Script, quoted};
use crate::fleet::roster::MemberHandle;
use crate::reach::{Limits, Link, Phase, ReachError};

/// Channels of a member's connection that follow output. A connection has ten,
/// and dispatches, probes and stops must find one free; runs beyond these are
/// looked at once a second.
const FOLLOWERS: usize = 5;

/// How long questions gather, so that one script answers for many runs.
const GATHER: Duration = Duration::from_millis(3);

/// Bounds of a short question.
pub const BRIEF: Limits = Limits { deadline: Duration::from_secs(30), most_output: 256 * 1024 };

/// What the runs on one member share.
pub struct Place {
    pub handle: Arc<MemberHandle>,
    pub followers: Semaphore,
    /// What marks the run directories there as this daemon's.
    pub owner: String,
    questions: Mutex<Vec<Question>>,
    /// Runs whose output is here, and no longer needed there.
    mirrored: Mutex<Vec<String>>,
}

/// What became of this run?
struct Question {
    run: String,
    fence: bool,
    answer: oneshot::Sender<Result<Word, ReachError>>,
}

impl Place {
    /// `instance`: the daemon's.
    pub fn new(handle: Arc<MemberHandle>, instance: &str) -> Arc<Self> {
        let plain = |c: &char| c.is_ascii_alphanumeric() || *c == '-';
        Arc::new(Self {
            handle,
            followers: Semaphore::new(FOLLOWERS),
            owner: instance.chars().filter(plain).collect(),
            questions: Mutex::default(),
            mirrored: Mutex::default(),
        })
    }

    /// What became of `run`. With `fence`, one that has not begun is forbidden to.
    pub async fn probe(&self, link: &Link, run: &str, fence: bool) -> Result<Word, ReachError> {
        let (answer, answered) = oneshot::channel();
        let first = {
            let mut questions = lock(&self.questions);
            questions.push(Question { run: run.to_owned(), fence, answer });
            questions.len() == 1
        };
        if first {
            let gathering = Gathering { place: self };
            tokio::time::sleep(GATHER).await;
            let questions = gathering.take();
            // From here on others gather.
            std::mem::forget(gathering);
            self.ask(link, questions).await;
        }
        // Whoever was to ask for us went away: ask again.
        answered.await.unwrap_or_else(|_| Err(vague(link)))
    }

    async fn ask(&self, link: &Link, questions: Vec<Question>) {
        let how = |fence| if fence { "fence" } else { "look" };
        let names: String =
            questions.iter().map(|q| format!("{} {}\n", q.run, how(q.fence))).collect();
        let command = Script::Probe.command(&["probe", &self.owner]);
        let said = link.ask(&command, Bytes::from(names), BRIEF).await;
        for question in questions {
            let answer = said.clone().and_then(|said| {
                let text = String::from_utf8_lossy(&said.stdout);
                let word = text.lines().find_map(|line| parse(line, &question.run));
                word.ok_or_else(|| vague(link))
            });
            // Nobody waits any more: the fleet is closing.
            let _ = question.answer.send(answer);
        }
    }

    /// CPU time of the processes of `run`, or `Some(None)` if the member cannot say.
    /// `None`: it cannot be asked now.
    pub async fn cpu_of(&self, run: &str) -> Option<Option<Duration>> {
        let link = self.handle.link()?;
        if !link.state().borrow().is_up() {
            return None;
        }
        let said = link.ask(&Script::Usage.command(&[run]), Bytes::new(), BRIEF).await.ok()?;
        let text = String::from_utf8_lossy(&said.stdout);
        Some(text.lines().find_map(|line| match parse(line, run)? {
            Word::Used { millis } => Some(Duration::from_millis(millis)),
            _ => None,
        }))
    }

    /// The output of `run` is here. Returns how many such runs are to be told.
    pub fn is_mirrored(&self, run: &str) -> usize {
        let mut mirrored = lock(&self.mirrored);
        mirrored.push(run.to_owned());
        mirrored.len()
    }

    /// Forgets on the member what is no longer needed there.
    pub async fn sweep(&self, days: u64) -> Result<(), ReachError> {
        let Some(link) = self.handle.link() else { return Ok(()) };
        if !link.state().borrow().is_up() {
            return Ok(());
        }
        let runs = std::mem::take(&mut *lock(&self.mirrored));
        let names: String = runs.iter().map(|run| format!("{run}\n")).collect();
        let command = Script::Sweep.command(&[&days.to_string(), &self.owner]);
        let swept = link.ask(&command, Bytes::from(names), BRIEF).await;
        if swept.is_err() {
            lock(&self.mirrored).extend(runs);
        }
        swept.map(drop)
    }
}

/// Before the folder, a login shell may have said anything.
const FOLDER: &str = "fleetd-folder:";

/// How long a prompt's caller waits for the answer about its folder: he is to be
/// given an id at once, and a member that is slow to answer is not waited for.
const FOLDER_ASKED: Duration = Duration::from_millis(500);

/// `folder` with its links resolved, as the member sees it. `None` if it is not
/// there, or cannot be asked about now.
pub async fn real_folder(link: &Link, folder: &str) -> Option<String> {
    // One that is suspected of being gone would only keep the caller waiting.
    let answers = link.state().borrow().phase == Phase::Online;
    if !answers || folder.contains('\n') {
        return None;
    }
    let folder = quoted(folder);
    let script = format!("cd -- {folder} && printf '%s%s\\n' {FOLDER} \"$(pwd -P)\"\n");
    let limits = Limits { deadline: FOLDER_ASKED, ..BRIEF };
    let answer = link.ask("exec sh", Bytes::from(script), limits).await.ok()?;
    let text = String::from_utf8_lossy(&answer.stdout);
    let folder = text.lines().find_map(|line| line.strip_prefix(FOLDER))?;
    folder.starts_with('/').then(|| folder.to_owned())
}

/// Whoever gathers questions for all. If it goes away, they are dropped, so that
/// those who wait learn of it and ask again.
struct Gathering<'a> {
    place: &'a Place,
}

impl Gathering<'_> {
    fn take(&self) -> Vec<Question> {
        std::mem::take(&mut *lock(&self.place.questions))
    }
}

impl Drop for Gathering<'_> {
    fn drop(&mut self) {
        drop(self.take());
    }
}

/// The member's shell did not say what it should.
pub fn vague(link: &Link) -> ReachError {
    let problem = String::from("its shell gave no answer about a run");
    ReachError::Protocol { host: link.target().host.clone(), problem }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Changed by whole steps only; a panic elsewhere cannot tear it.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
