//! Finding the daemon, and who is told the token (R40).

use super::*;

#[tokio::test]
async fn the_socket_tells_the_pid_and_needs_no_token() {
    let server = Server::new().on_socket().await;
    server.then(|_| whole(result(json!({"n": 1}))));
    let client = server.client();
    let us = i32::try_from(std::process::id()).unwrap();
    assert_eq!(client.healthz().await.unwrap().pid, Some(us));
    let _: Value = client.call_tool("version", &NoArguments {}).await.unwrap();
    assert_eq!(server.seen()[0].header("authorization"), None);
}

#[tokio::test]
async fn a_socket_of_somebody_else_is_sent_nothing() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("s");
    let listener = UnixListener::bind(&path).unwrap();
    let other = nix::unistd::geteuid().as_raw() + 1;
    let error = link::connect_socket(path, other, PATIENCE).await.unwrap_err();
    assert!(matches!(error, ClientError::ForeignSocket { .. }), "{error}");
    assert_eq!(error.code(), ErrorCode::Forbidden);
    let mut received = Vec::new();
    listener.accept().await.unwrap().0.read_to_end(&mut received).await.unwrap();
    assert!(received.is_empty());
}

#[tokio::test]
async fn nobody_there_is_said_with_what_to_do() {
    let server = Server::new();
    let gone = |error: ClientError| {
        assert!(matches!(error, ClientError::NotRunning), "{error}");
        assert!(error.to_string().contains("`fleetctl up`"));
    };
    gone(server.client().healthz().await.unwrap_err());
    // A socket and a port that nobody listens on any more.
    drop(UnixListener::bind(server.paths().socket().unwrap()).unwrap());
    let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    server.write_runtime_file(port, 0o600);
    gone(server.client().healthz().await.unwrap_err());
}

#[tokio::test]
async fn a_daemon_that_does_not_answer_is_frozen() {
    let server = Server::new();
    let _listener = UnixListener::bind(server.paths().socket().unwrap()).unwrap();
    let client = server.client().with_patience(Duration::from_millis(50));
    let error = client.healthz().await.unwrap_err();
    let us = i32::try_from(std::process::id()).unwrap();
    assert!(matches!(error, ClientError::Frozen { pid: Some(pid), .. } if pid == us), "{error}");
}

#[tokio::test]
async fn the_token_follows_a_proof() {
    let server = Server::new().on_port(KEY).await;
    server.then(|_| whole(result(json!({"n": 1}))));
    let client = server.client();
    assert_eq!(client.healthz().await.unwrap().pid, Some(4711));
    assert_eq!(client.token().await.unwrap(), TOKEN);
    let _: Value = client.call_tool("version", &NoArguments {}).await.unwrap();
    let bearer = format!("Bearer {TOKEN}");
    assert_eq!(server.seen()[0].header("authorization"), Some(bearer.as_str()));
}

#[tokio::test]
async fn a_wrong_proof_gets_no_token() {
    let server = Server::new().on_port([8; 32]).await;
    for error in [
        server.client().token().await.unwrap_err(),
        server.client().call_tool::<_, Value>("version", &NoArguments {}).await.unwrap_err(),
    ] {
        assert!(matches!(error, ClientError::Impostor { .. }), "{error}");
        assert!(!format!("{error:?}").contains(TOKEN));
    }
    assert!(server.seen().is_empty());
}

#[tokio::test]
async fn a_squatter_learns_nothing() {
    use tokio::io::AsyncWriteExt;
    let ok = "HTTP/1.1 200 OK\r\ncontent-length: 15\r\n\r\n{\"status\":\"ok\"}";
    for said in [ok, "HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n", "220 smtp\r\n", ""] {
        let server = Server::new();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        server.write_runtime_file(listener.local_addr().unwrap().port(), 0o600);
        let client = server.client();
        let squatter = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut heard = vec![0; 4096];
            let mut count = stream.read(&mut heard).await.unwrap();
            stream.write_all(said.as_bytes()).await.unwrap();
            stream.shutdown().await.unwrap();
            while count < heard.len() {
                match stream.read(&mut heard[count..]).await {
                    Ok(more) if more > 0 => count += more,
                    _ => break,
                }
            }
            String::from_utf8_lossy(&heard[..count]).into_owned()
        };
        let (error, heard) = tokio::join!(client.token(), squatter);
        assert!(matches!(error, Err(ClientError::Impostor { .. })), "{said}: {error:?}");
        assert!(heard.starts_with("GET /healthz?challenge="), "{heard}");
        assert!(!heard.to_lowercase().contains("authorization"), "{heard}");
        assert!(!heard.contains(TOKEN) && !heard.contains("0707"), "{heard}");
    }
}

#[tokio::test]
async fn files_that_others_may_use_are_not_believed() {
    let server = Server::new();
    server.write_runtime_file(1, 0o644);
    let error = server.client().healthz().await.unwrap_err();
    assert!(matches!(error, ClientError::RuntimeFile { .. }), "{error}");
}
