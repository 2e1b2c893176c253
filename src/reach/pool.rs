//! One connection per target, shared by all who ask for it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, Weak};

use tokio::sync::Semaphore;

use super::connect;
use super::driver::{Driver, locked};
use super::error::ReachError;
use super::keeper::Keeper;
use super::known_hosts::HostKey;
use super::link::Link;
use super::options::ReachOptions;
use super::target::{Facts, Target};

/// Threads that name servers, and that agents, may hold at a time.
const HELD: usize = 2;

/// Everything that is reached from here. Clones share all of it.
#[derive(Clone)]
pub struct Reach {
    shared: Arc<Shared>,
}

/// What links have in common.
pub(super) struct Shared {
    pub options: Arc<ReachOptions>,
    pub driver: Driver,
    pub names: Arc<Semaphore>,
    pub agents: Arc<Semaphore>,
    /// Held while our own `known_hosts` is rewritten.
    pub pins: tokio::sync::Mutex<()>,
    /// A link is here as long as somebody has a share in it.
    links: Mutex<HashMap<Target, Weak<Keeper>>>,
}

impl Shared {
    /// The one that is there, or a new one that begins to connect.
    pub fn keeper(self: &Arc<Self>, target: &Target) -> Arc<Keeper> {
        let mut links = locked(&self.links);
        if let Some(keeper) = links.get(target).and_then(Weak::upgrade) {
            return keeper;
        }
        links.retain(|_, keeper| keeper.strong_count() > 0);
        let keeper = Keeper::start(self, target.clone());
        links.insert(target.clone(), Arc::downgrade(&keeper));
        keeper
    }
}

impl Reach {
    /// Starts the threads that links live on; nothing is connected yet.
    pub fn new(options: ReachOptions) -> Result<Self, ReachError> {
        let shared = Shared {
            options: Arc::new(options),
            driver: Driver::start()?,
            names: Arc::new(Semaphore::new(HELD)),
            agents: Arc::new(Semaphore::new(HELD)),
            pins: tokio::sync::Mutex::new(()),
            links: Mutex::default(),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    pub fn options(&self) -> &ReachOptions {
        &self.shared.options
    }

    /// The link to `target`: a share in the one that is there, or a new one
    /// that begins to connect at once. It goes on trying, with pauses, until
    /// its last share is dropped.
    pub fn link(&self, target: &Target) -> Link {
        Link { keeper: self.shared.keeper(target) }
    }

    /// Connects once, on a connection of its own that is closed again.
    pub async fn try_connect(&self, target: &Target) -> Result<Facts, ReachError> {
        let (shared, target) = (Arc::clone(&self.shared), target.clone());
        let connecting = async move {
            let ready = connect::connect(&shared, &target).await?;
            ready.wire.cut();
            Ok(ready.facts)
        };
        self.on_the_thread(connecting).await
    }

    /// The key that the host shows now; nothing is offered to it.
    pub async fn host_key(&self, target: &Target) -> Result<HostKey, ReachError> {
        let (shared, target) = (Arc::clone(&self.shared), target.clone());
        self.on_the_thread(async move { connect::host_key(&shared, &target, None).await }).await
    }

    /// Pins the key that the host shows now in place of what our own file has
    /// for it. With `fingerprint` (`SHA256:…`), only if it is that one. A
    /// revoked key is refused. Links to the host try again at once.
    pub async fn trust(
        &self,
        target: &Target,
        fingerprint: Option<&str>,
    ) -> Result<HostKey, ReachError> {
        let (shared, target) = (Arc::clone(&self.shared), target.clone());
        let expected = fingerprint.map(str::to_owned);
        let pinning = async move {
            let key = connect::host_key(&shared, &target, Some(expected.as_deref())).await?;
            let links = locked(&shared.links);
            let same = links.iter().filter(|(other, _)| other.host == target.host);
            same.filter_map(|(_, keeper)| keeper.upgrade()).for_each(|keeper| keeper.hurry());
            Ok(key)
        };
        self.on_the_thread(pinning).await
    }

    /// Closes every connection and joins the threads.
    pub async fn close(&self) {
        self.shared.driver.close().await;
    }

    /// Sockets belong to the runtime on which they were made.
    async fn on_the_thread<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, ReachError>> + Send + 'static,
    ) -> Result<T, ReachError> {
        if self.shared.driver.stopped().is_cancelled() {
            return Err(ReachError::Closed);
        }
        self.shared.driver.spawn(work).await.unwrap_or(Err(ReachError::Closed))
    }
}
