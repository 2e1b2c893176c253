//! Rows of tasks.

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::readers::Snapshot;
use super::{StoreError, Tx};
use crate::model::{Exit, Project, RunId, Task, TaskId, TaskState, Timestamp};

const COLUMNS: &str =
    "id, project, principal, member, state, command, run, pid, created, started, ended,
    exit_code, exit_signal, reason, stop_requested, stdout_bytes, stderr_bytes, stalled";

impl Snapshot<'_> {
    /// The task, whoever it belongs to: the caller checks that.
    pub fn task(&self, id: TaskId) -> Result<Option<Task>, StoreError> {
        task(self.connection(), id)
    }

    /// Tasks in any of `states` (all if empty), newest first, at most `limit`.
    pub fn tasks(&self, states: &[TaskState], limit: usize) -> Result<Vec<Task>, StoreError> {
        let marks = if states.is_empty() {
            String::from("1")
        } else {
            let list: Vec<_> = states.iter().map(|state| format!("'{}'", state.as_str())).collect();
            format!("state IN ({})", list.join(", "))
        };
        let sql =
            format!("SELECT {COLUMNS} FROM task WHERE {marks} ORDER BY created DESC, id LIMIT ?1");
        let mut statement = self.connection().prepare_cached(&sql)?;
        let rows = statement.query_map([i64::try_from(limit).unwrap_or(i64::MAX)], from_row)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// For each member that has open tasks: its name, how many run, how many wait.
    pub fn open_tasks(&self) -> Result<Vec<(String, u64, u64)>, StoreError> {
        let sql = "SELECT member, sum(state != 'queued'), sum(state = 'queued') FROM task
                   WHERE state IN ('queued', 'starting', 'running') GROUP BY member";
        let mut statement = self.connection().prepare_cached(sql)?;
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// The latest run of every task and the task's state: small rows, for sweeping.
    pub fn task_runs(&self) -> Result<Vec<(RunId, TaskState)>, StoreError> {
        let sql = "SELECT run, state FROM task WHERE run IS NOT NULL";
        let mut statement = self.connection().prepare_cached(sql)?;
        let rows = statement
            .query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))?;
        let rows = rows.collect::<Result<Vec<_>, _>>()?;
        let parsed =
            |(run, state): (String, String)| Some((run.parse().ok()?, TaskState::parse(&state)?));
        Ok(rows.into_iter().filter_map(parsed).collect())
    }
}

impl Snapshot<'_> {
    /// The position of the first event of fleetd's own that has one of these ids.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn first_of(
        &self,
        project: &Project,
        ids: &[String; 2],
    ) -> Result<Option<u64>, StoreError> {
        let sql = "SELECT min(seq) FROM event
            WHERE project = ?1 AND publisher = '' AND id IN (?2, ?3)";
        let mut statement = self.connection().prepare_cached(sql)?;
        Ok(statement.query_row(params![project.as_str(), ids[0], ids[1]], |row| row.get(0))?)
    }
}

impl Tx<'_> {
    /// Number of tasks on `member` that have not ended.
    pub fn open_tasks_on(&self, member: &str) -> Result<u64, StoreError> {
        let sql = "SELECT count(*) FROM task
                   WHERE state IN ('queued', 'starting', 'running') AND member = ?1";
        let count = self.connection.prepare_cached(sql)?.query_row([member], |row| row.get(0))?;
        Ok(count)
    }

    /// The task's current row.
    pub fn task(&self, id: TaskId) -> Result<Option<Task>, StoreError> {
        task(self.connection, id)
    }

    /// Inserts or replaces the task's row.
    pub fn put_task(&mut self, task: &Task) -> Result<(), StoreError> {
        let exit = task.exit.map(Exit::parts).unwrap_or_default();
        // Both: the code, and the signal it may stand for.
        let (code, signal) = (exit.code, exit.signal.or(exit.signal_possible));
        let sql = format!(
            "INSERT OR REPLACE INTO task ({COLUMNS})
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18)"
        );
        self.connection.prepare_cached(&sql)?.execute(params![
            task.id.to_string(),
            task.project.as_str(),
            task.principal.as_ref(),
            task.member,
            task.state.as_str(),
            task.command,
            task.run.map(|run| run.to_string()),
            task.pid,
            task.created.millis(),
            task.started.map(Timestamp::millis),
            task.ended.map(Timestamp::millis),
            code,
            signal,
            task.reason,
            task.stop_requested,
            task.stdout_bytes,
            task.stderr_bytes,
            task.stalled.map(|stalled| serde_json::json!(stalled).to_string()),
        ])?;
        Ok(())
    }

    /// Forgets tasks that ended before `before`; returns their runs, whose
    /// directories the caller removes.
    pub fn forget_tasks(
        &mut self,
        before: Timestamp,
        limit: usize,
    ) -> Result<Vec<RunId>, StoreError> {
        let sql = "DELETE FROM task WHERE id IN (
                SELECT id FROM task WHERE coalesce(ended, created) < ?1 AND state NOT IN ('queued', 'starting', 'running') LIMIT ?2
            ) RETURNING run";
        let mut statement = self.connection.prepare_cached(sql)?;
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let runs = statement
            .query_map(params![before.millis(), limit], |row| row.get::<_, Option<String>>(0))?;
        let runs = runs.collect::<Result<Vec<_>, _>>()?;
        Ok(runs.into_iter().flatten().filter_map(|run| run.parse().ok()).collect())
    }
}

fn task(connection: &Connection, id: TaskId) -> Result<Option<Task>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM task WHERE id = ?1");
    Ok(connection.prepare_cached(&sql)?.query_row([id.to_string()], from_row).optional()?)
}

fn from_row(row: &Row<'_>) -> rusqlite::Result<Task> {
    let invalid = |column: usize| {
        rusqlite::Error::InvalidColumnType(
            column,
            String::from("task"),
            rusqlite::types::Type::Text,
        )
    };
    let code: Option<i32> = row.get(11)?;
    let signal: Option<i32> = row.get(12)?;
    let run: Option<String> = row.get(6)?;
    let stalled: Option<String> = row.get(17)?;
    Ok(Task {
        id: row.get::<_, String>(0)?.parse().map_err(|_| invalid(0))?,
        project: Project::parse(&row.get::<_, String>(1)?).map_err(|_| invalid(1))?,
        principal: row.get::<_, String>(2)?.into(),
        member: row.get(3)?,
        state: TaskState::parse(&row.get::<_, String>(4)?).ok_or_else(|| invalid(4))?,
        command: row.get(5)?,
        run: run.map(|run| run.parse().map_err(|_| invalid(6))).transpose()?,
        pid: row.get(7)?,
        created: Timestamp::from_millis(row.get(8)?),
        started: row.get::<_, Option<i64>>(9)?.map(Timestamp::from_millis),
        ended: row.get::<_, Option<i64>>(10)?.map(Timestamp::from_millis),
        exit: match (code, signal) {
            (Some(code), Some(_)) => Some(Exit::Shell(code)),
            (code, signal) => code.map(Exit::Code).or(signal.map(Exit::Signal)),
        },
        reason: row.get(13)?,
        stop_requested: row.get(14)?,
        unreachable_since: None,
        stdout_bytes: row.get(15)?,
        stderr_bytes: row.get(16)?,
        stalled: stalled
            .map(|text| serde_json::from_str(&text).map_err(|_| invalid(17)))
            .transpose()?,
    })
}
