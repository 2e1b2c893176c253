//! The parent of one command: a small process that outlives the daemon.
//!
//! Theory of operation: one thread, one `poll`. It reads the command's pipes
//! into files, feeds its input, and ends it when a limit or the file `stop` says
//! so. It is a session of its own, so no terminal can hang it up, and a
//! subreaper, so nothing that the command starts can slip away from a stop. When
//! the command has ended it writes `status` and is gone; the daemon, today's or
//! tomorrow's, finds that. Nothing here allocates with the size of the output.
//!
//! Service managers: a scope of its own for every run (`systemd-run --scope`)
//! would cost a round trip over D-Bus that is longer than most commands, so the
//! service file says `KillMode=process` instead and runs stay in the cgroup.

mod capture;
mod command;
mod feed;

use std::io::{self, ErrorKind, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1};

use super::plan::{Cause, Pids, Plan, Status, StdinKind};
use super::process::{self, Boot, Identity, signal_tree};
use super::rundir::RunDir;
use crate::model::{Exit, OutputStream, Timestamp};

use capture::Capture;
use feed::Feed;

/// How long a command's leftover children may keep its streams open after its
/// end. They live on after that, as after an ssh session: nobody reads what they
/// say, so they should have been given files to write to.
const DRAIN: Duration = Duration::from_secs(1);

/// How long the tree may outlive KILL (a process can hang in the kernel).
const GIVE_UP: Duration = Duration::from_secs(4);

/// Pause between rounds of KILL: new children may appear until all are gone.
const KILL_ROUND: Duration = Duration::from_millis(20);

/// The daemon's poke is a signal; this look is for one that was lost.
const LOOK: Duration = Duration::from_secs(1);

/// Supervises the run whose directory `path` is, until it has ended.
///
/// Call it first thing in `main`: it closes what was inherited.
pub fn supervise(path: &Path) -> ExitCode {
    let dir = RunDir::new(path.to_owned());
    detach();
    match run(&dir) {
        Ok(()) => ExitCode::SUCCESS,
        // Nobody reads our streams. Without a `status` the daemon says `unknown`.
        Err(_) => ExitCode::FAILURE,
    }
}

/// Leaves everything behind that could end us before the command ends.
fn detach() {
    process::close_inherited();
    // Fails only for a group leader, which somebody started by hand.
    let _ = nix::unistd::setsid();
    #[cfg(target_os = "linux")]
    {
        let _ = nix::sys::prctl::set_child_subreaper(true);
        let _ = nix::sys::prctl::set_name(c"fleetd-run");
    }
}

fn run(dir: &RunDir) -> io::Result<()> {
    let signals = catch_signals()?;
    let plan = dir.spec()?;
    let supervisor = Identity::of(std::process::id())?;
    let mut pids = Pids { supervisor, boot: Boot::current()?, command: None };
    dir.write_pids(&pids)?;
    if dir.has("stop") {
        return dir.write_status(&unborn(Cause::Stopped, None));
    }
    let begun = Outlets::open(dir, &plan)
        .map_err(|error| format!("the files for its output cannot be made: {error}"))
        .and_then(|outlets| {
            let started = (Instant::now(), Timestamp::now());
            Ok((outlets, started, command::start(dir, &plan)?))
        });
    let (outlets, started, running) = match begun {
        Ok(begun) => begun,
        Err(problem) => {
            return dir.write_status(&unborn(Cause::NotStarted, Some(problem)));
        }
    };
    // From here on nothing may keep us from the command's end and its status.
    pids.command = Some(running.pid);
    // Not written on a full disk, say: then the status tells who it was.
    let _ = dir.write_pids(&pids);
    // The end of our standard output tells the daemon that `pid` is complete.
    let _ = nix::unistd::dup2_stdout(&outlets.null);
    let mut supervisor = Supervisor::new(dir, &plan, outlets, running, started);
    supervisor.serve(&signals);
    write_status(dir, &supervisor.status());
    Ok(())
}

/// A full disk delays the truth, it does not change it: goes on until the status
/// is written, or nobody is left to read it.
fn write_status(dir: &RunDir, status: &Status) {
    while dir.write_status(status).is_err() && dir.path().exists() {
        std::thread::sleep(LOOK);
    }
}

/// Everything that a supervisor needs, opened before the command begins.
struct Outlets {
    stdout: Capture,
    stderr: Capture,
    input: Option<feed::Input>,
    null: std::fs::File,
}

impl Outlets {
    fn open(dir: &RunDir, plan: &Plan) -> io::Result<Self> {
        let open_stdin = plan.stdin == StdinKind::Open;
        Ok(Self {
            stdout: Capture::new(dir, OutputStream::Stdout, plan.max_output)?,
            stderr: Capture::new(dir, OutputStream::Stderr, plan.max_output)?,
            input: open_stdin.then(|| feed::Input::open(dir)).transpose()?,
            null: std::fs::File::options().read(true).write(true).open("/dev/null")?,
        })
    }
}

/// All signals that could reach us become bytes: what a terminal, a shutdown or
/// a service manager sends must not end us before `status` is written.
fn catch_signals() -> io::Result<UnixStream> {
    let (signals, sender) = UnixStream::pair()?;
    signals.set_nonblocking(true)?;
    for signal in [SIGCHLD, SIGUSR1, SIGHUP, SIGINT, SIGQUIT, SIGTERM] {
        signal_hook::low_level::pipe::register(signal, sender.try_clone()?)?;
    }
    Ok(signals)
}

fn unborn(cause: Cause, detail: Option<String>) -> Status {
    Status {
        exit: None,
        cause: Some(cause),
        detail,
        pid: None,
        started_ms: None,
        ended_ms: Timestamp::now().millis(),
        duration_ms: 0,
        stdout: super::plan::Count::default(),
        stderr: super::plan::Count::default(),
    }
}

/// A command on its way to its end.
struct Supervisor<'a> {
    dir: &'a RunDir,
    plan: &'a Plan,
    pid: u32,
    started: (Instant, Timestamp),
    stdout: Capture,
    stderr: Capture,
    feed: Option<Feed>,
    /// When a byte was last seen, or the command began.
    active: Instant,
    /// The command's end, and when.
    main: Option<(Exit, Instant)>,
    ending: Option<Ending>,
    /// Nothing of the tree is left.
    childless: bool,
}

/// The tree is being ended.
struct Ending {
    /// `None` if the command had ended by itself and only leftovers are ended.
    cause: Option<Cause>,
    since: Instant,
    killed: Option<Instant>,
}

impl<'a> Supervisor<'a> {
    fn new(
        dir: &'a RunDir,
        plan: &'a Plan,
        outlets: Outlets,
        running: command::Running,
        started: (Instant, Timestamp),
    ) -> Self {
        let Outlets { mut stdout, mut stderr, input, .. } = outlets;
        stdout.connect(running.stdout);
        stderr.connect(running.stderr);
        let feed = input.zip(running.stdin).and_then(|(input, pipe)| Feed::new(input, pipe));
        Self {
            dir,
            plan,
            pid: running.pid,
            started,
            stdout,
            stderr,
            feed,
            active: Instant::now(),
            main: None,
            ending: None,
            childless: false,
        }
    }

    fn serve(&mut self, signals: &UnixStream) {
        loop {
            self.reap();
            self.move_bytes();
            let now = Instant::now();
            self.decide(now);
            if self.is_over(now) {
                break;
            }
            self.sleep(signals, now);
            drain(signals);
        }
        // What the command wrote before its end is in the pipes.
        self.stdout.pull_all();
        self.stderr.pull_all();
    }

    /// Collects every child that has ended: the command, and orphans below it.
    fn reap(&mut self) {
        loop {
            match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) => self.ended(pid, Exit::Code(code)),
                Ok(WaitStatus::Signaled(pid, signal, _)) => {
                    self.ended(pid, Exit::Signal(signal as i32));
                }
                Ok(WaitStatus::StillAlive) => return,
                Ok(_) | Err(Errno::EINTR) => {}
                Err(_) => {
                    self.childless = true;
                    return;
                }
            }
        }
    }

    fn ended(&mut self, pid: nix::unistd::Pid, exit: Exit) {
        if u32::try_from(pid.as_raw()) == Ok(self.pid) && self.main.is_none() {
            self.main = Some((exit, Instant::now()));
        }
    }

    fn move_bytes(&mut self) {
        let moved = self.stdout.pull() | self.stderr.pull();
        if moved {
            self.active = Instant::now();
        }
        if self.feed.as_mut().is_some_and(|feed| !feed.push()) {
            self.feed = None;
        }
    }

    /// Begins to end the tree if there is a reason, and goes on with it.
    fn decide(&mut self, now: Instant) {
        if self.ending.is_none()
            && let Some(cause) = self.reason_to_end(now)
        {
            let cause = self.main.is_none().then_some(cause);
            self.ending = Some(Ending { cause, since: now, killed: None });
            self.signal(Signal::SIGTERM);
            // A stopped process cannot heed TERM.
            self.signal(Signal::SIGCONT);
        }
        let Some(ending) = &mut self.ending else { return };
        let grace = Duration::from_millis(self.plan.grace_ms);
        let due = match ending.killed {
            None => now >= ending.since + grace,
            Some(last) => now >= last + KILL_ROUND,
        };
        if due && !self.childless {
            ending.killed = Some(now);
            self.signal(Signal::SIGKILL);
        }
    }

    fn reason_to_end(&self, now: Instant) -> Option<Cause> {
        let over = |limit: Option<u64>, since: Instant| {
            limit.is_some_and(|limit| now >= since + Duration::from_millis(limit))
        };
        if self.dir.has("stop") {
            Some(if self.dir.has("stop.stalled") { Cause::Stalled } else { Cause::Stopped })
        } else if self.main.is_some() {
            None
        } else if over(self.plan.total_ms, self.started.0) {
            Some(Cause::Total)
        } else if over(self.plan.inactivity_ms, self.active) {
            Some(Cause::Inactivity)
        } else {
            None
        }
    }

    fn signal(&self, signal: Signal) {
        signal_tree(self.main.is_none().then_some(self.pid), signal);
    }

    fn is_over(&self, now: Instant) -> bool {
        let grace = Duration::from_millis(self.plan.grace_ms);
        match (&self.main, &self.ending) {
            (Some(_), Some(_)) if self.childless => true,
            (_, Some(ending)) => now >= ending.since + grace + GIVE_UP,
            (Some((_, since)), None) => {
                (self.stdout.is_closed() && self.stderr.is_closed()) || now >= *since + DRAIN
            }
            (None, None) => false,
        }
    }

    /// Waits until there is something to do.
    fn sleep(&self, signals: &UnixStream, now: Instant) {
        let mut waits = vec![PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
        let pipes = [&self.stdout, &self.stderr];
        let pipes = pipes.into_iter().filter_map(|capture| capture.pipe());
        waits.extend(pipes.map(|pipe: BorrowedFd<'_>| PollFd::new(pipe, PollFlags::POLLIN)));
        if let Some((pipe, flags)) = self.feed.as_ref().and_then(Feed::interest) {
            waits.push(PollFd::new(pipe, flags));
        }
        let until = self.next_look(now).saturating_duration_since(now);
        // Rounded up: a deadline that is not quite reached would spin.
        let millis = u16::try_from(until.as_millis() + 1).unwrap_or(u16::MAX);
        match poll(&mut waits, PollTimeout::from(millis)) {
            Ok(_) | Err(Errno::EINTR) => {}
            // Out of memory, say. The command goes on, and so do we.
            Err(_) => std::thread::sleep(KILL_ROUND),
        }
    }

    /// When something is due even if nothing happens.
    fn next_look(&self, now: Instant) -> Instant {
        let grace = Duration::from_millis(self.plan.grace_ms);
        let limit = |limit: Option<u64>, since: Instant| {
            limit.map(|limit| since + Duration::from_millis(limit))
        };
        let ending = self.ending.as_ref().map(|ending| match ending.killed {
            None => ending.since + grace,
            Some(last) => last + KILL_ROUND,
        });
        let running = self.main.is_none() && self.ending.is_none();
        let limits = [
            limit(self.plan.total_ms, self.started.0).filter(|_| running),
            limit(self.plan.inactivity_ms, self.active).filter(|_| running),
            self.main.map(|(_, since)| since + DRAIN),
            ending,
        ];
        limits.into_iter().flatten().fold(now + LOOK, Instant::min).max(now)
    }

    fn status(&mut self) -> Status {
        let ended = self.main.map_or_else(Instant::now, |(_, at)| at);
        let duration = ended.saturating_duration_since(self.started.0);
        Status {
            exit: self.main.map(|(exit, _)| exit),
            cause: self.ending.as_ref().and_then(|ending| ending.cause),
            detail: None,
            pid: Some(self.pid),
            started_ms: Some(self.started.1.millis()),
            ended_ms: Timestamp::now().millis(),
            duration_ms: u64::try_from(duration.as_millis()).unwrap_or(u64::MAX),
            stdout: self.stdout.finish(),
            stderr: self.stderr.finish(),
        }
    }
}

/// Forgets the signals that woke us; the loop looks at everything anyway.
fn drain(mut signals: &UnixStream) {
    let mut bytes = [0; 64];
    loop {
        match signals.read(&mut bytes) {
            Ok(count) if count > 0 => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            _ => return,
        }
    }
}
