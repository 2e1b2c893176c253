//! Arguments and results of the tools: one definition for the MCP server, which
//! derives the schemas from it, and for fleetctl, which is a client of the same
//! tools. Doc comments become the descriptions that a model reads.

mod event;
mod file;
mod member;
mod prompt;
mod status;
mod task;

pub use event::{
    EventsResult, GapView, ListEvents, PublishEvent, PublishEventResult, WaitForEvents,
};
pub use file::{ReceiveFiles, SendFiles, TransferResult, TransferView};
pub use member::{
    AuthType, ComposePermissions, ComposePermissionsResult, ListMembers, ListMembersResult,
    MemberDetail, MemberDetailResult, MemberResult, MemberSelector, MemberSettings, MemberSummary,
    MemberType, MemberView, RegisterMember, RemoveMember, RemoveMemberResult, RoleName,
    SetupSshKey, TextFormat, UpdateMember,
};
pub use prompt::{
    ContextSize, DEFAULT_PROMPT_TIMEOUT_S, EndedPrompt, ExecutePrompt, ExecutePromptResult,
    PromptView, ResumeWish, StopPrompt, StopPromptResult, StoppedPrompt,
};
pub use status::{FleetStatus, JournalStatus, MemberStatus, NoArguments, VersionResult};
pub use task::{
    DEFAULT_TIMEOUT_S, ExecuteCommand, ExecuteCommandResult, ListTasks, ListTasksResult,
    MonitorTask, MonitorTaskResult, MonitoredTask, OnCancel, OutputText, StopTask, StopTaskResult,
    TaskView,
};

/// How many of a kind a list shows.
fn default_limit() -> u32 {
    100
}
