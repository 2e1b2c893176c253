//! Through another machine: a tunnel on its link, pumped into a pair of sockets.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use super::error::ReachError;
use super::exec::{Chunk, Exec};
use super::keeper::Keeper;
use super::link::Phase;
use super::pool::Shared;
use super::ssh_config::{Resolved, jump_target};
use super::target::Target;

/// Read from the near end at once.
const PIECE: usize = 64 * 1024;

/// Our end of a way to `resolved`, and the link it rests on: the one to the
/// last jump host, which is reached through those `before` it.
pub(super) async fn through(
    shared: &Arc<Shared>,
    target: &Target,
    resolved: &Resolved,
    last: &str,
    before: &[String],
) -> Result<(UnixStream, Arc<Keeper>), ReachError> {
    let mut jump = jump_target(last)?;
    jump.accept_new = target.accept_new;
    if !before.is_empty() {
        jump.jump = Some(before.join(","));
    }
    let keeper = shared.keeper(&jump);
    let blocked = |source| ReachError::Jump { jump: last.to_owned(), source: Box::new(source) };
    online(&keeper).await.map_err(blocked)?;
    let tunnel = keeper.tunnel(&resolved.host, resolved.port).await.map_err(blocked)?;
    let pair = UnixStream::pair();
    let (near, far) = pair.map_err(|error| ReachError::Internal(error.to_string()))?;
    // It ends with either end.
    shared.driver.spawn(pump(far, tunnel));
    Ok((near, keeper))
}

/// Waits for the jump host; an attempt that fails now is an answer.
async fn online(keeper: &Keeper) -> Result<(), ReachError> {
    let mut states = keeper.state();
    if states.borrow().phase == Phase::Offline {
        // What failed earlier may work now.
        states.borrow_and_update();
        keeper.hurry();
        if states.changed().await.is_err() {
            return Err(ReachError::Closed);
        }
    }
    loop {
        let state = states.borrow_and_update().clone();
        match state.phase {
            Phase::Online | Phase::Suspect => return Ok(()),
            Phase::Offline => return Err(keeper.failure()),
            Phase::Connecting => {}
        }
        if states.changed().await.is_err() {
            return Err(ReachError::Closed);
        }
    }
}

async fn pump(far: UnixStream, mut tunnel: Exec) {
    let Some(input) = tunnel.input.take() else { return };
    let (mut reader, mut writer) = far.into_split();
    let out = async {
        let mut buffer = BytesMut::new();
        loop {
            buffer.reserve(PIECE);
            match reader.read_buf(&mut buffer).await {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
            let piece: Bytes = buffer.split().freeze();
            if input.write(piece).await.is_err() {
                return;
            }
        }
    };
    let back = async {
        while let Some(chunk) = tunnel.next().await {
            if let Chunk::Stdout(bytes) = chunk
                && writer.write_all(&bytes).await.is_err()
            {
                return;
            }
        }
    };
    // Half a way is none: SSH closes both directions together.
    tokio::select! {
        () = out => {}
        () = back => {}
    }
}
