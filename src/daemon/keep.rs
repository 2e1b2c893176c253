//! Small things that outlive a start: the token, the instance id, the port.

use std::net::{Ipv4Addr, SocketAddr};

use sha2::{Digest, Sha256};
use tokio::net::{TcpListener, UnixListener};
use uuid::Uuid;

use super::place::{self, PlaceError};
use super::{DaemonError, process};
use crate::config::Paths;
use crate::http::Secret;
use crate::mcp::SessionKey;

/// The token that clients show; made once, replaced only by command.
///
/// # Errors
/// If the file is not ours alone or holds something else.
pub fn token(paths: &Paths) -> Result<Secret, DaemonError> {
    let path = paths.token();
    if let Some(text) = place::read_private(&path)? {
        return Secret::parse(text.trim()).ok_or(DaemonError::Token { path });
    }
    let token = new_secret()?;
    place::write_private(&path, token.reveal())?;
    Ok(token)
}

/// 32 random bytes.
///
/// # Errors
/// If the system has none to give.
pub fn new_secret() -> Result<Secret, DaemonError> {
    Secret::generate().map_err(|error| DaemonError::Random(error.to_string()))
}

/// What makes MCP session ids ours: drawn from the token, so that ids survive a
/// restart. A new token ends them at the next one: the key is drawn at the start.
pub fn session_key(token: &Secret) -> SessionKey {
    let digest = Sha256::new().chain_update("mcp session\0").chain_update(token.reveal());
    SessionKey::new(digest.finalize().into())
}

/// This installation's id, the same for as long as its state lives; it stands
/// in the `source` of every event.
///
/// # Errors
/// If the file is not ours alone.
pub fn instance(paths: &Paths) -> Result<String, PlaceError> {
    let path = paths.state.join("instance");
    let held = place::read_private(&path)?.and_then(|text| Uuid::parse_str(text.trim()).ok());
    if let Some(id) = held {
        return Ok(id.to_string());
    }
    let id = Uuid::new_v4().to_string();
    place::write_private(&path, &id)?;
    Ok(id)
}

/// Listens on the configured port, or on the one of the last start, or on a
/// free one that is then kept for the next start.
///
/// # Errors
/// If a configured port is taken.
pub async fn listen(paths: &Paths, fixed: u16) -> Result<(TcpListener, u16), DaemonError> {
    if fixed != 0 {
        let listener =
            bind(fixed).await.map_err(|source| DaemonError::Port { port: fixed, source })?;
        return Ok((listener, fixed));
    }
    let path = paths.port();
    let last: Option<u16> = place::read_private(&path)?
        .and_then(|text| text.trim().parse().ok())
        .filter(|port| *port != 0);
    if let Some(port) = last {
        match bind(port).await {
            Ok(listener) => return Ok((listener, port)),
            Err(error) => {
                tracing::warn!(port, %error, "the port of the last start is taken; taking another")
            }
        }
    }
    let listener = bind(0).await.map_err(|source| DaemonError::Port { port: 0, source })?;
    let port =
        listener.local_addr().map_err(|source| DaemonError::Port { port: 0, source })?.port();
    place::write_private(&path, &port.to_string())?;
    Ok((listener, port))
}

/// tokio sets SO_REUSEADDR, so that a restart does not wait for old connections.
async fn bind(port: u16) -> std::io::Result<TcpListener> {
    TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await
}

/// Listens on the Unix socket. Whoever calls holds the lock, so what lies there
/// is left over from a daemon that is gone. `None` if HOME is too deep for one.
///
/// # Errors
/// If something else than a socket is in the way.
pub fn listen_unix(paths: &Paths) -> Result<Option<UnixListener>, DaemonError> {
    use std::os::unix::fs::FileTypeExt;
    let Some(path) = paths.socket() else {
        tracing::warn!("the home directory's path is too long for a Unix socket; there is none");
        return Ok(None);
    };
    let io = |source| DaemonError::Place(PlaceError::io(&path, source));
    match std::fs::symlink_metadata(&path) {
        Ok(about) if about.file_type().is_socket() => {
            std::fs::remove_file(&path).map_err(io)?;
        }
        Ok(_) => return Err(DaemonError::NotASocket { path }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(source) => return Err(io(source)),
    }
    process::with_private_files(|| UnixListener::bind(&path)).map(Some).map_err(io)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(temp: &tempfile::TempDir) -> Paths {
        let at = |name: &str| temp.path().join(name);
        let paths = Paths {
            home: at("home"),
            state: at("state"),
            runtime: at("run"),
            config: at("fleetd.toml"),
        };
        place::directory(&paths.home).unwrap();
        place::directory(&paths.state).unwrap();
        paths
    }

    #[tokio::test]
    async fn the_port_is_kept_until_it_is_taken() {
        let temp = tempfile::tempdir().unwrap();
        let paths = paths(&temp);
        let (first, port) = listen(&paths, 0).await.unwrap();
        drop(first);
        let (second, again) = listen(&paths, 0).await.unwrap();
        assert_eq!(again, port);
        // Taken: another one, which is kept from then on.
        let (third, other) = listen(&paths, 0).await.unwrap();
        assert_ne!(other, port);
        drop((second, third));
        assert_eq!(listen(&paths, 0).await.unwrap().1, other);
    }

    #[tokio::test]
    async fn a_fixed_port_that_is_taken_is_an_error() {
        let temp = tempfile::tempdir().unwrap();
        let paths = paths(&temp);
        let (_held, port) = listen(&paths, 0).await.unwrap();
        assert!(matches!(listen(&paths, port).await, Err(DaemonError::Port { .. })));
    }

    #[test]
    fn token_and_instance_are_made_once() {
        let temp = tempfile::tempdir().unwrap();
        let paths = paths(&temp);
        let made = token(&paths).unwrap();
        assert_eq!(token(&paths).unwrap(), made);
        assert_eq!(instance(&paths).unwrap(), instance(&paths).unwrap());
        place::write_private(&paths.token(), "short").unwrap();
        assert!(matches!(token(&paths), Err(DaemonError::Token { .. })));
    }

    #[tokio::test]
    async fn a_leftover_socket_is_replaced_and_anything_else_is_not() {
        let temp = tempfile::tempdir().unwrap();
        let paths = paths(&temp);
        drop(listen_unix(&paths).unwrap());
        drop(listen_unix(&paths).unwrap());
        let socket = paths.socket().unwrap();
        std::fs::remove_file(&socket).unwrap();
        std::fs::write(&socket, "precious").unwrap();
        assert!(matches!(listen_unix(&paths), Err(DaemonError::NotASocket { .. })));
        assert_eq!(std::fs::read_to_string(&socket).unwrap(), "precious");
    }
}
