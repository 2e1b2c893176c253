//! Proving who we are, one identity after the other.

use std::path::Path;
use std::sync::{Arc, Mutex};

use ssh2::{Agent, PublicKey, Session};

use super::step::{Step, code_of, compute, step};
use super::wire::Wire;
use super::{key, lost_at};
use crate::reach::driver::locked;
use crate::reach::error::ReachError;
use crate::reach::plain::plain;
use crate::reach::pool::Shared;
use crate::reach::ssh_config::Resolved;
use crate::reach::target::{Auth, Identity, Target};

/// The server refuses this identity; another may do.
const REFUSALS: [i32; 3] = [-18, -19, -48];

/// One attempt to get in.
struct Attempt<'a> {
    shared: &'a Shared,
    target: &'a Target,
    resolved: &'a Resolved,
    session: &'a Session,
    wire: &'a Wire,
    /// What was tried or left out, for the error.
    tried: Vec<String>,
}

/// Tries what `target` allows, in turn.
pub async fn authenticate(
    shared: &Shared,
    target: &Target,
    resolved: &Resolved,
    session: &Session,
    wire: &Wire,
) -> Result<Identity, ReachError> {
    let user = resolved.user.clone();
    // Asks without an identity, too: some servers want none.
    let methods = step(session, wire, move |s| s.auth_methods(&user).map(str::to_owned)).await;
    if session.authenticated() {
        return Ok(Identity::None);
    }
    let methods = methods.map_err(|error| lost_at(&target.host, &error))?;
    let takes = |method: &str| methods.split(',').any(|offered| offered == method);
    let mut attempt = Attempt { shared, target, resolved, session, wire, tried: Vec::new() };
    let found = match &target.auth {
        Auth::Password(_) if !takes("password") => None,
        Auth::Password(_) => attempt.password().await?,
        _ if !takes("publickey") => None,
        Auth::KeyFile(path) => attempt.key_file(path).await?,
        Auth::Agent => attempt.agent().await?,
        Auth::Default => attempt.everything().await?,
    };
    found.ok_or_else(|| {
        if attempt.tried.is_empty() {
            let methods = plain(&methods, 80);
            attempt.tried.push(format!("nothing that it takes (it takes {methods})"));
        }
        ReachError::Auth {
            host: target.host.clone(),
            user: plain(&resolved.user, 64),
            tried: attempt.tried.join(", "),
        }
    })
}

impl Attempt<'_> {
    /// What ssh would try. An identity that cannot be used does not end it.
    async fn everything(&mut self) -> Result<Option<Identity>, ReachError> {
        if self.shared.options.agent.is_some() {
            match self.agent().await {
                Ok(None) => {}
                Err(ReachError::Agent { problem }) => self.tried.push(problem),
                found => return found,
            }
        }
        for path in self.resolved.identities.clone() {
            match self.key_file(&path).await {
                Ok(None) => {}
                Err(error @ (ReachError::KeyEncrypted { .. } | ReachError::Key { .. })) => {
                    self.tried.push(error.to_string());
                }
                found => return found,
            }
        }
        Ok(None)
    }

    async fn password(&mut self) -> Result<Option<Identity>, ReachError> {
        let Auth::Password(password) = self.target.auth.clone() else { return Ok(None) };
        let user = self.resolved.user.clone();
        let done =
            step(self.session, self.wire, move |s| s.userauth_password(&user, password.expose()));
        let done = done.await;
        self.settle(done, "the password", Identity::Password)
    }

    async fn key_file(&mut self, path: &Path) -> Result<Option<Identity>, ReachError> {
        let (user, file) = (self.resolved.user.clone(), path.to_owned());
        let text = compute(move || key::read(&file)).await??;
        let done = step(self.session, self.wire, move |s| {
            s.userauth_pubkey_memory(&user, None, &text, None)
        });
        let done = done.await;
        if let Err(Step::Ssh(error)) = &done
            && code_of(error) == Some(-16)
        {
            let problem = super::text_of(error);
            return Err(ReachError::Key { path: path.to_owned(), problem });
        }
        let name = format!("the key '{}'", path.display());
        self.settle(done, &name, Identity::KeyFile(path.to_owned()))
    }

    async fn agent(&mut self) -> Result<Option<Identity>, ReachError> {
        let Some(socket) = self.shared.options.agent.clone() else {
            let problem = String::from("there is none (SSH_AUTH_SOCK is not set)");
            return Err(ReachError::Agent { problem });
        };
        // An agent that is silent, or asks its owner, holds a thread meanwhile.
        // The permit goes with the calls: the deadline ends this future and not
        // the thread, and the next attempt must not take one more.
        let agents = Arc::clone(&self.shared.agents);
        let permit = Arc::new(agents.acquire_owned().await);
        let (session, held) = (self.session.clone(), Arc::clone(&permit));
        let opened = compute(move || {
            let _held = held;
            open_agent(&session, &socket)
        });
        let opened = opened.await?;
        let (agent, mut keys) = opened.map_err(|problem| ReachError::Agent { problem })?;
        self.order(&mut keys);
        let agent = Arc::new(Mutex::new(agent));
        for key in keys {
            let (user, agent) = (self.resolved.user.clone(), Arc::clone(&agent));
            let comment = plain(key.comment(), 80);
            let held = Arc::clone(&permit);
            let done = step(self.session, self.wire, move |_| {
                let _held = &held;
                locked(&agent).userauth(&user, &key)
            });
            let done = done.await;
            let name = format!("'{comment}' of the agent");
            if let Some(found) = self.settle(done, &name, Identity::Agent(comment))? {
                return Ok(Some(found));
            }
        }
        drop(permit);
        if self.tried.is_empty() {
            self.tried.push(String::from("the agent, which has no identity for it"));
        }
        Ok(None)
    }

    /// Those that the configuration names come first, since servers lose their
    /// patience after a few; with `IdentitiesOnly` the others do not come at all.
    fn order(&self, keys: &mut Vec<PublicKey>) {
        let named: Vec<Vec<u8>> =
            self.resolved.identities.iter().filter_map(|path| key::public_blob(path)).collect();
        let is_named = |key: &PublicKey| named.iter().any(|blob| blob == key.blob());
        if self.resolved.identities_only {
            keys.retain(is_named);
        }
        keys.sort_by_key(|key| !is_named(key));
    }

    /// `None`: refused, go on with the next.
    fn settle(
        &mut self,
        done: Result<(), Step>,
        name: &str,
        identity: Identity,
    ) -> Result<Option<Identity>, ReachError> {
        match done {
            Ok(()) if self.session.authenticated() => Ok(Some(identity)),
            Ok(()) => {
                self.tried.push(format!("{name} (it wants more than that)"));
                Ok(None)
            }
            Err(Step::Ssh(error)) if code_of(&error).is_some_and(|c| REFUSALS.contains(&c)) => {
                self.tried.push(name.to_owned());
                Ok(None)
            }
            // A server that has seen too many identities hangs up.
            Err(error) if !self.tried.is_empty() => Err(ReachError::Auth {
                host: self.target.host.clone(),
                user: plain(&self.resolved.user, 64),
                tried: format!("{}, and then it hung up ({error})", self.tried.join(", ")),
            }),
            Err(error) => Err(lost_at(&self.target.host, &error)),
        }
    }
}

fn open_agent(session: &Session, socket: &Path) -> Result<(Agent, Vec<PublicKey>), String> {
    let failed = |error: ssh2::Error| format!("{}: {}", socket.display(), super::text_of(&error));
    let mut agent = session.agent().map_err(failed)?;
    agent.set_identity_path(socket).map_err(failed)?;
    agent.connect().map_err(failed)?;
    agent.list_identities().map_err(failed)?;
    let keys = agent.identities().map_err(failed)?;
    Ok((agent, keys))
}
