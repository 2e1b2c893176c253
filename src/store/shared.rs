//! The callers' side of the writer: sending changes, waiting for answers.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use super::group::{Change, Job, Publish};
use super::journal::Published;
use super::state::State;
use super::{StoreError, Tx};
use crate::wire::EncodedEvent;

/// What the writer thread is asked to do.
pub enum Message {
    Job(Box<dyn Job>),
    Tick(oneshot::Sender<Result<(), StoreError>>),
    /// A reader found the database damaged.
    Damaged(rusqlite::Error),
    Close(oneshot::Sender<()>),
}

/// A handle to the writer thread, which ends when the last one is gone.
pub struct Shared {
    messages: mpsc::Sender<Message>,
    state: Arc<State>,
}

impl Shared {
    pub fn new(messages: mpsc::Sender<Message>, state: Arc<State>) -> Self {
        Self { messages, state }
    }

    pub fn state(&self) -> &State {
        &self.state
    }

    /// The same, for those who outlive a borrow.
    pub fn state_of_writer(&self) -> Arc<State> {
        Arc::clone(&self.state)
    }

    pub async fn write<T, E, F>(&self, change: F) -> Result<T, E>
    where
        F: FnOnce(&mut Tx<'_>) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        self.send(Message::Job(Box::new(Change::new(change, reply)))).await?;
        answer.await.map_err(|_| self.state.gone())?
    }

    pub async fn publish(&self, events: Vec<EncodedEvent>) -> Result<Vec<Published>, StoreError> {
        let (reply, answer) = oneshot::channel();
        self.send(Message::Job(Box::new(Publish::new(events, reply)))).await?;
        answer.await.map_err(|_| self.state.gone())?
    }

    pub async fn tick(&self) -> Result<(), StoreError> {
        let (reply, answer) = oneshot::channel();
        self.send(Message::Tick(reply)).await?;
        answer.await.map_err(|_| self.state.gone())?
    }

    pub async fn close(&self) {
        let (reply, answer) = oneshot::channel();
        if self.send(Message::Close(reply)).await.is_ok() {
            let _ = answer.await;
        }
    }

    async fn send(&self, message: Message) -> Result<(), StoreError> {
        self.messages.send(message).await.map_err(|_| self.state.gone())
    }
}
