//! The run directory: all that the daemon and a supervisor say to each other.
//!
//! | file | written by | what |
//! |---|---|---|
//! | `plan` | daemon | what is to be run; whole before the task is taken |
//! | `spec` | daemon | the same file under its second name: this link is the fence |
//! | `pid` | supervisor | who supervises, what it runs, and in which boot |
//! | `prompt` | daemon | if it is a prompt: how its output is read, and what it claims |
//! | `stdin`, `stdin.end` | daemon | bytes for the command, and that no more will come |
//! | `stdin.taken`, `stdin.closed` | supervisor | how far it has read them; that nobody will |
//! | `stdout`, `stderr` | supervisor | the command's bytes, up to the cap |
//! | `stdout.cut`, `stderr.cut` | supervisor | how many bytes the cap took |
//! | `stop` | daemon | end the command |
//! | `promised` | daemon | in which boot its caller was given the id, the run not begun |
//! | `unbegun` | daemon | the run never began, and its task goes on with another |
//! | `stop.stalled` | daemon | that `stop` is the policy for stalled runs, nobody's wish |
//! | `status` | supervisor | how it ended; appears whole, or not at all |

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::plan::{Pids, Plan, Status};
use super::process::Boot;
use super::spec::Prompted;
use crate::model::OutputStream;

/// What `spec` holds of a run that must not begin.
const FENCED: &[u8] = b"never\n";

/// One run's directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunDir(PathBuf);

/// Where a new run's standard input comes from.
pub enum Input<'a> {
    None,
    Bytes(&'a [u8]),
    /// An earlier run of the same task, which got the same.
    Of(&'a RunDir),
}

impl RunDir {
    pub fn new(path: PathBuf) -> Self {
        Self(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The run's id.
    pub fn name(&self) -> String {
        self.0.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Makes the directory with its plan and input. It does not permit a start.
    /// They survive the daemon as they are, and the machine after [`Self::keep`].
    pub fn prepare(&self, plan: &Plan, input: Input<'_>) -> io::Result<()> {
        std::fs::DirBuilder::new().mode(0o700).create(&self.0)?;
        match input {
            Input::None => {}
            Input::Bytes(bytes) => {
                create(&self.file("stdin"))?.write_all(bytes)?;
            }
            Input::Of(earlier) => {
                // Copies, so that the earlier run's clean-up cannot empty them.
                for name in ["stdin", "stdin.end"] {
                    match std::fs::copy(earlier.file(name), self.file(name)) {
                        Err(error) if error.kind() == ErrorKind::NotFound => {}
                        copied => drop(copied?),
                    }
                }
            }
        }
        write_json(&mut create(&self.file("plan"))?, plan)
    }

    /// Makes what was prepared durable, for a run that the next boot may have to
    /// begin or to repeat. One that begins at once and is not repeated needs only
    /// its names, which [`Self::dispatch`] sees to: whoever reads its plan reads
    /// it in this boot.
    pub fn keep(&self) -> io::Result<()> {
        for name in ["stdin", "prompt", "plan"] {
            if let Some(file) = found(File::open(self.file(name)))? {
                file.sync_data()?;
            }
        }
        self.keep_names()
    }

    fn keep_names(&self) -> io::Result<()> {
        sync_dir(&self.0)?;
        self.0.parent().map_or(Ok(()), sync_dir)
    }

    /// Permits the start: exactly one of this and [`Self::fence`] succeeds, once.
    ///
    /// # Errors
    /// `AlreadyExists` if the run was started or fenced before.
    pub fn dispatch(&self) -> io::Result<()> {
        std::fs::hard_link(self.file("plan"), self.file("spec"))?;
        self.keep_names()
    }

    /// Forbids the start. `true`: the run never began and never will, also if it
    /// was forbidden before: a daemon may die between this and what it tells.
    pub fn fence(&self) -> io::Result<bool> {
        std::fs::DirBuilder::new().mode(0o700).recursive(true).create(&self.0)?;
        let (fence, spec) = (self.file("fence"), self.file("spec"));
        let _ = std::fs::remove_file(&fence);
        let mut file = create(&fence)?;
        file.write_all(FENCED)?;
        file.sync_all()?;
        let linked = std::fs::hard_link(&fence, &spec);
        std::fs::remove_file(&fence)?;
        match linked {
            Ok(()) => {
                sync_dir(&self.0)?;
                Ok(true)
            }
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                Ok(std::fs::read(&spec)? == FENCED)
            }
            Err(error) => Err(error),
        }
    }

    /// Its caller was given the id, and the run had not begun. Holds in this boot
    /// alone, as what is not synced does.
    pub fn promise(&self, boot: &Boot) -> io::Result<()> {
        self.replace("promised", boot, false)
    }

    /// Takes over what holds for all runs of the task: the promise, and that it
    /// is a prompt.
    pub fn inherit(&self, earlier: &Self) -> io::Result<()> {
        for name in ["promised", "prompt"] {
            match std::fs::copy(earlier.file(name), self.file(name)) {
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                copied => drop(copied?),
            }
        }
        Ok(())
    }

    /// Whether the promise was given, in this boot.
    pub fn is_promised(&self) -> io::Result<bool> {
        let promised: Option<Boot> = found(read_json(&self.file("promised")))?;
        Ok(promised == Some(Boot::current()?))
    }

    /// Says that this is a prompt's run; before it is dispatched.
    pub fn write_prompt(&self, prompt: &Prompted) -> io::Result<()> {
        write_json(&mut create(&self.file("prompt"))?, prompt)
    }

    /// `None` if it is a command's run.
    pub fn prompt(&self) -> Option<Prompted> {
        read_json(&self.file("prompt")).ok()
    }

    pub fn plan(&self) -> io::Result<Plan> {
        read_json(&self.file("plan"))
    }

    pub fn spec(&self) -> io::Result<Plan> {
        read_json(&self.file("spec"))
    }

    /// `None` until the supervisor has begun.
    pub fn pids(&self) -> io::Result<Option<Pids>> {
        found(read_json(&self.file("pid")))
    }

    /// Not synced: the pid file means nothing after the machine has gone down.
    pub fn write_pids(&self, pids: &Pids) -> io::Result<()> {
        self.replace("pid", pids, false)
    }

    /// `None` until the run has ended.
    pub fn status(&self) -> io::Result<Option<Status>> {
        found(read_json(&self.file("status")))
    }

    pub fn write_status(&self, status: &Status) -> io::Result<()> {
        self.replace("status", status, true)
    }

    /// Asks the supervisor to end the command; it looks when poked, or soon after.
    pub fn ask_stop(&self) -> io::Result<()> {
        self.mark("stop")
    }

    pub fn has(&self, name: &str) -> bool {
        self.file(name).exists()
    }

    /// Creates an empty file that is a statement by its name.
    pub fn mark(&self, name: &str) -> io::Result<()> {
        match create(&self.file(name)) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
            made => made.map(drop),
        }
    }

    /// A number that a `*.cut` or `*.taken` file holds; 0 if there is none.
    pub fn number(&self, name: &str) -> u64 {
        let text = std::fs::read_to_string(self.file(name)).unwrap_or_default();
        text.trim().parse().unwrap_or(0)
    }

    /// Bytes of a stream that are held, and that the cap took.
    pub fn counts(&self, stream: OutputStream) -> (u64, u64) {
        let kept = std::fs::metadata(self.file(stream.as_str())).map_or(0, |meta| meta.len());
        (kept, self.number(&format!("{}.cut", stream.as_str())))
    }

    /// Takes away what an ended run no longer needs and may hold secrets:
    /// environment and input. The fence stays.
    pub fn forget_secrets(&self) {
        for name in ["stdin", "plan"] {
            let _ = std::fs::remove_file(self.file(name));
        }
        let _ = OpenOptions::new().write(true).truncate(true).open(self.file("spec"));
    }

    fn replace(&self, name: &str, value: &impl Serialize, sync: bool) -> io::Result<()> {
        let temporary = self.file(&format!("{name}.new"));
        let _ = std::fs::remove_file(&temporary);
        let mut file = create(&temporary)?;
        write_json(&mut file, value)?;
        if sync {
            file.sync_all()?;
        }
        std::fs::rename(&temporary, self.file(name))?;
        if sync { sync_dir(&self.0) } else { Ok(()) }
    }
}

/// What was read, good or bad, unless the machine is short of something: that
/// passes, says nothing about the file, and is the outer error.
pub fn lasting<T>(read: io::Result<T>) -> io::Result<io::Result<T>> {
    use nix::libc::{EAGAIN, EMFILE, ENFILE, ENOMEM};
    match read {
        Err(error) if matches!(error.raw_os_error(), Some(EAGAIN | EMFILE | ENFILE | ENOMEM)) => {
            Err(error)
        }
        read => Ok(read),
    }
}

/// Creates a file of ours that is not there yet, mode 0600.
pub fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

fn write_json(file: &mut File, value: &impl Serialize) -> io::Result<()> {
    let mut bytes = serde_json::to_vec(value)?;
    bytes.push(b'\n');
    file.write_all(&bytes)
}

fn read_json<T: DeserializeOwned>(path: &Path) -> io::Result<T> {
    Ok(serde_json::from_slice(&std::fs::read(path)?)?)
}

fn found<T>(read: io::Result<T>) -> io::Result<Option<T>> {
    match read {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Makes names in `dir` durable.
fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::super::plan::StdinKind;
    use super::*;

    fn plan() -> Plan {
        Plan {
            order: 1,
            member: crate::model::MemberId::LOCAL,
            program: super::super::Program::Shell(String::from("true")),
            folder: String::from("/"),
            env: std::collections::BTreeMap::new(),
            stdin: StdinKind::Bytes,
            inactivity_ms: None,
            total_ms: Some(5),
            max_output: 1,
            grace_ms: 1,
            umask: 0o022,
            retries: 0,
            restart: None,
            stall: None,
        }
    }

    #[test]
    fn a_run_is_started_or_fenced_but_never_both() {
        let folder = tempfile::tempdir().unwrap();
        let started = RunDir::new(folder.path().join("started"));
        started.prepare(&plan(), Input::Bytes(b"in")).unwrap();
        started.dispatch().unwrap();
        assert!(!started.fence().unwrap());
        assert_eq!(started.dispatch().unwrap_err().kind(), ErrorKind::AlreadyExists);
        assert_eq!(started.spec().unwrap(), plan());

        let fenced = RunDir::new(folder.path().join("fenced"));
        fenced.prepare(&plan(), Input::Of(&started)).unwrap();
        assert_eq!(std::fs::read(fenced.file("stdin")).unwrap(), b"in");
        assert!(fenced.fence().unwrap());
        assert_eq!(fenced.dispatch().unwrap_err().kind(), ErrorKind::AlreadyExists);
        assert!(fenced.fence().unwrap(), "what never ran stays so");
        fenced.forget_secrets();
        assert!(!fenced.fence().unwrap(), "told already");

        let lost = RunDir::new(folder.path().join("lost"));
        assert!(lost.fence().unwrap(), "a directory that is gone is fenced too");

        assert!(!fenced.is_promised().unwrap());
        fenced.promise(&Boot { id: None, init_start: Some(7) }).unwrap();
        assert!(!fenced.is_promised().unwrap(), "the machine has booted since");
        fenced.promise(&Boot::current().unwrap()).unwrap();
        lost.inherit(&fenced).unwrap();
        assert!(lost.is_promised().unwrap());
    }
}
