//! MCP as it stands on the wire, for the bridge: JSON in, JSON out.

use std::collections::VecDeque;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{Method, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;

use super::{Client, ClientError, link};
use crate::wire::{SseFrame, SseParser};

/// The most bytes of an answer that comes whole.
const MOST: usize = 64 * 1024 * 1024;

const SESSION: &str = "mcp-session-id";

/// A session of the legacy era (2025-11-25, transports).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct McpSession {
    pub id: String,
    /// The revision that the handshake settled on.
    pub revision: String,
}

/// An answer to one message, or the session's own stream.
pub struct McpAnswer {
    pub status: StatusCode,
    /// The id of the session that the message began.
    pub session: Option<String>,
    ready: VecDeque<SseFrame>,
    rest: Option<(Incoming, SseParser)>,
}

impl Client {
    /// Posts one message, or a batch, in `session`, or none for a handshake.
    ///
    /// # Errors
    /// What keeps it from being taken by the protocol; what the protocol itself
    /// says no to is an answer.
    pub async fn post_mcp(
        &self,
        session: Option<&McpSession>,
        message: Bytes,
    ) -> Result<McpAnswer, ClientError> {
        let mut link = self.link().await?;
        let request = link
            .request(Method::POST, &self.mcp_path())
            .header(CONTENT_TYPE, "application/json")
            .header(ACCEPT, "application/json, text/event-stream");
        McpAnswer::of(&mut link, within(request, session), message).await
    }

    /// Ends `session`: nobody is to come back to it.
    ///
    /// # Errors
    /// As [`Client::post_mcp`].
    pub async fn end_mcp(&self, session: &McpSession) -> Result<(), ClientError> {
        let mut link = self.link().await?;
        let request = within(link.request(Method::DELETE, "/mcp"), Some(session));
        McpAnswer::of(&mut link, request, Bytes::new()).await.map(drop)
    }

    /// Opens the session's own stream, after `last`, the id of a frame.
    ///
    /// # Errors
    /// As [`Client::post_mcp`].
    pub async fn listen_mcp(
        &self,
        session: &McpSession,
        last: Option<&str>,
    ) -> Result<McpAnswer, ClientError> {
        let mut link = self.link().await?;
        let request = link.request(Method::GET, &self.mcp_path());
        let mut request = request.header(ACCEPT, "text/event-stream");
        if let Some(last) = last {
            request = request.header("Last-Event-ID", last);
        }
        McpAnswer::of(&mut link, within(request, Some(session)), Bytes::new()).await
    }

    fn mcp_path(&self) -> String {
        self.offer.map_or_else(|| "/mcp".to_owned(), |tools| format!("/mcp/x/{tools}"))
    }
}

fn within(request: http::request::Builder, session: Option<&McpSession>) -> http::request::Builder {
    match session {
        Some(session) => {
            request.header(SESSION, &session.id).header("mcp-protocol-version", &session.revision)
        }
        None => request,
    }
}

impl McpAnswer {
    async fn of(
        link: &mut link::Link,
        request: http::request::Builder,
        body: Bytes,
    ) -> Result<Self, ClientError> {
        let answer = link.send_any(request, body).await?;
        let status = answer.status();
        let header = |name: &str| answer.headers().get(name).and_then(|value| value.to_str().ok());
        let session = header(SESSION).map(str::to_owned);
        if header("content-type").is_some_and(|kind| kind.starts_with("text/event-stream")) {
            let rest = Some((answer.into_body(), SseParser::new()));
            return Ok(Self { status, session, ready: VecDeque::new(), rest });
        }
        let body = link::whole_body(answer, MOST).await?;
        let text = String::from_utf8_lossy(&body).into_owned();
        // A refusal before the protocol (401, 403, 503) has our own form.
        if !status.is_success() && !text.contains("\"jsonrpc\"") {
            return Err(link::refusal(status, &body));
        }
        let frame = SseFrame { data: Some(text), ..SseFrame::default() };
        let ready = Some(frame).filter(|_| !body.is_empty()).into_iter().collect();
        Ok(Self { status, session, ready, rest: None })
    }

    /// The next message, or a frame that only carries an id; `None` at the end.
    /// Dropping the future loses nothing.
    ///
    /// # Errors
    /// If the connection breaks, or is silent for longer than it may be.
    pub async fn next(&mut self) -> Result<Option<SseFrame>, ClientError> {
        loop {
            if let Some(frame) = self.ready.pop_front() {
                return Ok(Some(frame));
            }
            let Some((body, parser)) = &mut self.rest else { return Ok(None) };
            let frame = match tokio::time::timeout(super::events::SILENCE, body.frame()).await {
                Ok(Some(frame)) => frame.map_err(ClientError::Cut)?,
                Ok(None) => {
                    self.rest = None;
                    continue;
                }
                Err(_) => {
                    let waited = super::events::SILENCE;
                    return Err(ClientError::Frozen { pid: None, waited });
                }
            };
            if let Some(bytes) = frame.data_ref() {
                parser.push(bytes);
                self.ready.extend(std::iter::from_fn(|| parser.next_frame()));
            }
        }
    }
}
