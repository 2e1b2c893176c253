//! Knowing at once: that a supervisor has ended, that a file has grown.

use std::io;
use std::time::Duration;

use super::process::Identity;

#[cfg(target_os = "linux")]
pub use linux::{Growth, Supervisor};
#[cfg(not(target_os = "linux"))]
pub use portable::{Growth, Supervisor};

#[cfg(target_os = "linux")]
mod linux {
    use std::collections::HashMap;
    use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
    use std::path::Path;
    use std::sync::{Arc, Mutex, PoisonError};

    use nix::errno::Errno;
    use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};
    use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
    use tokio::io::Interest;
    use tokio::io::unix::AsyncFd;
    use tokio::sync::watch;

    use super::{Duration, Identity, io};

    /// A running supervisor, by a descriptor that can mean no other process.
    pub struct Supervisor(AsyncFd<OwnedFd>);

    impl Supervisor {
        /// `None` if it is gone. An error says nothing about it.
        pub fn find(identity: Identity) -> io::Result<Option<Self>> {
            // Asked first as well: where there are no such descriptors, its end
            // still becomes known.
            if !identity.is_present()? {
                return Ok(None);
            }
            let pid = i32::try_from(identity.pid).ok().and_then(Pid::from_raw);
            let Some(pid) = pid else { return Ok(None) };
            let fd = match pidfd_open(pid, PidfdFlags::empty()) {
                Ok(fd) => fd,
                Err(rustix::io::Errno::SRCH | rustix::io::Errno::INVAL) => return Ok(None),
                Err(error) => return Err(error.into()),
            };
            // Compared after opening: now the number cannot change hands any more.
            if !identity.is_present()? {
                return Ok(None);
            }
            Ok(Some(Self(register(fd)?)))
        }

        /// Waits until it has ended.
        pub async fn ended(&self) {
            // An error would mean that the runtime is going down.
            let _ = self.0.readable().await;
        }

        /// Makes it look at its directory now.
        pub fn poke(&self) {
            let _ = pidfd_send_signal(self.0.get_ref(), Signal::USR1);
        }
    }

    /// Tells tasks that their output files have grown.
    pub struct Growth {
        inotify: AsyncFd<Raw>,
        watches: Mutex<HashMap<WatchDescriptor, watch::Sender<()>>>,
    }

    /// Least time between two looks at the files: a flood of writes costs one
    /// look, and the first write is seen at once.
    const SPACING: Duration = Duration::from_millis(5);

    struct Raw(Inotify);

    impl AsRawFd for Raw {
        fn as_raw_fd(&self) -> RawFd {
            self.0.as_fd().as_raw_fd()
        }
    }

    /// Both descriptors we register are owned by what is registered, and stay
    /// the same for its life: what the newer, unsafe constructor asks to be
    /// promised is true, and this crate has no unsafe code to promise it in.
    #[expect(deprecated, reason = "its successor is an unsafe function")]
    fn register<T: AsRawFd>(fd: T) -> io::Result<AsyncFd<T>> {
        AsyncFd::with_interest(fd, Interest::READABLE)
    }

    /// Ends its watches when dropped.
    pub struct Watched {
        growth: Arc<Growth>,
        descriptors: Vec<WatchDescriptor>,
    }

    impl Growth {
        pub fn new() -> io::Result<Arc<Self>> {
            let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
            let inotify = register(Raw(inotify))?;
            Ok(Arc::new(Self { inotify, watches: Mutex::default() }))
        }

        /// Tells `changed` when one of `files` grows, for as long as the result lives.
        pub fn watch(self: &Arc<Self>, files: &[&Path], changed: &watch::Sender<()>) -> Watched {
            let mut watches = self.lock();
            let mut descriptors = Vec::new();
            for file in files {
                // Out of watches: output is still read at the end, and by offset.
                if let Ok(descriptor) =
                    self.inotify.get_ref().0.add_watch(*file, AddWatchFlags::IN_MODIFY)
                {
                    watches.insert(descriptor, changed.clone());
                    descriptors.push(descriptor);
                }
            }
            Watched { growth: Arc::clone(self), descriptors }
        }

        /// Passes the kernel's news on, without end.
        pub async fn serve(&self) {
            loop {
                let Ok(mut ready) = self.inotify.readable().await else { return };
                match self.inotify.get_ref().0.read_events() {
                    Ok(events) => {
                        let watches = self.lock();
                        for event in events {
                            if let Some(changed) = watches.get(&event.wd) {
                                changed.send_replace(());
                            } else if event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW) {
                                watches.values().for_each(|changed| {
                                    changed.send_replace(());
                                });
                            }
                        }
                    }
                    Err(Errno::EAGAIN) => ready.clear_ready(),
                    Err(_) => {}
                }
                drop(ready);
                tokio::time::sleep(SPACING).await;
            }
        }

        fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<WatchDescriptor, watch::Sender<()>>> {
            self.watches.lock().unwrap_or_else(PoisonError::into_inner)
        }
    }

    impl Drop for Watched {
        fn drop(&mut self) {
            let mut watches = self.growth.lock();
            for descriptor in &self.descriptors {
                watches.remove(descriptor);
                let _ = self.growth.inotify.get_ref().0.rm_watch(*descriptor);
            }
        }
    }
}

/// Looks again and again, where the system offers nothing better that we use.
#[cfg(not(target_os = "linux"))]
mod portable {
    use std::path::Path;
    use std::sync::{Arc, Mutex, PoisonError, Weak};

    use tokio::sync::watch;

    use super::{Duration, Identity, io};

    const LOOK: Duration = Duration::from_millis(50);

    pub struct Supervisor(Identity);

    impl Supervisor {
        pub fn find(identity: Identity) -> io::Result<Option<Self>> {
            Ok(identity.is_present()?.then_some(Self(identity)))
        }

        pub async fn ended(&self) {
            while self.0.is_present().unwrap_or(true) {
                tokio::time::sleep(LOOK).await;
            }
        }

        pub fn poke(&self) {
            let pid = i32::try_from(self.0.pid).map(nix::unistd::Pid::from_raw);
            if let (Ok(pid), Ok(true)) = (pid, self.0.is_present()) {
                let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGUSR1);
            }
        }
    }

    #[derive(Default)]
    pub struct Growth(Mutex<Vec<Weak<watch::Sender<()>>>>);

    pub struct Watched {
        _changed: Arc<watch::Sender<()>>,
    }

    impl Growth {
        pub fn new() -> io::Result<Arc<Self>> {
            Ok(Arc::default())
        }

        pub fn watch(self: &Arc<Self>, _files: &[&Path], changed: &watch::Sender<()>) -> Watched {
            let changed = Arc::new(changed.clone());
            let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            all.push(Arc::downgrade(&changed));
            Watched { _changed: changed }
        }

        pub async fn serve(&self) {
            loop {
                tokio::time::sleep(LOOK).await;
                let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
                all.retain(|changed| {
                    changed.upgrade().map(|changed| changed.send_replace(())).is_some()
                });
            }
        }
    }
}
