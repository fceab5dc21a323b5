//! Being told to stop.

use std::io::{self, IsTerminal};

use tokio::signal::unix::{Signal, SignalKind, signal};

/// How the agent is to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    /// Go on answering for a while, so that the load balancer takes notice.
    Drain,
    /// Nobody waits for a drain: Ctrl-C on a terminal.
    Now,
}

/// SIGTERM and SIGINT.
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// From now on these signals no longer end the process by themselves.
    pub(crate) fn listen() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Waits for the next signal: how to stop, and the signal's number.
    pub(crate) async fn next(&mut self) -> (Stop, i32) {
        tokio::select! {
            _ = self.terminate.recv() => (Stop::Drain, SignalKind::terminate().as_raw_value()),
            _ = self.interrupt.recv() => {
                let stop = if io::stdin().is_terminal() { Stop::Now } else { Stop::Drain };
                (stop, SignalKind::interrupt().as_raw_value())
            }
        }
    }
}
