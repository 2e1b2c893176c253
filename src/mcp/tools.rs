//! The tools: one table that says what each is called, who may call it, what it
//! takes and gives, and what runs it.
//!
//! A tool stands in the set of its noun, in `all`, and in `default` if [`DEFAULT`]
//! names it: a model reads every description it is offered, so the default set
//! stays small, and the rest is an address away (`/mcp/x/SET`).
//!
//! Checks that hold for every tool are made here, once: the scope, unknown and
//! ill-typed arguments by name, and a panic that must not take the caller along.

mod arguments;
mod context;
mod event;
mod failure;
mod file;
mod member;
mod prompt;
mod schema;
mod status;
mod task;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::model::{Principal, Scope, ToolSet, ToolSets};

pub use arguments::{nearest, read_object as read_arguments};
pub use context::{Call, Context, Deps, Progress};
pub use failure::Failure;
pub use schema::input as input_schema;
pub use task::outcome_of;

/// A JSON object.
pub type Object = Map<String, Value>;

/// What a tool has to say: the value of its output schema, and a text for
/// models and people, if JSON is not the best one.
pub struct Reply<T> {
    pub value: T,
    pub text: Option<String>,
    /// It was done, and what was done failed: clients show that to the model.
    pub failed: bool,
}

impl<T> From<T> for Reply<T> {
    fn from(value: T) -> Self {
        Self { value, text: None, failed: false }
    }
}

/// What came of a call.
pub struct Outcome {
    pub structured: Value,
    pub text: String,
    pub failed: bool,
}

/// What a client may assume of a tool (2025-03-26, tool annotations).
#[derive(Clone, Copy, Debug)]
pub struct Hints {
    pub read_only: bool,
    pub destructive: bool,
    pub idempotent: bool,
    /// It reaches beyond the fleet itself.
    pub open_world: bool,
}

/// It changes nothing.
const READS: Hints =
    Hints { read_only: true, destructive: false, idempotent: true, open_world: false };

/// The tools of the default set: what it takes to begin work, to wait for it, and
/// to look around. About fourteen, and under 25 KB of `tools/list` altogether.
const DEFAULT: [&str; 12] = [
    "execute_command",
    "execute_prompt",
    "stop_prompt",
    "monitor_task",
    "list_tasks",
    "stop_task",
    "list_events",
    "wait_for_events",
    "publish_event",
    "fleet_status",
    "list_members",
    "version",
];

/// What a person reads about a tool.
struct About {
    name: &'static str,
    title: &'static str,
    description: &'static str,
    scope: Scope,
    hints: Hints,
}

type Run = dyn Fn(Context, Value) -> BoxFuture<'static, Result<Outcome, Failure>> + Send + Sync;

/// One row of the table.
pub struct Tool {
    pub name: &'static str,
    pub title: &'static str,
    pub description: &'static str,
    pub scope: Scope,
    pub hints: Hints,
    /// The sets that it stands in.
    pub sets: ToolSets,
    pub input: Arc<Object>,
    pub output: Arc<Object>,
    run: Box<Run>,
}

/// The table, in the order in which clients list it.
pub struct Tools(Vec<Tool>);

impl Tools {
    pub fn new() -> Self {
        let mut tools = Self(Vec::new());
        tools.add(ToolSet::Task, task::rows());
        tools.add(ToolSet::Task, prompt::rows());
        tools.add(ToolSet::Event, event::rows());
        tools.add(ToolSet::Fleet, status::rows());
        tools.add(ToolSet::Member, member::rows());
        tools.add(ToolSet::File, file::rows());
        tools
    }

    /// The rows of one noun.
    fn add(&mut self, noun: ToolSet, rows: impl IntoIterator<Item = Tool>) {
        self.0.extend(rows.into_iter().map(|tool| {
            let sets = tool.sets.with(noun);
            let default = DEFAULT.contains(&tool.name);
            Tool { sets: if default { sets.with(ToolSet::Default) } else { sets }, ..tool }
        }));
    }

    /// The tools of `offer` that `principal` may call.
    pub fn of<'a>(
        &'a self,
        principal: &'a Principal,
        offer: ToolSets,
    ) -> impl Iterator<Item = &'a Tool> {
        self.0.iter().filter(move |tool| tool.sets.meets(offer) && tool.is_for(principal))
    }

    /// The scopes that calling the tools of `sets` takes.
    pub fn scopes(&self, sets: ToolSets) -> Vec<Scope> {
        self.0.iter().filter(|tool| tool.sets.meets(sets)).map(|tool| tool.scope).collect()
    }

    /// The tool of this name.
    ///
    /// # Errors
    /// A message that names the nearest one.
    pub fn find(&self, name: &str) -> Result<&Tool, String> {
        self.0.iter().find(|tool| tool.name == name).ok_or_else(|| {
            let short: String = name.chars().take(64).collect();
            match nearest(name, self.0.iter().map(|tool| tool.name)) {
                Some(near) => format!("unknown tool '{short}'; did you mean '{near}'?"),
                None => format!("unknown tool '{short}'; tools/list shows what there is"),
            }
        })
    }
}

impl Tool {
    /// Whether `principal` may call it: its scopes and its sets of tools allow it.
    pub fn is_for(&self, principal: &Principal) -> bool {
        principal.may(self.scope) && self.sets.meets(principal.tools)
    }

    /// Runs the tool for the caller in `context`.
    ///
    /// # Errors
    /// Whatever kept it from doing what was asked, for the caller to read.
    pub async fn call(&self, context: Context, arguments: Object) -> Result<Outcome, Failure> {
        if !self.is_for(&context.call.principal) {
            return Err(Failure::Forbidden { tool: self.name });
        }
        arguments::check_names(&arguments, &self.input)?;
        let run = (self.run)(context, Value::Object(arguments));
        AssertUnwindSafe(run).catch_unwind().await.unwrap_or_else(|_| {
            tracing::error!(tool = self.name, "a tool panicked");
            Err(Failure::Panic { tool: self.name })
        })
    }
}

/// A row: arguments of type `A`, a result of type `R`, and what makes one of the other.
fn row<A, R, F, W>(about: About, run: F) -> Tool
where
    A: DeserializeOwned + JsonSchema + Send + 'static,
    R: Serialize + JsonSchema + 'static,
    F: Fn(Context, A) -> W + Clone + Send + Sync + 'static,
    W: Future<Output = Result<Reply<R>, Failure>> + Send + 'static,
{
    let run: Box<Run> = Box::new(move |context, arguments| {
        let run = run.clone();
        Box::pin(async move {
            let reply = run(context, arguments::read(arguments)?).await?;
            let structured = serde_json::to_value(&reply.value).map_err(Failure::Encode)?;
            let text = reply.text.unwrap_or_else(|| structured.to_string());
            Ok(Outcome { structured, text, failed: reply.failed })
        })
    });
    Tool {
        name: about.name,
        title: about.title,
        description: about.description,
        scope: about.scope,
        hints: about.hints,
        sets: ToolSets::ALL,
        input: Arc::new(schema::input::<A>()),
        output: Arc::new(schema::output::<R>()),
        run,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_small_and_every_tool_is_described() {
        let tools = Tools::new();
        let owner = Principal::owner();
        let mut bytes = 0;
        for tool in tools.of(&owner, ToolSets::ALL) {
            assert!(!tool.title.is_empty() && tool.description.len() > 20, "{}", tool.name);
            assert_eq!(tool.input["type"], "object", "{}", tool.name);
            assert_eq!(tool.input["additionalProperties"], false, "{}", tool.name);
            assert_eq!(tool.output["type"], "object", "{}", tool.name);
            bytes += serde_json::to_vec(&*tool.input).unwrap().len();
            bytes += serde_json::to_vec(&*tool.output).unwrap().len() + tool.description.len();
        }
        assert!(bytes < 100_000, "{bytes} bytes of a client's context");
    }

    #[test]
    fn a_tool_that_may_not_be_called_is_not_listed() {
        let reader = Principal { scopes: vec![Scope::Read], ..Principal::owner() };
        let tools = Tools::new();
        let names: Vec<_> = tools.of(&reader, ToolSets::ALL).map(|tool| tool.name).collect();
        assert!(names.contains(&"list_events"));
        assert!(!names.contains(&"execute_command") && !names.contains(&"publish_event"));
    }

    #[test]
    fn every_set_has_tools_and_the_default_one_has_few() {
        let (tools, owner) = (Tools::new(), Principal::owner());
        for set in ToolSet::EVERY {
            let sets = ToolSets::of([set]).unwrap();
            assert!(tools.of(&owner, sets).count() > 0, "{}", set.name());
        }
        let default: Vec<_> = tools.of(&owner, ToolSets::DEFAULT).map(|tool| tool.name).collect();
        assert!(default.len() <= 15, "{} tools in the default set", default.len());
        for name in DEFAULT {
            assert!(default.contains(&name), "there is no tool '{name}'");
        }
    }

    #[test]
    fn a_token_of_some_sets_is_shown_what_both_it_and_the_address_have() {
        let events = ToolSets::of([ToolSet::Event]).unwrap();
        let narrow = Principal { tools: events, ..Principal::owner() };
        let tools = Tools::new();
        let names = |offer| tools.of(&narrow, offer).map(|tool| tool.name).collect::<Vec<_>>();
        assert_eq!(names(ToolSets::ALL), ["list_events", "wait_for_events", "publish_event"]);
        assert!(names(ToolSets::of([ToolSet::Task]).unwrap()).is_empty());
        assert!(!tools.scopes(events).contains(&Scope::Run));
    }

    #[test]
    fn an_unknown_tool_is_answered_with_the_nearest() {
        let error = Tools::new().find("execute_comand").err().unwrap();
        assert!(error.contains("'execute_command'"), "{error}");
    }
}
