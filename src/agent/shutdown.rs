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
    /// Of a command's terminal that was closed; an agent has its own way with it.
    hangup: Option<Signal>,
}

impl Signals {
    /// From now on these signals no longer end the process by themselves.
    pub(crate) fn listen() -> io::Result<Self> {
        let (terminate, interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        Ok(Self { terminate, interrupt, hangup: None })
    }

    /// The same, and SIGHUP, which comes when the terminal of a command is closed.
    pub(crate) fn listen_for_hangup_too() -> io::Result<Self> {
        Ok(Self { hangup: Some(signal(SignalKind::hangup())?), ..Self::listen()? })
    }

    /// Waits for the next signal: how to stop, and the signal's number.
    pub(crate) async fn next(&mut self) -> (Stop, i32) {
        tokio::select! {
            _ = self.terminate.recv() => (Stop::Drain, SignalKind::terminate().as_raw_value()),
            () = received(self.hangup.as_mut()) => (Stop::Now, SignalKind::hangup().as_raw_value()),
            _ = self.interrupt.recv() => {
                let stop = if io::stdin().is_terminal() { Stop::Now } else { Stop::Drain };
                (stop, SignalKind::interrupt().as_raw_value())
            }
        }
    }
}

/// Never ends for a signal that nobody listens for.
async fn received(signal: Option<&mut Signal>) {
    match signal {
        Some(signal) => _ = signal.recv().await,
        None => std::future::pending().await,
    }
}
