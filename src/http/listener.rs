//! The accept loops: they never end by themselves and never spin.

use std::fs::File;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use super::Context;
use super::connection;
use super::guard::Transport;

/// Pause after an accept that found no descriptor or memory. The backlog keeps
/// those who wait; trying at once would only burn a core (R23).
const STARVED: Duration = Duration::from_millis(200);

/// When a silent peer is asked whether it is still there.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(10);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);

/// How long bytes may stay unacknowledged before the peer counts as gone (R17).
#[cfg(target_os = "linux")]
const USER_TIMEOUT: Duration = Duration::from_secs(10);

/// Descriptors set aside for the Unix socket: each accept that finds none left
/// is given one for the connection and one for what the request opens.
const SPARES: usize = 16;

const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\n\
    content-length: 75\r\nconnection: close\r\n\r\n\
    {\"error\":{\"code\":\"exhausted\",\"message\":\"too many connections; try later\"}}\n";

/// File descriptors held back, so that the owner's socket is served when
/// everything else has run out of them.
#[derive(Default)]
pub struct Spares(Mutex<Vec<File>>);

impl Spares {
    /// Sets aside what was given away, as far as the system lets us.
    pub fn refill(&self) {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while held.len() < SPARES {
            let Ok(file) = File::open("/dev/null") else { return };
            held.push(file);
        }
    }

    /// Gives two back to the system; `false` if none is left.
    fn release(&self) -> bool {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let left = held.len().saturating_sub(2);
        let released = left < held.len();
        held.truncate(left);
        released
    }
}

/// Accepts on loopback until the edge closes.
pub async fn accept_tcp(context: Arc<Context>, listener: TcpListener) {
    loop {
        let accepted = tokio::select! {
            () = context.closing.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((socket, _)) => admit_tcp(&context, socket),
            Err(error) if is_starved(&error) => {
                context.metrics.starved_accepts.add();
                tokio::time::sleep(STARVED).await;
            }
            // The peer went away before we came: nothing to do.
            Err(_) => {}
        }
    }
}

fn admit_tcp(context: &Arc<Context>, socket: TcpStream) {
    let Some(place) = context.admission.admit(Transport::Tcp) else {
        // As far as it goes without waiting; an empty socket takes this at once.
        let _ = socket.try_write(FULL);
        return;
    };
    if let Err(error) = prepare(&socket) {
        tracing::debug!(%error, "a connection ended before it began");
        return;
    }
    let served = connection::serve(Arc::clone(context), socket, Transport::Tcp, place);
    context.tracker.spawn(served);
}

fn prepare(socket: &TcpStream) -> io::Result<()> {
    let socket = SockRef::from(socket);
    socket.set_tcp_nodelay(true)?;
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE_IDLE).with_interval(KEEPALIVE_INTERVAL);
    socket.set_tcp_keepalive(&keepalive)?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(USER_TIMEOUT))?;
    Ok(())
}

/// Accepts the owner on the Unix socket until the edge closes.
pub async fn accept_unix(context: Arc<Context>, listener: UnixListener) {
    let ours = match own_uid(&listener) {
        Ok(uid) => uid,
        Err(error) => {
            tracing::error!(%error, "the Unix socket cannot tell who connects; it is not served");
            return;
        }
    };
    loop {
        let accepted = tokio::select! {
            () = context.closing.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((socket, _)) => admit_unix(&context, socket, ours),
            Err(error) if is_starved(&error) => {
                context.metrics.starved_accepts.add();
                if !context.spares.release() {
                    tokio::time::sleep(STARVED).await;
                }
            }
            Err(_) => {}
        }
    }
}

fn admit_unix(context: &Arc<Context>, socket: UnixStream, ours: u32) {
    if !socket.peer_cred().is_ok_and(|peer| peer.uid() == ours) {
        tracing::warn!("refused a connection of another user on the Unix socket");
        return;
    }
    let Some(place) = context.admission.admit(Transport::Unix) else { return };
    let served = connection::serve(Arc::clone(context), socket, Transport::Unix, place);
    context.tracker.spawn(served);
}

/// The uid that owns the socket's file, which is the one we run as: asked of a
/// pair of our own, so that no other component's crate is needed for it.
fn own_uid(_listener: &UnixListener) -> io::Result<u32> {
    let (one, _other) = UnixStream::pair()?;
    Ok(one.peer_cred()?.uid())
}

/// Whether an accept failed because the process or the system has run out.
fn is_starved(error: &io::Error) -> bool {
    const EMFILE: i32 = 24;
    const ENFILE: i32 = 23;
    const ENOMEM: i32 = 12;
    const ENOBUFS: i32 = if cfg!(target_os = "macos") { 55 } else { 105 };
    matches!(error.raw_os_error(), Some(EMFILE | ENFILE | ENOMEM | ENOBUFS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_of_a_full_house_is_well_formed() {
        let text = std::str::from_utf8(FULL).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("content-length: {}\r\n", body.len())), "{}", body.len());
        let json: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!(json["error"]["code"], "exhausted");
    }

    #[test]
    fn spares_are_given_in_pairs_and_set_aside_again() {
        let spares = Spares::default();
        assert!(!spares.release());
        spares.refill();
        for _ in 0..SPARES / 2 {
            assert!(spares.release());
        }
        assert!(!spares.release());
        spares.refill();
        assert!(spares.release());
    }
}
