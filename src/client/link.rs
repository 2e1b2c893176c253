//! One connection to a daemon that has shown who it is and that it answers.

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, HOST, USER_AGENT};
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_util::task::TaskTracker;

use super::ClientError;
use super::runtime::{self, RuntimeFile, Secret};
use crate::config::Paths;
use crate::model::{ErrorCode, Project};

/// The most bytes of an answer that is a status or an error.
pub(super) const SMALL: usize = 64 * 1024;

/// Narrows a caller to one project.
const PROJECT: &str = "fleetd-project";

/// Random bytes of a challenge.
const CHALLENGE: usize = 32;

/// A connection on which the daemon has answered once and, on TCP, proved itself.
pub(super) struct Link {
    sender: SendRequest<Full<Bytes>>,
    peer: Peer,
}

/// Who is at the other end, and how to speak to it.
struct Peer {
    pid: Option<i32>,
    host: String,
    entry: Entry,
    project: Option<Project>,
}

/// What lets a request in.
enum Entry {
    /// The kernel has told the daemon who we are.
    Socket,
    /// On TCP, before and after the token was read.
    Nothing,
    Token(Secret),
}

impl Link {
    /// Finds the daemon and connects, Unix socket first.
    pub async fn open(
        paths: &Paths,
        patience: Duration,
        loops: &TaskTracker,
    ) -> Result<Self, ClientError> {
        if let Some(path) = paths.socket()
            && let Some((stream, pid)) = connect_socket(path, our_uid(), patience).await?
        {
            let sender = handshake(stream, loops).await?;
            // The guard wants a loopback name; the port means nothing here.
            let peer =
                Peer { pid, host: "localhost".to_owned(), entry: Entry::Socket, project: None };
            let mut link = Self { sender, peer };
            link.answers("/healthz", patience).await?;
            return Ok(link);
        }
        Self::open_tcp(paths, patience, loops).await
    }

    async fn open_tcp(
        paths: &Paths,
        patience: Duration,
        loops: &TaskTracker,
    ) -> Result<Self, ClientError> {
        let file = RuntimeFile::read(paths)?;
        let connecting = TcpStream::connect(("127.0.0.1", file.port));
        let stream = match tokio::time::timeout(patience, connecting).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(_)) => return Err(ClientError::NotRunning),
            Err(_) => return Err(frozen(Some(file.pid), patience)),
        };
        let sender = handshake(stream, loops).await?;
        let host = format!("127.0.0.1:{}", file.port);
        let peer = Peer { pid: Some(file.pid), host, entry: Entry::Nothing, project: None };
        let mut link = Self { sender, peer };
        link.prove(&file, patience).await?;
        Ok(link)
    }

    /// Takes up the token, where one is needed. The daemon has proved itself by now.
    pub fn authorize(&mut self, paths: &Paths) -> Result<(), ClientError> {
        if matches!(self.peer.entry, Entry::Nothing) {
            self.peer.entry = Entry::Token(runtime::read_token(paths)?);
        }
        Ok(())
    }

    /// Has every request see and touch only what is of `project`.
    pub fn narrow(&mut self, project: Option<Project>) {
        self.peer.project = project;
    }

    pub fn pid(&self) -> Option<i32> {
        self.peer.pid
    }

    /// A request to this daemon, with everything that is the same for all.
    pub fn request(&self, method: Method, path: &str) -> http::request::Builder {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, &self.peer.host)
            .header(USER_AGENT, concat!("fleetctl/", env!("CARGO_PKG_VERSION")));
        let request = match &self.peer.project {
            Some(project) => request.header(PROJECT, project.as_str()),
            None => request,
        };
        match &self.peer.entry {
            Entry::Token(token) => {
                request.header(AUTHORIZATION, format!("Bearer {}", token.as_str()))
            }
            Entry::Socket | Entry::Nothing => request,
        }
    }

    /// Sends the request and returns an answer of the 200s, its body unread.
    ///
    /// # Errors
    /// [`ClientError::Refused`] with the daemon's own code and words otherwise.
    pub async fn send(
        &mut self,
        request: http::request::Builder,
        body: Bytes,
    ) -> Result<Response<Incoming>, ClientError> {
        let answer = self.send_any(request, body).await?;
        if answer.status().is_success() {
            return Ok(answer);
        }
        let status = answer.status();
        let body = whole_body(answer, SMALL).await.unwrap_or_default();
        Err(refusal(status, &body))
    }

    /// Sends the request and returns any answer.
    pub async fn send_any(
        &mut self,
        request: http::request::Builder,
        body: Bytes,
    ) -> Result<Response<Incoming>, ClientError> {
        let request = request.body(Full::new(body)).map_err(ClientError::protocol)?;
        // The connection's loop may still be busy with the answer before this
        // one. If it has ended instead, nothing was sent: the daemon goes down.
        self.sender.ready().await.map_err(|_| ClientError::NotRunning)?;
        self.sender.send_request(request).await.map_err(|error| {
            if error.is_canceled() { ClientError::NotRunning } else { ClientError::Cut(error) }
        })
    }

    /// Has `/healthz` answered within `patience`.
    async fn answers(&mut self, path: &str, patience: Duration) -> Result<Bytes, ClientError> {
        let pid = self.peer.pid;
        let exchange = async {
            let request = self.request(Method::GET, path);
            let answer = self.send(request, Bytes::new()).await?;
            whole_body(answer, SMALL).await
        };
        match tokio::time::timeout(patience, exchange).await {
            Ok(answer) => answer,
            Err(_) => Err(frozen(pid, patience)),
        }
    }

    /// Has the listener prove that it wrote `file`.
    async fn prove(&mut self, file: &RuntimeFile, patience: Duration) -> Result<(), ClientError> {
        #[derive(Deserialize)]
        struct Proof {
            proof: String,
        }
        let mut challenge = [0; CHALLENGE];
        getrandom::fill(&mut challenge).map_err(ClientError::protocol)?;
        let path = format!("/healthz?challenge={}", runtime::to_hex(&challenge));
        let impostor = ClientError::Impostor { port: file.port };
        let body = match self.answers(&path, patience).await {
            Ok(body) => body,
            // Whatever it is, it does not speak like the daemon.
            Err(ClientError::Refused { .. } | ClientError::Cut(_) | ClientError::Protocol(_)) => {
                return Err(impostor);
            }
            Err(error) => return Err(error),
        };
        match serde_json::from_slice::<Proof>(&body) {
            Ok(answer) if file.proves(&challenge, &answer.proof) => Ok(()),
            _ => Err(impostor),
        }
    }
}

fn our_uid() -> u32 {
    nix::unistd::geteuid().as_raw()
}

/// Connects to the socket and asks the kernel who listens: it has to be `owner`.
/// `None` if nobody listens.
pub(super) async fn connect_socket(
    path: PathBuf,
    owner: u32,
    patience: Duration,
) -> Result<Option<(UnixStream, Option<i32>)>, ClientError> {
    use std::io::ErrorKind;
    let stream = match tokio::time::timeout(patience, UnixStream::connect(&path)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            return match error.kind() {
                ErrorKind::NotFound | ErrorKind::ConnectionRefused => Ok(None),
                // The backlog is full: somebody listens and has long not accepted.
                ErrorKind::WouldBlock => Err(frozen(None, patience)),
                _ => Err(ClientError::Socket { path, source: error }),
            };
        }
        Err(_) => return Err(frozen(None, patience)),
    };
    let peer =
        stream.peer_cred().map_err(|source| ClientError::Socket { path: path.clone(), source })?;
    if peer.uid() != owner {
        return Err(ClientError::ForeignSocket { path, uid: peer.uid() });
    }
    Ok(Some((stream, peer.pid())))
}

async fn handshake<S>(
    stream: S,
    loops: &TaskTracker,
) -> Result<SendRequest<Full<Bytes>>, ClientError>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(ClientError::Cut)?;
    // Its errors reach the request that was cut by them.
    loops.spawn(async move {
        let _ = connection.await;
    });
    Ok(sender)
}

/// Reads a body of at most `most` bytes.
pub(super) async fn whole_body(
    answer: Response<Incoming>,
    most: usize,
) -> Result<Bytes, ClientError> {
    match Limited::new(answer.into_body(), most).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) => Err(match error.downcast::<hyper::Error>() {
            Ok(cut) => ClientError::Cut(*cut),
            Err(other) => ClientError::protocol(other),
        }),
    }
}

/// Makes an error of a refusal: `{"error":{"code":…,"message":…}}`.
pub(super) fn refusal(status: http::StatusCode, body: &[u8]) -> ClientError {
    #[derive(Deserialize)]
    struct Body {
        error: Said,
    }
    #[derive(Deserialize)]
    struct Said {
        code: ErrorCode,
        message: String,
    }
    match serde_json::from_slice::<Body>(body) {
        Ok(Body { error }) => ClientError::Refused { code: error.code, message: error.message },
        Err(_) => ClientError::protocol(format!("HTTP status {status}")),
    }
}

fn frozen(pid: Option<i32>, waited: Duration) -> ClientError {
    ClientError::Frozen { pid, waited }
}
