//! Opening channels, one at a time: the library can do no more.

use std::time::{Duration, Instant};

use ssh2::Sftp;

use super::exec::ExecSlot;
use super::files::FilesSlot;
use super::{EAGAIN, Fatal, MOST_SESSIONS, Owner, Slot, fatal, is_of_a_channel};
use crate::reach::channel::{Opened, Order, Request};
use crate::reach::connect::{PROBE, code_of, text_of};
use crate::reach::error::ReachError;

/// Room for what a channel sends before it is read.
const WINDOW: u32 = 2 * 1024 * 1024;

/// A server without any session of ours that refuses one for so long means it.
const CROWDED: Duration = Duration::from_secs(2);
const CROWDED_PAUSE: Duration = Duration::from_millis(50);

/// A channel that is being opened; the library opens one at a time.
pub(super) enum Opening {
    Probe,
    Order(Order),
}

/// When the server refused a session.
pub(super) struct Crowded {
    pub(super) since: Instant,
    pub(super) again: Instant,
}

/// A channel that is open.
enum Open {
    Channel(ssh2::Channel),
    Sftp(Sftp),
}

impl Owner {
    /// Takes what is ordered and opens the next channel, as far as that goes.
    pub(super) fn open(&mut self) -> Result<bool, Fatal> {
        while self.waiting.len() < MOST_SESSIONS {
            match self.orders.try_recv() {
                Ok(order) => self.waiting.push_back(order),
                Err(_) => break,
            }
        }
        if self.opening.is_none() {
            self.opening = self.next_opening();
        }
        let result = match &self.opening {
            None => return Ok(false),
            Some(Opening::Probe) => {
                let answer = self.session.channel_open(PROBE, 1, 1, None);
                match answer {
                    Ok(_) => return Err(Fatal(String::from("it opens what does not exist"))),
                    Err(error) if code_of(&error) == Some(-21) => Ok(None),
                    Err(error) => Err(error),
                }
            }
            Some(Opening::Order(order)) => match &order.request {
                Request::Exec(_) => self
                    .session
                    .channel_open("session", WINDOW, 32 * 1024, None)
                    .map(|channel| Some(Open::Channel(channel))),
                Request::Tunnel(host, port) => self
                    .session
                    .channel_direct_tcpip(host, *port, None)
                    .map(|channel| Some(Open::Channel(channel))),
                Request::Files => self.session.sftp().map(|sftp| Some(Open::Sftp(sftp))),
            },
        };
        match result {
            Err(error) if code_of(&error) == Some(EAGAIN) => return Ok(false),
            Err(error) => self.refused(&error)?,
            Ok(opened) => {
                if opened.is_some() {
                    self.crowded = None;
                }
                if let (Some(Opening::Order(order)), Some(opened)) = (self.opening.take(), opened) {
                    self.opened(order, opened);
                }
            }
        }
        Ok(true)
    }

    fn next_opening(&mut self) -> Option<Opening> {
        if std::mem::take(&mut self.ask) {
            return Some(Opening::Probe);
        }
        self.waiting.retain(|order| !order.reply.is_closed());
        let crowded = self.crowded.as_ref().is_some_and(|c| c.again > Instant::now());
        let full = crowded || self.sessions() >= self.most;
        let fits = |order: &Order| match order.request {
            Request::Exec(_) => !full,
            Request::Files => !full || !self.idle.is_empty(),
            Request::Tunnel(..) => true,
        };
        let at = self.waiting.iter().position(fits)?;
        let order = self.waiting.remove(at)?;
        if matches!(order.request, Request::Files)
            && let Some((sftp, _)) = self.idle.pop()
        {
            self.opened(order, Open::Sftp(sftp));
            return None;
        }
        Some(Opening::Order(order))
    }

    fn opened(&mut self, order: Order, opened: Open) {
        let Order { request, reply } = order;
        match opened {
            Open::Channel(channel) => {
                let command = match request {
                    Request::Exec(command) => Some(command),
                    _ => None,
                };
                let slot = ExecSlot::new(channel, command, reply, &self.wake, &self.host);
                self.slots.push(Slot::Exec(Box::new(slot)));
            }
            Open::Sftp(sftp) => {
                let (slot, files) = FilesSlot::new(sftp, &self.wake, &self.host);
                self.slots.push(Slot::Files(Box::new(slot)));
                // Nobody waits any more: the handle is dropped, and the slot ends.
                let _ = reply.send(Ok(Opened::Files(files)));
            }
        }
    }

    /// A server that allows fewer sessions than we thought is believed. One
    /// that seems to allow none may still be busy with those that have ended.
    fn refused(&mut self, error: &ssh2::Error) -> Result<(), Fatal> {
        if !is_of_a_channel(error) {
            return Err(fatal(error));
        }
        let Some(Opening::Order(order)) = self.opening.take() else { return Ok(()) };
        if !matches!(order.request, Request::Tunnel(..)) {
            let now = Instant::now();
            let sessions = self.sessions();
            let since = self.crowded.as_ref().map_or(now, |crowded| crowded.since);
            if sessions > 0 || now.duration_since(since) < CROWDED {
                self.most = sessions.max(1);
                self.crowded = Some(Crowded { since, again: now + CROWDED_PAUSE });
                self.waiting.push_front(order);
                return Ok(());
            }
        }
        self.crowded = None;
        let what = match &order.request {
            Request::Exec(_) => String::from("a channel"),
            Request::Files => String::from("the file service"),
            Request::Tunnel(host, port) => format!("a way to {host}:{port}"),
        };
        let problem = text_of(error);
        // Nobody may wait for it any more.
        let _ =
            order.reply.send(Err(ReachError::Refused { host: self.host.clone(), what, problem }));
        Ok(())
    }

    fn sessions(&self) -> usize {
        self.slots.iter().filter(|slot| slot.is_session()).count() + self.idle.len()
    }
}
