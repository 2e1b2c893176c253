//! The thread that links live on, the threads that compute for them, and the
//! guard that watches over the first.

use std::future::Future;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::connect::Wire;
use super::error::ReachError;

/// Key exchanges, signatures and name look-ups. Two of them may be held by names
/// and two by agents, which need not end by themselves; the rest do.
const COMPUTING: usize = 6;

/// They go away when nothing connects any more.
const COMPUTING_LINGERS: Duration = Duration::from_secs(1);

/// One call into the library may take so long. Key exchanges take 20 ms; a peer
/// that sends without end what needs no window would keep it for ever.
const LONGEST_CALL: Duration = Duration::from_secs(2);

/// How long the loops may take to say goodbye.
const GOODBYE: Duration = Duration::from_secs(2);

/// Runs futures on the thread of the links.
pub(super) struct Driver {
    handle: Handle,
    tracker: TaskTracker,
    stop: CancellationToken,
    thread: Mutex<Option<JoinHandle<()>>>,
    pub guard: Arc<Guard>,
    // Dropped with the driver: the guard's thread ends.
    _guarding: Sender<()>,
}

impl Driver {
    pub fn start() -> Result<Self, ReachError> {
        let failed = |error: std::io::Error| {
            ReachError::Internal(format!("cannot start the threads of SSH: {error}"))
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(COMPUTING)
            .thread_keep_alive(COMPUTING_LINGERS)
            .thread_name("reach-compute")
            .build()
            .map_err(failed)?;
        let (handle, tracker) = (runtime.handle().clone(), TaskTracker::new());
        let stop = CancellationToken::new();
        let (loops, stopped) = (tracker.clone(), stop.clone());
        let live = move || {
            runtime.block_on(async {
                stopped.cancelled().await;
                loops.close();
                // Whoever does not end in time is dropped with the runtime.
                let _ = tokio::time::timeout(GOODBYE, loops.wait()).await;
            });
            runtime.shutdown_background();
        };
        let thread = Builder::new().name(String::from("reach")).spawn(live).map_err(failed)?;
        let guard = Arc::new(Guard::default());
        let (guarding, told) = channel();
        let watched = Arc::clone(&guard);
        let watch = move || {
            while told.recv_timeout(LONGEST_CALL / 8) == Err(RecvTimeoutError::Timeout) {
                watched.look(Instant::now());
            }
        };
        Builder::new().name(String::from("reach-guard")).spawn(watch).map_err(failed)?;
        let thread = Mutex::new(Some(thread));
        Ok(Self { handle, tracker, stop, thread, guard, _guarding: guarding })
    }

    /// Cancelled when everything shall end.
    pub fn stopped(&self) -> &CancellationToken {
        &self.stop
    }

    pub fn spawn<F>(&self, future: F) -> tokio::task::JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.tracker.spawn_on(future, &self.handle)
    }

    /// Ends all loops and the thread. A second call waits for nothing.
    pub async fn close(&self) {
        self.stop.cancel();
        let thread = locked(&self.thread).take();
        if let Some(thread) = thread {
            // It ends within the goodbye; a panic in it has been reported by then.
            let _ = tokio::task::spawn_blocking(move || thread.join()).await;
        }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Knows which wire is being served, and since when.
#[derive(Default)]
pub(super) struct Guard {
    serving: Mutex<Option<(Instant, Arc<Wire>)>>,
}

/// The wire is being served as long as this lives.
pub(super) struct Serving<'a>(&'a Guard);

impl Guard {
    pub fn serve(&self, wire: &Arc<Wire>) -> Serving<'_> {
        *locked(&self.serving) = Some((Instant::now(), Arc::clone(wire)));
        Serving(self)
    }

    /// Cuts a wire that has been served for too long: the call in the library
    /// then ends with an error.
    fn look(&self, now: Instant) {
        let serving = locked(&self.serving);
        if let Some((since, wire)) = &*serving
            && now.saturating_duration_since(*since) > LONGEST_CALL
        {
            wire.cut();
        }
    }
}

impl Drop for Serving<'_> {
    fn drop(&mut self) {
        *locked(&self.0.serving) = None;
    }
}

/// Nothing that is locked here can be left half done by a panic.
pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt;
    use tokio::net::UnixStream;

    #[tokio::test]
    async fn a_wire_that_is_served_for_too_long_is_cut_and_no_other() {
        let guard = Guard::default();
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let wire = Arc::new(Wire::Pair(ours));
        let now = Instant::now();
        let read = async |stream: &mut UnixStream| {
            let wait = Duration::from_millis(50);
            tokio::time::timeout(wait, stream.read(&mut [0; 1])).await.is_ok()
        };
        drop(guard.serve(&wire));
        guard.look(now + LONGEST_CALL * 2);
        assert!(!read(&mut theirs).await, "it is not being served");
        let serving = guard.serve(&wire);
        guard.look(now + LONGEST_CALL / 2);
        assert!(!read(&mut theirs).await, "not for too long");
        guard.look(now + LONGEST_CALL * 2);
        assert!(read(&mut theirs).await, "cut");
        drop(serving);
    }
}
