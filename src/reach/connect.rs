//! From a target to a session that is let in.
//!
//! Waiting happens on the loop, computing on a few threads beside it: a machine
//! that does not answer holds none of them. Whoever gives up cuts the wire, so
//! that a call in the library ends as well.

mod auth;
mod key;
mod step;
mod wire;

use std::net::ToSocketAddrs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ssh2::{MethodType, Session};
use tokio::net::TcpStream;

use super::error::ReachError;
use super::keeper::Keeper;
use super::known_hosts::{HostKey, KnownHosts, Verdict, name, pin};
use super::plain::plain;
use super::pool::Shared;
use super::ssh_config::{Resolved, resolve};
use super::target::{Facts, Target};
pub(super) use step::{PROBE, code_of, is_probe_answer, text_of};
use step::{Step, compute, step};
use wire::Fuse;
pub(super) use wire::Wire;

/// ChaCha20-Poly1305 is the one cipher whose packets were never mishandled
/// before the host key is checked; AES in counter mode is for peers that must
/// follow FIPS. The library adds strict key exchange by itself.
const CIPHERS: &str = "chacha20-poly1305@openssh.com,aes256-ctr";
/// Not the encrypt-then-MAC kinds, whose length check was wrong once.
const MACS: &str = "hmac-sha2-256,hmac-sha2-512";
const KEY_EXCHANGES: &str = "curve25519-sha256,curve25519-sha256@libssh.org,ecdh-sha2-nistp256,\
    ecdh-sha2-nistp384,ecdh-sha2-nistp521,diffie-hellman-group16-sha512,\
    diffie-hellman-group18-sha512,diffie-hellman-group14-sha256";
/// Best first; those that are known of a host come before the rest.
const HOST_KEYS: [&str; 6] = [
    "ssh-ed25519",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "rsa-sha2-512",
    "rsa-sha2-256",
];

/// A blocking call that is left when a session is taken apart may take so long;
/// its wire is cut by then, so that it takes no time at all.
const LAST_CALLS_MS: u32 = 500;

/// A session that is let in, and what it rests on.
pub(super) struct Ready {
    pub session: Session,
    pub wire: Arc<Wire>,
    pub facts: Facts,
    /// The way through the jump host ends with it.
    pub jump: Option<Arc<Keeper>>,
}

/// A session before anything was offered to the peer.
struct Greeted {
    session: Session,
    wire: Arc<Wire>,
    fuse: Fuse,
    jump: Option<Arc<Keeper>>,
    resolved: Resolved,
    /// How `known_hosts` calls it.
    name: String,
    blob: Vec<u8>,
    verdict: Verdict,
    begun: Instant,
}

/// Connects, checks the host key and authenticates, within the deadline.
pub(super) async fn connect(shared: &Arc<Shared>, target: &Target) -> Result<Ready, ReachError> {
    within(shared, target, async {
        let greeted = greet(shared, target).await?;
        let newly_trusted = admit(shared, target, &greeted).await?;
        let Greeted { session, wire, fuse, jump, resolved, blob, begun, .. } = greeted;
        let identity = auth::authenticate(shared, target, &resolved, &session, &wire).await?;
        let connect_time = begun.elapsed();
        let asked = Instant::now();
        let answer = step(&session, &wire, |s| s.channel_open(PROBE, 1, 1, None).map(drop)).await;
        if let Err(error) = answer
            && !is_probe_answer(&error)
        {
            return Err(lost_at(&target.host, &error));
        }
        fuse.keep();
        let facts = Facts {
            host: resolved.host,
            port: resolved.port,
            user: resolved.user,
            host_key: HostKey::of(&blob),
            newly_trusted,
            identity,
            connect_time,
            latency: asked.elapsed(),
            banner: plain(&String::from_utf8_lossy(session.banner_bytes().unwrap_or(b"")), 120),
        };
        Ok(Ready { session, wire, facts, jump })
    })
    .await
}

/// The key that the host shows. `Ok(Err(…))` is what the files have against it.
/// With `expected`, it is pinned if it is that one.
pub(super) async fn host_key(
    shared: &Arc<Shared>,
    target: &Target,
    expected: Option<Option<&str>>,
) -> Result<HostKey, ReachError> {
    within(shared, target, async {
        let greeted = greet(shared, target).await?;
        let offered = HostKey::of(&greeted.blob);
        let Some(expected) = expected else { return Ok(offered) };
        if let Verdict::Revoked { place } = greeted.verdict {
            return Err(ReachError::HostKeyRevoked { host: target.host.clone(), offered, place });
        }
        if let Some(expected) = expected.filter(|expected| *expected != offered.fingerprint) {
            let (known, place) = (plain(expected, 80), String::from("your request"));
            return Err(ReachError::HostKeyChanged {
                host: target.host.clone(),
                offered,
                known,
                place,
            });
        }
        write_pin(shared, greeted.name, greeted.blob).await?;
        Ok(offered)
    })
    .await
}

async fn within<T>(
    shared: &Shared,
    target: &Target,
    connecting: impl Future<Output = Result<T, ReachError>>,
) -> Result<T, ReachError> {
    let deadline = shared.options.connect_deadline;
    match tokio::time::timeout(deadline, connecting).await {
        Ok(result) => result,
        Err(_) => {
            let host = target.host.clone();
            Err(ReachError::TimedOut { host, seconds: deadline.as_secs() })
        }
    }
}

/// Up to the host key and what the files say of it.
async fn greet(shared: &Arc<Shared>, target: &Target) -> Result<Greeted, ReachError> {
    let (options, asked) = (Arc::clone(&shared.options), target.clone());
    let (resolved, known) = compute(move || {
        let resolved = resolve(&options, &asked)?;
        Ok::<_, ReachError>((resolved, KnownHosts::read(&options)?))
    })
    .await??;
    let name = name(&resolved.host, resolved.port);
    let (wire, jump) = reach_wire(shared, target, &resolved).await?;
    let (wire, begun) = (Arc::new(wire), Instant::now());
    let fuse = Fuse::new(&wire);
    let session = prepare(&wire, &known.algorithms(&name))
        .map_err(|error| ReachError::Internal(format!("cannot prepare a session: {error}")))?;
    step(&session, &wire, Session::handshake)
        .await
        .map_err(|error| no_handshake(&target.host, &error))?;
    let blob = session.host_key().map(|(blob, _)| blob.to_vec());
    let blob = blob.ok_or_else(|| ReachError::Protocol {
        host: target.host.clone(),
        problem: String::from("it shows no host key"),
    })?;
    let verdict = known.judge(&name, &blob);
    Ok(Greeted { session, wire, fuse, jump, resolved, name, blob, verdict, begun })
}

/// Decides whether anything may be offered to the peer; `true`: its key was
/// pinned just now.
async fn admit(
    shared: &Arc<Shared>,
    target: &Target,
    greeted: &Greeted,
) -> Result<bool, ReachError> {
    let (host, offered) = (target.host.clone(), HostKey::of(&greeted.blob));
    Err(match greeted.verdict.clone() {
        Verdict::Known => return Ok(false),
        Verdict::Unknown if target.accept_new => match pin_unknown(shared, greeted).await? {
            Verdict::Unknown => return Ok(true),
            Verdict::Known => return Ok(false),
            meanwhile => against(meanwhile, host, offered),
        },
        verdict => against(verdict, host, offered),
    })
}

/// What a verdict has against the key.
fn against(verdict: Verdict, host: String, offered: HostKey) -> ReachError {
    match verdict {
        Verdict::Known | Verdict::Unknown => ReachError::HostKeyUnknown { host, offered },
        Verdict::Changed { known, place } => {
            ReachError::HostKeyChanged { host, offered, known, place }
        }
        Verdict::Revoked { place } => ReachError::HostKeyRevoked { host, offered, place },
        Verdict::Certified { place } => ReachError::HostKeyCertified { host, offered, place },
    }
}

/// Pins the key if the files say nothing of the host by now either: between the
/// verdict and this somebody may have trusted another.
async fn pin_unknown(shared: &Arc<Shared>, greeted: &Greeted) -> Result<Verdict, ReachError> {
    let _one_writer = shared.pins.lock().await;
    let (options, name) = (Arc::clone(&shared.options), greeted.name.clone());
    let blob = greeted.blob.clone();
    compute(move || {
        let verdict = KnownHosts::read(&options)?.judge(&name, &blob);
        if verdict == Verdict::Unknown {
            pin(&options.known_hosts, &name, &blob)?;
        }
        Ok(verdict)
    })
    .await?
}

async fn write_pin(shared: &Arc<Shared>, name: String, blob: Vec<u8>) -> Result<(), ReachError> {
    let _one_writer = shared.pins.lock().await;
    let path = shared.options.known_hosts.clone();
    compute(move || pin(&path, &name, &blob)).await?
}

fn prepare(wire: &Arc<Wire>, known: &[String]) -> Result<Session, ssh2::Error> {
    let mut session = Session::new()?;
    session.set_tcp_stream(wire::Shared(Arc::clone(wire)));
    session.set_blocking(false);
    session.set_timeout(LAST_CALLS_MS);
    session.method_pref(MethodType::Kex, KEY_EXCHANGES)?;
    session.method_pref(MethodType::HostKey, &host_keys(known))?;
    for (cipher, mac) in
        [(MethodType::CryptCs, MethodType::MacCs), (MethodType::CryptSc, MethodType::MacSc)]
    {
        session.method_pref(cipher, CIPHERS)?;
        session.method_pref(mac, MACS)?;
    }
    Ok(session)
}

/// What is known of the host comes first: a server that has several keys shall
/// show the one we can check.
fn host_keys(known: &[String]) -> String {
    let is_known = |algorithm: &&str| {
        // An RSA key is known by another name than its signatures.
        let kind = if algorithm.starts_with("rsa-") { "ssh-rsa" } else { algorithm };
        known.iter().any(|known| known == kind)
    };
    let (first, rest): (Vec<&str>, Vec<&str>) = HOST_KEYS.into_iter().partition(|a| is_known(a));
    [first, rest].concat().join(",")
}

async fn reach_wire(
    shared: &Arc<Shared>,
    target: &Target,
    resolved: &Resolved,
) -> Result<(Wire, Option<Arc<Keeper>>), ReachError> {
    if let Some((last, before)) = resolved.jumps.split_last() {
        let (wire, jump) = super::jump::through(shared, target, resolved, last, before).await?;
        return Ok((Wire::Pair(wire), Some(jump)));
    }
    let unreachable = |problem: String| ReachError::Unreachable {
        host: target.host.clone(),
        problem: plain(&problem, 200),
    };
    // A name server that is silent shall not hold every thread: whoever gives up
    // leaves a thread behind, which holds the permit until it is back.
    let permit = Arc::clone(&shared.names).acquire_owned().await;
    let place = (resolved.host.clone(), resolved.port);
    let looked_up = compute(move || {
        let _permit = permit;
        Ok::<Vec<_>, std::io::Error>(place.to_socket_addrs()?.take(8).collect())
    });
    let addresses = looked_up.await?.map_err(|error| unreachable(error.to_string()))?;
    let mut problem = String::from("its name has no address");
    // A black hole among them shall leave time for the next.
    let each =
        shared.options.connect_deadline / u32::try_from(addresses.len().max(1)).unwrap_or(u32::MAX);
    for address in &addresses {
        match tokio::time::timeout(each, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                tune(&stream).map_err(|error| unreachable(error.to_string()))?;
                return Ok((Wire::Tcp(stream), None));
            }
            Ok(Err(error)) => problem = format!("{address}: {error}"),
            Err(_) => problem = format!("{address} does not answer"),
        }
    }
    Err(unreachable(problem))
}

/// Small packets leave at once (without this an `exec` takes 44 ms), and the
/// system notices dead peers that we have nothing to say to.
fn tune(stream: &TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let keepalive = socket2::TcpKeepalive::new().with_time(Duration::from_secs(60));
    socket2::SockRef::from(stream).set_tcp_keepalive(&keepalive)
}

fn no_handshake(host: &str, error: &Step) -> ReachError {
    let host = host.to_owned();
    match error {
        Step::Ssh(error) if matches!(code_of(error), Some(-13 | -43 | -7)) => {
            ReachError::Unreachable { host, problem: text_of(error) }
        }
        Step::Ssh(error) => ReachError::Protocol { host, problem: text_of(error) },
        Step::Failed(problem) => ReachError::Internal(problem.clone()),
    }
}

fn lost_at(host: &str, error: &Step) -> ReachError {
    ReachError::Lost { host: host.to_owned(), reason: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_kinds_of_keys_come_first() {
        assert!(host_keys(&[]).starts_with("ssh-ed25519,"));
        let rsa = host_keys(&[String::from("ssh-rsa")]);
        assert!(rsa.starts_with("rsa-sha2-512,rsa-sha2-256,ssh-ed25519"), "{rsa}");
    }

    #[test]
    fn the_library_knows_every_method_we_ask_for() {
        let session = Session::new().expect("a session");
        let all = HOST_KEYS.join(",");
        for (kind, ours) in [
            (MethodType::Kex, KEY_EXCHANGES),
            (MethodType::CryptCs, CIPHERS),
            (MethodType::MacCs, MACS),
            (MethodType::HostKey, all.as_str()),
        ] {
            let known = session.supported_algs(kind).expect("a list");
            for method in ours.split(',') {
                assert!(known.contains(&method), "{method} is not in {known:?}");
            }
        }
    }
}
