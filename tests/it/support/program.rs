//! A program that runs beside the test: what it says as it says it, and its end.

use std::io::{Read, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use nix::sys::signal::Signal;

use super::process::{signal, wait_for};
use super::wait::{PATIENCE, poll};

/// A running program whose three streams are the test's. Dropping it kills it.
pub struct Program {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: Said,
    stderr: Said,
    what: String,
}

/// One stream, read as it comes.
struct Said {
    bytes: Arc<Mutex<Vec<u8>>>,
    reader: Option<JoinHandle<()>>,
}

impl Program {
    pub fn start(mut command: Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let what = format!("{command:?}");
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{what}: {error}"));
        Self {
            stdin: child.stdin.take(),
            stdout: Said::by(child.stdout.take().expect("stdout is piped")),
            stderr: Said::by(child.stderr.take().expect("stderr is piped")),
            child,
            what,
        }
    }

    pub fn stdout(&self) -> String {
        self.stdout.text()
    }

    pub fn stderr(&self) -> String {
        self.stderr.text()
    }

    /// The first `Some` that `look` makes of stdout so far.
    ///
    /// # Panics
    /// With everything it said, if that does not come in time.
    #[track_caller]
    pub fn until<T>(&self, what: &str, mut look: impl FnMut(&str) -> Option<T>) -> T {
        poll(PATIENCE, || look(&self.stdout())).unwrap_or_else(|| {
            panic!("not in time: {what}\n{}\n{}\n{}", self.what, self.stdout(), self.stderr())
        })
    }

    /// Waits until stdout holds `text`.
    #[track_caller]
    pub fn says(&self, text: &str) {
        self.until(text, |said| said.contains(text).then_some(()));
    }

    pub fn write(&mut self, bytes: &[u8]) {
        let stdin = self.stdin.as_mut().expect("stdin is open");
        stdin.write_all(bytes).and_then(|()| stdin.flush()).expect("it reads its input");
    }

    pub fn signal(&self, number: Signal) {
        signal(self.child.id(), number);
    }

    /// Closes its input, waits for its end, and returns its exit status, 128 + n
    /// for signal n, with all that it said.
    #[track_caller]
    pub fn end(mut self) -> (i32, String, String) {
        self.stdin = None;
        let Some(status) = wait_for(&mut self.child, PATIENCE) else {
            panic!("did not end: {}\n{}\n{}", self.what, self.stdout(), self.stderr())
        };
        use std::os::unix::process::ExitStatusExt;
        let code = status.code().or_else(|| status.signal().map(|number| 128 + number));
        (code.expect("ended somehow"), self.stdout.whole(), self.stderr.whole())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Said {
    fn by(mut stream: impl Read + Send + 'static) -> Self {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let held = Arc::clone(&bytes);
        let reader = std::thread::spawn(move || {
            let mut part = [0; 8192];
            while let Ok(count @ 1..) = stream.read(&mut part) {
                held.lock().expect("nobody panics with it").extend_from_slice(&part[..count]);
            }
        });
        Self { bytes, reader: Some(reader) }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes.lock().expect("nobody panics with it")).into_owned()
    }

    /// All of it, once the stream has ended.
    fn whole(&mut self) -> String {
        self.reader.take().map(JoinHandle::join);
        self.text()
    }
}
