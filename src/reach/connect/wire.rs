//! The socket under a session.

use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::sync::Arc;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{Shutdown, shutdown};
use tokio::io::Interest;
use tokio::net::{TcpStream, UnixStream};

/// A connected socket: the library reads and writes it, the loop waits for it.
pub enum Wire {
    Tcp(TcpStream),
    /// Our end of a pair whose other end is pumped through a jump host.
    Pair(UnixStream),
}

/// The library's share of a wire.
pub struct Shared(pub Arc<Wire>);

impl AsRawFd for Shared {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

impl AsFd for Wire {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(stream) => stream.as_fd(),
            Self::Pair(stream) => stream.as_fd(),
        }
    }
}

impl Wire {
    /// Ends it in both directions, whoever is using it.
    pub fn cut(&self) {
        // Not connected any more: just as well.
        let _ = shutdown(self.as_fd().as_raw_fd(), Shutdown::Both);
    }

    /// Waits until it is readable or writable, as far as that is wanted.
    ///
    /// The library may leave bytes unread when it says that it would block (half
    /// a packet has come), and readiness is told once per change: so the system
    /// is asked before the old news is forgotten.
    pub async fn ready(&self, read: bool, write: bool) {
        let wanted = [
            (read, Interest::READABLE, PollFlags::POLLIN),
            (write, Interest::WRITABLE, PollFlags::POLLOUT),
        ];
        for (_, interest, flags) in wanted.into_iter().filter(|(wanted, ..)| *wanted) {
            // Forgotten only if the answer is no.
            let _ = self.attempt(interest, || self.is(flags));
        }
        let interest = match (read, write) {
            (true, true) => Interest::READABLE | Interest::WRITABLE,
            (false, true) => Interest::WRITABLE,
            _ => Interest::READABLE,
        };
        let waited = match self {
            Self::Tcp(stream) => stream.ready(interest).await,
            Self::Pair(stream) => stream.ready(interest).await,
        };
        // An error of the socket is met by whoever reads it next.
        drop(waited);
    }

    fn is(&self, flags: PollFlags) -> io::Result<()> {
        let mut asked = [PollFd::new(self.as_fd(), flags)];
        match poll(&mut asked, PollTimeout::ZERO) {
            Ok(0) => Err(ErrorKind::WouldBlock.into()),
            _ => Ok(()),
        }
    }

    fn attempt(&self, interest: Interest, f: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.try_io(interest, f),
            Self::Pair(stream) => stream.try_io(interest, f),
        }
    }
}

/// Cuts the wire when it is dropped, unless it was [`Fuse::keep`]t: a call in
/// the library that nobody waits for any more shall end.
pub struct Fuse(Option<Arc<Wire>>);

impl Fuse {
    pub fn new(wire: &Arc<Wire>) -> Self {
        Self(Some(Arc::clone(wire)))
    }

    pub fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for Fuse {
    fn drop(&mut self) {
        if let Some(wire) = &self.0 {
            wire.cut();
        }
    }
}
