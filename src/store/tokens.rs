//! Tokens of clients: who each stands for, never the token itself.

use std::sync::Arc;

use rusqlite::{Row, params};

use super::readers::Snapshot;
use super::{StoreError, Tx};
use crate::model::{Principal, Project, Scope, Timestamp, ToolSets};

/// A token of a client, as far as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenRow {
    pub name: Project,
    /// SHA-256 of the token. A token has 256 random bits, so nothing slower is
    /// needed to keep it from being guessed.
    pub digest: [u8; 32],
    /// Empty: every project.
    pub projects: Vec<Project>,
    pub scopes: Vec<Scope>,
    /// It may call no other tools.
    pub tools: ToolSets,
    pub created: Timestamp,
}

impl TokenRow {
    /// Who shows this token. Never an administrator, whatever the row says.
    pub fn principal(&self) -> Principal {
        let scopes = self.scopes.iter().copied().filter(|scope| *scope != Scope::Admin);
        Principal {
            id: Arc::from(format!("token/{}", self.name)),
            projects: self.projects.clone(),
            scopes: scopes.collect(),
            tools: self.tools,
        }
    }
}

impl Snapshot<'_> {
    /// Every token, by name.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn tokens(&self) -> Result<Vec<TokenRow>, StoreError> {
        let sql = "SELECT name, digest, projects, scopes, tools, created FROM token ORDER BY name";
        let mut statement = self.connection().prepare_cached(sql)?;
        let rows = statement.query_map([], from_row)?.collect::<Result<Vec<_>, _>>()?;
        // A row that cannot be understood lets nobody in.
        Ok(rows.into_iter().flatten().collect())
    }
}

impl Tx<'_> {
    /// Keeps a token. `false` if there is one of this name.
    ///
    /// # Errors
    /// If the database refuses it.
    pub fn add_token(&mut self, token: &TokenRow) -> Result<bool, StoreError> {
        let sql = "INSERT OR IGNORE INTO token (name, digest, projects, scopes, tools, created)
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
        let added = self.connection.prepare_cached(sql)?.execute(params![
            token.name.as_str(),
            token.digest,
            json(&token.projects),
            json(&token.scopes),
            json(&token.tools),
            token.created.millis(),
        ])?;
        Ok(added > 0)
    }

    /// Forgets a token. `false` if there is none of this name.
    ///
    /// # Errors
    /// If the database refuses it.
    pub fn remove_token(&mut self, name: &str) -> Result<bool, StoreError> {
        let sql = "DELETE FROM token WHERE name = ?1";
        Ok(self.connection.prepare_cached(sql)?.execute([name])? > 0)
    }
}

fn from_row(row: &Row<'_>) -> rusqlite::Result<Option<TokenRow>> {
    let text = |index| row.get::<_, String>(index);
    let (name, projects, scopes, tools) = (text(0)?, text(2)?, text(3)?, text(4)?);
    let (digest, created) = (row.get(1)?, row.get(5)?);
    Ok((|| {
        Some(TokenRow {
            name: Project::parse(&name).ok()?,
            digest,
            projects: serde_json::from_str(&projects).ok()?,
            scopes: serde_json::from_str(&scopes).ok()?,
            tools: serde_json::from_str(&tools).ok()?,
            created: Timestamp::from_millis(created),
        })
    })())
}

/// Lists of names always encode.
fn json<T: serde::Serialize + ?Sized>(list: &T) -> String {
    serde_json::to_string(list).unwrap_or_else(|_| "null".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_row_makes_an_administrator() {
        let row = TokenRow {
            name: Project::parse("ci").unwrap(),
            digest: [0; 32],
            projects: vec![Project::default_project()],
            scopes: vec![Scope::Read, Scope::Admin],
            tools: ToolSets::ALL,
            created: Timestamp::now(),
        };
        let principal = row.principal();
        assert_eq!((&*principal.id, principal.scopes), ("token/ci", vec![Scope::Read]));
    }
}
