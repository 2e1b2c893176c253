//! One call into the library, repeated until it need not wait any more.

use ssh2::{BlockDirections, ErrorCode, Session};

use super::wire::Wire;
use crate::reach::error::ReachError;
use crate::reach::plain::plain;

/// A kind of channel that no server has. It must say so, which is a sign of
/// life that counts for no `MaxSessions` and starts nothing.
pub const PROBE: &str = "probe@fleetd";

const EAGAIN: i32 = -37;
const CHANNEL_FAILURE: i32 = -21;

/// Why a step failed.
#[derive(Debug, thiserror::Error)]
pub enum Step {
    #[error("{}", text_of(.0))]
    Ssh(ssh2::Error),
    #[error("{0}")]
    Failed(String),
}

/// The number of an error of the session; `None` for the file service's.
pub fn code_of(error: &ssh2::Error) -> Option<i32> {
    match error.code() {
        ErrorCode::Session(code) => Some(code),
        ErrorCode::SFTP(_) => None,
    }
}

pub fn text_of(error: &ssh2::Error) -> String {
    plain(error.message(), 160)
}

/// The answer that a probe is sent for.
pub fn is_probe_answer(error: &Step) -> bool {
    matches!(error, Step::Ssh(error) if code_of(error) == Some(CHANNEL_FAILURE))
}

/// Runs `work` on a thread for computing.
pub async fn compute<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, ReachError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| ReachError::Internal(format!("a thread of SSH has failed: {error}")))
}

/// Calls `f` on a thread for computing until it would not block, and waits for
/// the wire in between.
pub async fn step<T: Send + 'static>(
    session: &Session,
    wire: &Wire,
    mut f: impl FnMut(&mut Session) -> Result<T, ssh2::Error> + Send + 'static,
) -> Result<T, Step> {
    loop {
        let mut shared = session.clone();
        let called = compute(move || {
            let result = f(&mut shared);
            (f, result)
        });
        let (again, result) = called.await.map_err(|error| Step::Failed(error.to_string()))?;
        f = again;
        match result {
            Err(error) if code_of(&error) == Some(EAGAIN) => {
                let directions = session.block_directions();
                let write = matches!(directions, BlockDirections::Outbound | BlockDirections::Both);
                let read = !matches!(directions, BlockDirections::Outbound);
                wire.ready(read, write).await;
            }
            result => return result.map_err(Step::Ssh),
        }
    }
}
