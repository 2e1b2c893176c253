//! Host keys of members.

use bytes::Bytes;
use http::Method;
use http::header::CONTENT_TYPE;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Client, ClientError, link};

/// The most bytes of an answer.
const MOST: usize = 64 * 1024;

/// What a member shows, and what is trusted.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct HostKeyView {
    pub member_id: String,
    pub name: String,
    /// `SHA256:…`
    pub trusted: Option<String>,
    pub algorithm: String,
    pub offered: String,
}

impl Client {
    /// The host key that a member shows now, and the one that is trusted.
    ///
    /// # Errors
    /// `not_found`, or why it cannot be reached.
    pub async fn host_key(&self, member: &str) -> Result<HostKeyView, ClientError> {
        let answer = self.host_key_request(Method::GET, member, Bytes::new()).await?;
        serde_json::from_slice(&answer).map_err(ClientError::protocol)
    }

    /// Trusts the key of this fingerprint, if the member still shows it.
    ///
    /// # Errors
    /// The same, or that it shows another key.
    pub async fn trust(&self, member: &str, fingerprint: &str) -> Result<(), ClientError> {
        let body = json!({ "fingerprint": fingerprint }).to_string();
        self.host_key_request(Method::POST, member, body.into()).await.map(drop)
    }

    async fn host_key_request(
        &self,
        method: Method,
        member: &str,
        body: Bytes,
    ) -> Result<Bytes, ClientError> {
        let mut link = self.link().await?;
        let path = format!("/members/{member}/hostkey");
        let request = link.request(method, &path).header(CONTENT_TYPE, "application/json");
        let answer = link.send(request, body).await?;
        link::whole_body(answer, MOST).await
    }
}
