//! Rows of prompts. They outlive their tasks' rows, so that a conversation can
//! be gone on with long after its output was swept.

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::readers::Snapshot;
use super::{StoreError, Tx};
use crate::model::{Project, TaskId, Timestamp};

/// A prompt as the database holds it.
#[derive(Clone, Debug, PartialEq)]
pub struct PromptRow {
    pub task: TaskId,
    pub project: Project,
    pub principal: String,
    pub member: String,
    pub provider: String,
    pub folder: String,
    /// The provider's own id of the conversation, once it is known.
    pub session: Option<String>,
    pub created: Timestamp,
    /// JSON, once it has ended.
    pub result: Option<String>,
}

/// How a prompt ended, as it is stored.
#[derive(Clone, Debug, PartialEq)]
pub struct SettledPrompt {
    /// `None`: there is no session to go on with.
    pub session: Option<String>,
    /// JSON.
    pub result: String,
}

/// Days that a conversation can be gone on with after its last prompt.
const KEEP_MS: i64 = 180 * 24 * 60 * 60 * 1000;

const COLUMNS: &str =
    "task, project, principal, member, provider, folder, session, created, result";

impl Snapshot<'_> {
    /// The task's prompt, if it is one.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn prompt(&self, task: TaskId) -> Result<Option<PromptRow>, StoreError> {
        prompt(self.connection(), task)
    }

    /// The newest prompt that ended in `session` and was like `like`: the same
    /// project, principal, member and provider.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn session(
        &self,
        like: &PromptRow,
        session: &str,
    ) -> Result<Option<PromptRow>, StoreError> {
        let sql = format!(
            "SELECT {COLUMNS} FROM prompt WHERE session = ?1 AND project = ?2 AND principal = ?3
             AND member = ?4 AND provider = ?5 AND result IS NOT NULL ORDER BY created DESC LIMIT 1"
        );
        let values =
            params![session, like.project.as_str(), like.principal, like.member, like.provider];
        Ok(self.connection().prepare_cached(&sql)?.query_row(values, from_row).optional()?)
    }

    /// The session that a prompt like `like` ended in last, in the same folder.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn last_session(&self, like: &PromptRow) -> Result<Option<String>, StoreError> {
        let sql = "SELECT session FROM prompt WHERE project = ?1 AND principal = ?2 AND member = ?3
            AND provider = ?4 AND folder = ?5 AND session IS NOT NULL AND result IS NOT NULL
            ORDER BY created DESC LIMIT 1";
        let values =
            params![like.project.as_str(), like.principal, like.member, like.provider, like.folder];
        let mut statement = self.connection().prepare_cached(sql)?;
        Ok(statement.query_row(values, |row| row.get(0)).optional()?)
    }
}

impl Tx<'_> {
    /// Inserts a prompt, and forgets those that nobody will go on with.
    ///
    /// # Errors
    /// If the database refuses it.
    pub fn put_prompt(&mut self, row: &PromptRow) -> Result<(), StoreError> {
        let before = row.created.millis().saturating_sub(KEEP_MS);
        let sql = "DELETE FROM prompt WHERE created < ?1";
        self.connection.prepare_cached(sql)?.execute([before])?;
        let sql = format!(
            "INSERT OR REPLACE INTO prompt ({COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)"
        );
        self.connection.prepare_cached(&sql)?.execute(params![
            row.task.to_string(),
            row.project.as_str(),
            row.principal,
            row.member,
            row.provider,
            row.folder,
            row.session,
            row.created.millis(),
            row.result,
        ])?;
        Ok(())
    }

    /// Says how a prompt ended.
    ///
    /// # Errors
    /// If the database refuses it.
    pub fn settle_prompt(&mut self, task: TaskId, end: &SettledPrompt) -> Result<(), StoreError> {
        let sql = "UPDATE prompt SET session = ?2, result = ?3 WHERE task = ?1";
        let values = params![task.to_string(), end.session, end.result];
        self.connection.prepare_cached(sql)?.execute(values)?;
        Ok(())
    }
}

fn prompt(connection: &Connection, task: TaskId) -> Result<Option<PromptRow>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM prompt WHERE task = ?1");
    Ok(connection.prepare_cached(&sql)?.query_row([task.to_string()], from_row).optional()?)
}

fn from_row(row: &Row<'_>) -> rusqlite::Result<PromptRow> {
    let invalid = |column: usize| {
        let kind = rusqlite::types::Type::Text;
        rusqlite::Error::InvalidColumnType(column, String::from("prompt"), kind)
    };
    Ok(PromptRow {
        task: row.get::<_, String>(0)?.parse().map_err(|_| invalid(0))?,
        project: Project::parse(&row.get::<_, String>(1)?).map_err(|_| invalid(1))?,
        principal: row.get(2)?,
        member: row.get(3)?,
        provider: row.get(4)?,
        folder: row.get(5)?,
        session: row.get(6)?,
        created: Timestamp::from_millis(row.get(7)?),
        result: row.get(8)?,
    })
}
