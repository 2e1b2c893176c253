//! Tokens of other clients.

use bytes::Bytes;
use http::Method;
use http::header::CONTENT_TYPE;
use serde::{Deserialize, Serialize};

use super::{Client, ClientError, link};
use crate::model::{Project, Scope, ToolSets};

/// A token that is to be made.
#[derive(Clone, Debug, Serialize)]
pub struct NewToken {
    pub name: Project,
    /// Empty: the default project, unless `all_projects` says otherwise.
    pub projects: Vec<Project>,
    pub all_projects: bool,
    pub read_only: bool,
    /// It may call no other tools; `None` is every tool.
    pub tools: Option<ToolSets>,
}

/// What is known of a token.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TokenView {
    pub name: Project,
    /// Empty: every project.
    pub projects: Vec<Project>,
    pub scopes: Vec<Scope>,
    pub tools: ToolSets,
    /// RFC 3339.
    pub created: String,
}

impl Client {
    /// Makes a token and returns it; it is shown this once.
    ///
    /// # Errors
    /// `conflict` if there is one of this name.
    pub async fn create_token(&self, token: &NewToken) -> Result<String, ClientError> {
        #[derive(Deserialize)]
        struct Made {
            token: String,
        }
        let body = serde_json::to_vec(token).map_err(ClientError::protocol)?;
        let answer = self.tokens_request(Method::POST, "/tokens", body.into()).await?;
        let made: Made = serde_json::from_slice(&answer).map_err(ClientError::protocol)?;
        Ok(made.token)
    }

    /// Every token but the owner's.
    ///
    /// # Errors
    /// If the daemon refuses.
    pub async fn tokens(&self) -> Result<Vec<TokenView>, ClientError> {
        #[derive(Deserialize)]
        struct Listed {
            tokens: Vec<TokenView>,
        }
        let answer = self.tokens_request(Method::GET, "/tokens", Bytes::new()).await?;
        let listed: Listed = serde_json::from_slice(&answer).map_err(ClientError::protocol)?;
        Ok(listed.tokens)
    }

    /// Revokes a token; what it opened ends at once.
    ///
    /// # Errors
    /// `not_found` if there is none of this name.
    pub async fn revoke_token(&self, name: &Project) -> Result<(), ClientError> {
        let path = format!("/tokens/{name}");
        self.tokens_request(Method::DELETE, &path, Bytes::new()).await.map(drop)
    }

    async fn tokens_request(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<Bytes, ClientError> {
        let mut link = self.link().await?;
        let request = link.request(method, path).header(CONTENT_TYPE, "application/json");
        let answer = link.send(request, body).await?;
        link::whole_body(answer, MOST).await
    }
}

/// The most bytes of a list of tokens.
const MOST: usize = 1024 * 1024;
