//! Why a tool did not do it, for the model or person that called it.

use crate::bus::BusError;
use crate::fleet::FleetError;
use crate::model::{CursorError, ErrorCode, EventError, FilterError, MemberNameError, TaskIdError};
use crate::store::StoreError;

/// A tool's failure. It becomes a result with `isError`, not a protocol error:
/// clients show results to the model, which can mend its call.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error("{0}")]
    Argument(String),
    #[error("this token may not call '{tool}'")]
    Forbidden { tool: &'static str },
    #[error(transparent)]
    Cursor(#[from] CursorError),
    #[error(transparent)]
    Filter(#[from] FilterError),
    #[error(transparent)]
    TaskId(#[from] TaskIdError),
    #[error(transparent)]
    Member(#[from] MemberNameError),
    #[error(transparent)]
    Event(#[from] EventError),
    #[error(transparent)]
    Fleet(#[from] FleetError),
    #[error(transparent)]
    Bus(#[from] BusError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the result could not be encoded")]
    Encode(#[source] serde_json::Error),
    #[error("'{tool}' failed inside fleetd; its log says where")]
    Panic { tool: &'static str },
}

impl Failure {
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Argument(_)
            | Self::Cursor(_)
            | Self::Filter(_)
            | Self::TaskId(_)
            | Self::Member(_) => ErrorCode::InvalidArgument,
            Self::Forbidden { .. } => ErrorCode::Forbidden,
            Self::Event(EventError::TooLarge { .. }) => ErrorCode::TooLarge,
            Self::Event(_) => ErrorCode::InvalidArgument,
            Self::Fleet(error) => error.code(),
            Self::Bus(error) => error.code(),
            Self::Store(error) => error.code(),
            Self::Encode(_) | Self::Panic { .. } => ErrorCode::Internal,
        }
    }
}
