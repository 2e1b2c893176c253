//! Questions to a client (before 2026-07-28): asked on the stream of the call
//! that needs to know, answered by a POST of its own.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::Value;
use tokio::sync::oneshot;

use super::session::Nonce;

/// Questions that wait for their answers.
#[derive(Default)]
pub struct Asking(Mutex<Open>);

#[derive(Default)]
struct Open {
    questions: HashMap<(Nonce, String), oneshot::Sender<Value>>,
    next: u64,
}

impl Asking {
    /// An id for a question, and where its answer comes.
    pub fn begin(&self, session: Nonce) -> (String, oneshot::Receiver<Value>) {
        let (sender, receiver) = oneshot::channel();
        let mut open = self.lock();
        // Those whose asker is gone.
        open.questions.retain(|_, sender| !sender.is_closed());
        open.next += 1;
        let id = format!("fleetd-{}", open.next);
        open.questions.insert((session, id.clone()), sender);
        (id, receiver)
    }

    /// Hands a response to who asked; what nobody asked is dropped.
    pub fn answer(&self, session: Nonce, response: &Value) {
        let Some(id) = response.get("id").and_then(Value::as_str) else { return };
        let asked = self.lock().questions.remove(&(session, id.to_owned()));
        if let Some(asker) = asked {
            let _ = asker.send(response.clone());
        }
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        // Changed by whole steps only; a panic elsewhere cannot tear it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[tokio::test]
    async fn an_answer_reaches_who_asked_and_comes_from_the_same_session() {
        let asking = Asking::default();
        let (id, answer) = asking.begin([1; 16]);
        let response = json!({"jsonrpc": "2.0", "id": id, "result": {"n": 1}});
        asking.answer([2; 16], &response);
        asking.answer([1; 16], &json!({"id": 7}));
        asking.answer([1; 16], &response);
        assert_eq!(answer.await.unwrap()["result"]["n"], 1);
        let (_, gone) = asking.begin([1; 16]);
        drop(gone);
        let _kept = asking.begin([1; 16]);
        assert_eq!(asking.lock().questions.len(), 1);
    }
}
