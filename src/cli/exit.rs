//! Exit statuses (reliability.md): what a script can tell from a number.

use super::launch::End;
use crate::client::ClientError;
use crate::model::ErrorCode;

pub const OK: u8 = 0;
/// Anything without a number of its own, and a wait that ran out.
pub const FAILED: u8 = 1;
pub const USAGE: u8 = 2;
pub const STORAGE: u8 = 5;
pub const AUTH: u8 = 7;
/// A member cannot be reached.
pub const UNREACHABLE: u8 = 8;
pub const UNKNOWN: u8 = 9;
/// `EX_UNAVAILABLE` of sysexits.h: fleetd is not running, or frozen.
pub const UNAVAILABLE: u8 = 69;

/// An error that brings its exit status along.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Ended {
    pub status: u8,
    pub message: String,
}

/// The one place that makes an exit status of an error.
pub fn status(error: &anyhow::Error) -> u8 {
    if is_broken_pipe(error) {
        return OK;
    }
    for cause in error.chain() {
        if let Some(ended) = cause.downcast_ref::<Ended>() {
            return ended.status;
        }
        if let Some(end) = cause.downcast_ref::<End>() {
            return if end.status == OK { FAILED } else { end.status };
        }
        if let Some(error) = cause.downcast_ref::<ClientError>() {
            return of_code(error.code());
        }
    }
    FAILED
}

/// The exit status of a code.
pub fn of_code(code: ErrorCode) -> u8 {
    match code {
        ErrorCode::InvalidArgument | ErrorCode::CursorInFuture => USAGE,
        ErrorCode::NotFound
        | ErrorCode::Conflict
        | ErrorCode::TooLarge
        | ErrorCode::Exhausted
        | ErrorCode::Internal => FAILED,
        ErrorCode::Unauthorized | ErrorCode::Forbidden => AUTH,
        ErrorCode::StorageFull | ErrorCode::StorageDegraded => STORAGE,
        ErrorCode::Unreachable => UNREACHABLE,
        ErrorCode::Unavailable => UNAVAILABLE,
        ErrorCode::UnknownOutcome => UNKNOWN,
    }
}

/// The exit status as which a shell shows signal `number`.
pub fn of_signal(number: i32) -> u8 {
    u8::try_from(128 + number).unwrap_or(u8::MAX)
}

/// Whether the reader of our output has gone, which is how pipes end.
pub fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause
            .downcast_ref::<std::io::Error>()
            .is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;

    #[test]
    fn the_status_is_found_below_context() {
        let error = anyhow::Error::from(ClientError::NotRunning).context("while doing");
        assert_eq!(status(&error), UNAVAILABLE);
        let refused = ClientError::Refused { code: ErrorCode::StorageFull, message: "m".into() };
        assert_eq!(status(&refused.into()), STORAGE);
        let pipe = std::io::Error::from(std::io::ErrorKind::BrokenPipe);
        let error = Err::<(), _>(pipe).context("cannot print").unwrap_err();
        assert_eq!(status(&error), OK);
        assert_eq!(status(&anyhow::anyhow!("odd")), FAILED);
    }

    #[test]
    fn signals_look_like_in_a_shell() {
        assert_eq!((of_signal(9), of_signal(15)), (137, 143));
    }
}
