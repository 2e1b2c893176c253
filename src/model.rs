//! The vocabulary: values that every component speaks in.
//!
//! Theory of operation: nothing here does I/O, holds a lock or knows the clock
//! of the machine other than through [`Timestamp::now`]. A value that exists is
//! valid: parsing is the only way in, so nobody below a face checks twice.

mod cursor;
mod error;
mod event;
mod filter;
mod member;
mod principal;
mod task;
mod timestamp;
mod toolset;
mod topic;
mod transfer;

pub use cursor::{Cursor, CursorError, Epoch};
pub use error::ErrorCode;
pub use event::{EventError, MAX_EVENT_BYTES, NewEvent, Severity, Signal};
pub use filter::{Filter, FilterError, Pattern};
pub use member::{
    Member, MemberAuth, MemberFacts, MemberId, MemberName, MemberNameError, MemberOs, MemberPlace,
    ModelTiers, Reachable, Remote, Unattended,
};
pub use principal::{Principal, PrincipalId, Project, ProjectError, Scope};
pub use task::{Exit, OutputStream, RunId, Stalled, Task, TaskId, TaskIdError, TaskState};
pub use timestamp::Timestamp;
pub use toolset::{ToolSet, ToolSetError, ToolSets};
pub use topic::{TOPICS, Topic, TopicError, TopicSpec, topic_spec};
pub use transfer::{Amount, Direction, Transfer};
