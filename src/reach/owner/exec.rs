//! A channel with a command, or a way to somewhere else.

use std::io::{ErrorKind, Read, Write};

use bytes::{Buf, Bytes};
use ssh2::{BlockDirections, Channel};
use tokio::sync::mpsc::error::{TryRecvError, TrySendError};
use tokio::sync::{mpsc, oneshot};

use super::{Cx, Fatal, Look, is_of_a_channel, unless_blocked};
use crate::reach::channel::{Opened, Wake};
use crate::reach::connect::text_of;
use crate::reach::error::ReachError;
use crate::reach::exec::{Chunk, End, Exec, Input};
use crate::reach::plain::plain;

/// Pieces of output that wait for the handle; full: the channel is read no
/// further, its window closes, and the command waits.
const OUTPUT: usize = 8;

/// Pieces of input that wait for the channel; full: the writer waits.
const INPUT: usize = 4;

/// One piece of output.
const PIECE: usize = 64 * 1024;

type Reply = oneshot::Sender<Result<Opened, ReachError>>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The command is being requested.
    Starting,
    Running,
    /// Output has ended; the status is still to come.
    Ending,
    /// Our own close is being sent, and the peer's awaited.
    Closing,
}

/// Where the command's input stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum InputStage {
    Open,
    /// Its end is to be sent.
    Ended,
    Closed,
}

pub struct ExecSlot {
    channel: Channel,
    stage: Stage,
    command: Option<String>,
    reply: Option<(Reply, Exec)>,
    input: mpsc::Receiver<Bytes>,
    input_stage: InputStage,
    pending: Bytes,
    /// Half of a packet has left: it must be finished before anything else.
    wedged: bool,
    output: Option<mpsc::Sender<Chunk>>,
    /// The handle is full.
    held: bool,
    end: Option<oneshot::Sender<Result<End, ReachError>>>,
    result: Option<Result<End, ReachError>>,
}

impl ExecSlot {
    /// Without a command it is a tunnel, and runs at once.
    pub fn new(
        channel: Channel,
        command: Option<String>,
        reply: Reply,
        wake: &Wake,
        host: &str,
    ) -> Self {
        let (output, outgoing) = mpsc::channel(OUTPUT);
        let (sender, input) = mpsc::channel(INPUT);
        let (end, ended) = oneshot::channel();
        let exec = Exec {
            input: Some(Input { sender, wake: wake.clone() }),
            output: outgoing,
            end: ended,
            wake: wake.clone(),
            host: host.to_owned(),
            share: None,
        };
        let mut slot = Self {
            channel,
            stage: Stage::Starting,
            command,
            reply: Some((reply, exec)),
            input,
            input_stage: InputStage::Open,
            pending: Bytes::new(),
            wedged: false,
            output: Some(output),
            held: false,
            end: Some(end),
            result: None,
        };
        if slot.command.is_none() {
            slot.started();
        }
        slot
    }

    pub fn is_tunnel(&self) -> bool {
        self.command.is_none()
    }

    pub fn reads(&self) -> bool {
        !(self.stage == Stage::Running && self.held)
    }

    fn started(&mut self) {
        self.stage = Stage::Running;
        if let Some((reply, exec)) = self.reply.take() {
            // Nobody waits any more: the handle is dropped, and the slot sees it.
            let _ = reply.send(Ok(Opened::Exec(exec)));
        }
    }

    pub fn look(&mut self, cx: &mut Cx<'_>) -> Result<Look, Fatal> {
        match self.stage {
            Stage::Starting => self.start(cx),
            Stage::Running | Stage::Ending => {
                let fed = self.feed(cx)?;
                let read = match self.stage {
                    Stage::Ending => self.await_close(cx)?,
                    _ => self.read(cx)?,
                };
                Ok(if fed { Look::Moved } else { read })
            }
            Stage::Closing => self.close(cx),
        }
    }

    fn start(&mut self, cx: &Cx<'_>) -> Result<Look, Fatal> {
        let command = self.command.clone().unwrap_or_default();
        match unless_blocked(self.channel.exec(&command)) {
            Ok(None) => return Ok(Look::Waits),
            Ok(Some(())) => self.started(),
            Err(error) if is_of_a_channel(&error) => {
                if let Some((reply, _)) = self.reply.take() {
                    let (host, what) = (cx.host.to_owned(), String::from("the command"));
                    let problem = text_of(&error);
                    // Nobody may wait for it any more.
                    let _ = reply.send(Err(ReachError::Refused { host, what, problem }));
                }
                self.stage = Stage::Closing;
            }
            Err(error) => return Err(super::fatal(&error)),
        }
        Ok(Look::Moved)
    }

    /// The handle has gone: nobody reads what is written.
    fn is_dropped(&self) -> bool {
        self.output.as_ref().is_none_or(mpsc::Sender::is_closed)
    }

    /// Hands input on; `true`: some of it.
    fn feed(&mut self, cx: &mut Cx<'_>) -> Result<bool, Fatal> {
        if self.pending.is_empty() && self.input_stage == InputStage::Open {
            match self.input.try_recv() {
                Ok(bytes) => self.pending = bytes,
                Err(TryRecvError::Disconnected) => self.input_stage = InputStage::Ended,
                Err(TryRecvError::Empty) => {}
            }
        }
        if !self.pending.is_empty() {
            let written = self.channel.write(&self.pending);
            self.wedged = false;
            return match written {
                Ok(n) => {
                    self.pending.advance(n);
                    Ok(n > 0)
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.wedged = is_outbound(cx);
                    Ok(false)
                }
                Err(error) => {
                    cx.broken(&error)?;
                    self.refuse_input();
                    Ok(false)
                }
            };
        }
        if self.input_stage != InputStage::Ended {
            return Ok(false);
        }
        match unless_blocked(self.channel.send_eof()) {
            Ok(None) => Ok(false),
            Ok(Some(())) => {
                self.input_stage = InputStage::Closed;
                Ok(true)
            }
            Err(error) if is_of_a_channel(&error) => {
                self.input_stage = InputStage::Closed;
                Ok(false)
            }
            Err(error) => Err(super::fatal(&error)),
        }
    }

    /// The command takes no more input.
    fn refuse_input(&mut self) {
        self.input_stage = InputStage::Closed;
        self.pending = Bytes::new();
        self.input.close();
    }

    /// Reads both streams: with one of them unread, the command would stop at a
    /// full window.
    fn read(&mut self, cx: &mut Cx<'_>) -> Result<Look, Fatal> {
        if self.is_dropped() && !self.wedged && !is_outbound(cx) {
            self.refuse_input();
            self.stage = Stage::Closing;
            return Ok(Look::Moved);
        }
        let mut moved = false;
        self.held = false;
        for stream in [0, 1] {
            let permit = match self.output.as_ref().map(mpsc::Sender::try_reserve) {
                Some(Ok(permit)) => Some(permit),
                Some(Err(TrySendError::Full(()))) => {
                    self.held = true;
                    return Ok(if moved { Look::Moved } else { Look::Waits });
                }
                _ => None,
            };
            let scratch = &mut cx.scratch()[..PIECE];
            match self.channel.stream(stream).read(scratch) {
                Ok(0) => {}
                Ok(n) => {
                    moved = true;
                    let bytes = Bytes::copy_from_slice(&scratch[..n]);
                    let chunk =
                        if stream == 0 { Chunk::Stdout(bytes) } else { Chunk::Stderr(bytes) };
                    if let Some(permit) = permit {
                        permit.send(chunk);
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => {
                    cx.broken(&error)?;
                    self.result = Some(Err(lost(cx, &error.to_string())));
                    self.stage = Stage::Closing;
                    return Ok(Look::Moved);
                }
            }
        }
        if moved {
            return Ok(Look::Moved);
        }
        if self.channel.eof() {
            self.output = None;
            self.stage = Stage::Ending;
            return Ok(Look::Moved);
        }
        Ok(Look::Waits)
    }

    /// The status comes before the peer's close, and after our close it would
    /// not be sent any more.
    fn await_close(&mut self, cx: &Cx<'_>) -> Result<Look, Fatal> {
        match unless_blocked(self.channel.wait_close()) {
            Ok(None) => {
                let unwanted = self.end.as_ref().is_none_or(oneshot::Sender::is_closed);
                if unwanted && !self.wedged && !is_outbound(cx) {
                    self.stage = Stage::Closing;
                    return Ok(Look::Moved);
                }
                return Ok(Look::Waits);
            }
            Ok(Some(())) => self.result = Some(self.end_of(cx)),
            Err(error) if is_of_a_channel(&error) => {
                self.result = Some(Err(lost(cx, &text_of(&error))));
            }
            Err(error) => return Err(super::fatal(&error)),
        }
        self.refuse_input();
        self.stage = Stage::Closing;
        Ok(Look::Moved)
    }

    /// By the peer's word. The library does not tell a status that was never
    /// sent from 0, so [`End::Code`] does not claim it.
    fn end_of(&self, cx: &Cx<'_>) -> Result<End, ReachError> {
        let signal = self.channel.exit_signal().map_err(|error| lost(cx, &text_of(&error)))?;
        if let Some(signal) = signal.exit_signal {
            return Ok(End::Signal(plain(&signal, 32)));
        }
        let code = self.channel.exit_status().map_err(|error| lost(cx, &text_of(&error)))?;
        Ok(End::Code(code))
    }

    fn close(&mut self, cx: &mut Cx<'_>) -> Result<Look, Fatal> {
        // Reading finishes a window's half-sent growth, and makes room.
        let scratch = &mut cx.scratch()[..PIECE];
        for stream in [0, 1] {
            if let Err(error) = self.channel.stream(stream).read(scratch)
                && error.kind() != ErrorKind::WouldBlock
            {
                cx.broken(&error)?;
                break;
            }
        }
        match unless_blocked(self.channel.close()) {
            Ok(None) => return Ok(Look::Waits),
            Ok(Some(())) => {}
            Err(error) if is_of_a_channel(&error) => {}
            Err(error) => return Err(super::fatal(&error)),
        }
        if let (Some(end), Some(result)) = (self.end.take(), self.result.take()) {
            // The handle may be gone.
            let _ = end.send(result);
        }
        Ok(Look::Done)
    }

    /// The session has ended before the channel.
    pub fn bury(self, error: ReachError) {
        if let Some((reply, _)) = self.reply {
            // It may have been started, so this is no "offline".
            let _ = reply.send(Err(error.clone()));
        }
        if let Some(end) = self.end {
            let _ = end.send(self.result.unwrap_or(Err(error)));
        }
    }
}

fn is_outbound(cx: &Cx<'_>) -> bool {
    matches!(cx.session.block_directions(), BlockDirections::Outbound | BlockDirections::Both)
}

fn lost(cx: &Cx<'_>, reason: &str) -> ReachError {
    ReachError::Lost { host: cx.host.to_owned(), reason: plain(reason, 160) }
}
