//! Reading the whole database once in the background, for damage that opening
//! it does not touch.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rusqlite::InterruptHandle;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use super::database::{open_reader, quick_check};
use super::fault::Kind;
use super::shared::Message;

/// Time between attempts to reach a writer whose queue is full.
const RETRY: Duration = Duration::from_millis(10);

/// A check on a thread of its own; it never holds up a start.
pub struct Checker {
    running: Arc<Mutex<Running>>,
    thread: JoinHandle<()>,
}

#[derive(Default)]
struct Running {
    stopped: bool,
    interrupt: Option<InterruptHandle>,
}

impl Checker {
    /// Begins to read; what is found wrong is told to `writer`.
    pub fn start(path: PathBuf, writer: mpsc::WeakSender<Message>) -> std::io::Result<Self> {
        let running = Arc::new(Mutex::new(Running::default()));
        let of_thread = Arc::clone(&running);
        let thread =
            std::thread::Builder::new().name(String::from("store-check")).spawn(move || {
                step_back();
                if let Err(error) = check(&path, &of_thread) {
                    report(error, &writer, &of_thread);
                }
            })?;
        Ok(Self { running, thread })
    }

    /// Ends the check and waits until its connection is closed.
    pub fn stop(self) {
        {
            let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
            running.stopped = true;
            if let Some(interrupt) = &running.interrupt {
                interrupt.interrupt();
            }
        }
        let _ = self.thread.join();
    }
}

fn check(path: &Path, running: &Mutex<Running>) -> rusqlite::Result<()> {
    let connection = open_reader(path)?;
    {
        let mut running = running.lock().unwrap_or_else(PoisonError::into_inner);
        if running.stopped {
            return Ok(());
        }
        running.interrupt = Some(connection.get_interrupt_handle());
    }
    let begun = std::time::Instant::now();
    quick_check(&connection)?;
    tracing::debug!(took = ?begun.elapsed(), "the journal was read through and is sound");
    Ok(())
}

/// Tells the writer, unless it is waiting for us to end: it may be joining this
/// thread while its queue is full.
fn report(error: rusqlite::Error, writer: &mpsc::WeakSender<Message>, running: &Mutex<Running>) {
    match Kind::of(&error) {
        Kind::Damaged => {}
        Kind::Refused => return, // interrupted
        _ => return tracing::warn!(%error, "the journal could not be read through"),
    }
    let mut message = Message::Damaged(error);
    while let Some(writer) = writer.upgrade()
        && !running.lock().unwrap_or_else(PoisonError::into_inner).stopped
    {
        match writer.try_send(message) {
            Err(TrySendError::Full(back)) => message = back,
            Ok(()) | Err(TrySendError::Closed(_)) => return,
        }
        drop(writer);
        std::thread::sleep(RETRY);
    }
}

/// Gives way to everybody else on this core. Elsewhere than on Linux this
/// would slow the whole process.
fn step_back() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::nice(10) {
        tracing::debug!(%error, "the check runs with normal priority");
    }
}
