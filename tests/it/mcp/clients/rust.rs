//! rmcp's own client, over the Unix socket: who calls is known from the kernel,
//! so there is no token.

#![expect(deprecated, reason = "the push of the sessionful era is a log message")]

use std::sync::{Arc, Mutex};

use rmcp::model::LoggingMessageNotificationParam;
use rmcp::service::{NotificationContext, RunningService};
use rmcp::transport::StreamableHttpClientTransport;
use rmcp::{ClientHandler, RoleClient, ServiceExt};
use serde_json::Value;
use tokio::runtime::Runtime;

use crate::support::Daemon;

pub struct Rust {
    heard: Heard,
    running: Option<RunningService<RoleClient, Heard>>,
    runtime: Runtime,
}

/// The events that were pushed, in their order.
#[derive(Clone, Default)]
struct Heard(Arc<Mutex<Vec<Value>>>);

impl ClientHandler for Heard {
    async fn on_logging_message(
        &self,
        params: LoggingMessageNotificationParam,
        _context: NotificationContext<RoleClient>,
    ) {
        self.0.lock().unwrap().push(params.data);
    }
}

impl Rust {
    pub fn connect(daemon: &Daemon) -> Self {
        let runtime = Runtime::new().unwrap();
        let socket = daemon.home().socket();
        let heard = Heard::default();
        let running = runtime.block_on(async {
            let socket = socket.to_str().unwrap();
            // A path: rmcp sends a whole address as the request target, as to a proxy,
            // and what could be read as meant for another host is refused.
            let transport = StreamableHttpClientTransport::from_unix_socket(socket, "/mcp");
            heard.clone().serve(transport).await.unwrap()
        });
        Self { heard, running: Some(running), runtime }
    }

    /// The names of all tools.
    pub fn tools(&self) -> Vec<String> {
        let tools = self.runtime.block_on(self.running().list_all_tools()).unwrap();
        tools.into_iter().map(|tool| tool.name.into_owned()).collect()
    }

    /// Pushed events of `topic`.
    pub fn pushed(&self, topic: &str) -> Vec<Value> {
        let heard = self.heard.0.lock().unwrap();
        heard.iter().filter(|event| event["type"] == topic).cloned().collect()
    }

    fn running(&self) -> &RunningService<RoleClient, Heard> {
        self.running.as_ref().unwrap()
    }
}

impl Drop for Rust {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            drop(self.runtime.block_on(running.cancel()));
        }
    }
}
