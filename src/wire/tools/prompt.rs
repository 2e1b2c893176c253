//! The tools about prompts: run one, stop one.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Seconds without output after which a prompt is ended, unless the caller says otherwise.
pub const DEFAULT_PROMPT_TIMEOUT_S: u64 = 300;

/// Arguments of `execute_prompt`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExecutePrompt {
    /// What the model is asked.
    pub prompt: String,
    /// Member to run on, by name. Default: the local machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub member_name: Option<String>,
    /// Member to run on, by id; wins over member_name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub member_id: Option<String>,
    /// Session to go on with; wins over resume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_id: Option<String>,
    /// true: go on with your last session in that folder, if any; false: begin one; or an id.
    #[serde(default)]
    pub resume: ResumeWish,
    /// End it after this many seconds without output. 0: never.
    #[serde(default = "default_timeout")]
    pub timeout_s: u64,
    /// End it after this many seconds in all. Default: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_total_s: Option<u64>,
    /// Tell of a stall after this many seconds without a sign of life. 0: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stall_after_s: Option<u64>,
    /// 1 to 500, where the provider has such a limit.
    #[serde(default = "default_turns")]
    pub max_turns: u32,
    /// cheap, standard, premium, or the provider's name of a model. Default: standard.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Values for {{name}} in the prompt; a name without a value is refused.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub substitutions: BTreeMap<String, String>,
    /// Provider to use, such as claude or codex. Default: the member's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// The provider's agent to use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    /// Folder to work in. Default: the member's work folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_from: Option<String>,
    /// Refuse if the model has less room.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected_context_tokens: Option<u64>,
    /// The same: 4000, 20000, 60000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context_size: Option<ContextSize>,
    /// true: return at once with a stream_id; text and end come as events.
    #[serde(default, rename = "async")]
    pub run_async: bool,
}

/// Whether to go on with a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum ResumeWish {
    Whether(bool),
    Session(String),
}

impl Default for ResumeWish {
    fn default() -> Self {
        Self::Whether(true)
    }
}

/// A rough number of tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ContextSize {
    S,
    M,
    L,
}

impl ContextSize {
    pub fn tokens(self) -> u64 {
        match self {
            Self::S => 4_000,
            Self::M => 20_000,
            Self::L => 60_000,
        }
    }
}

/// Result of `execute_prompt`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ExecutePromptResult {
    /// The task's id; null if it was not taken.
    pub stream_id: Option<String>,
    /// started, queued, completed, failed, cancelled or unknown.
    pub status: String,
    #[serde(flatten)]
    pub ended: EndedPrompt,
}

/// What came of a prompt; all null until it has ended.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EndedPrompt {
    /// The model's answer, foreign text.
    pub response: Option<String>,
    /// Tokens as the provider counts them, cache included.
    pub usage: Option<Value>,
    pub cost_usd: Option<f64>,
    #[serde(rename = "sessionId")]
    pub session_id: Option<String>,
    pub turns: Option<u64>,
    #[serde(rename = "isError")]
    pub is_error: Option<bool>,
    /// Of a failure: auth, overloaded, empty_response and so on.
    pub reason: Option<String>,
    /// What was said of it, foreign text.
    pub message: Option<String>,
}

/// A prompt, as `monitor_task` shows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PromptView {
    pub provider: String,
    /// A part of what the model said so far, foreign text.
    pub text: String,
    pub text_offset: u64,
    pub text_bytes: u64,
    #[serde(flatten)]
    pub ended: EndedPrompt,
}

/// Arguments of `stop_prompt`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StopPrompt {
    /// The prompt to stop.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream_id: Option<String>,
    /// Instead: stop all prompts of this member, by name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub member_name: Option<String>,
    /// The same by id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub member_id: Option<String>,
}

/// Result of `stop_prompt`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct StopPromptResult {
    /// The prompts after the stop.
    pub prompts: Vec<StoppedPrompt>,
}

/// A prompt that was asked to stop.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StoppedPrompt {
    pub stream_id: String,
    /// cancelled, or how it had ended before.
    pub state: String,
}

fn default_timeout() -> u64 {
    DEFAULT_PROMPT_TIMEOUT_S
}

fn default_turns() -> u32 {
    50
}
