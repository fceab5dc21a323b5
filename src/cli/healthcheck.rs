//! `sickbay healthcheck`: asks a running agent. Runs in an image without a shell or curl, many times an hour;
//! so it starts no runtime, and reads no configuration unless a file is given that may say where the agent
//! listens.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::{Exit, duration, print, reachable, tell_error};
use crate::clock::Stopwatch;
use crate::config::Env;
use crate::config::{Overrides, Plan};

/// An answer is a few hundred bytes; more is not ours.
const ANSWER_MAX: usize = 64 * 1024;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The question to ask
    #[arg(long, value_enum, default_value_t = Group::Live)]
    group: Group,
    /// The agent's address [default: SICKBAY_LISTEN, else what a --config says, else 127.0.0.1:8686]
    #[arg(long, value_name = "ADDRESS:PORT")]
    address: Option<SocketAddr>,
    /// How long the whole may take
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = duration)]
    timeout: Duration,
}

/// The questions that have a yes and a no.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Group {
    /// Does the agent itself work? The one for the container health check
    Live,
    /// Can this task serve?
    Ready,
    /// Should this task stay in the load balancer?
    Alb,
    /// Has every critical dependency succeeded once?
    Startup,
}

impl Group {
    fn path(self) -> &'static str {
        match self {
            Self::Live => "/health/live",
            Self::Ready => "/health/ready",
            Self::Alb => "/health/alb",
            Self::Startup => "/health/startup",
        }
    }
}

/// Asks, at the address that was given, or where the agent was told to listen. `load` is there where a
/// configuration file is.
pub(super) fn run(
    arguments: &Arguments,
    environment: &Env,
    load: Option<impl FnOnce(Overrides) -> Result<Plan, Exit>>,
) -> Exit {
    let address = match address(arguments.address, environment, load) {
        Ok(address) => address,
        Err(error) => {
            tell_error(&error);
            return Exit::NotWell;
        }
    };
    let path = arguments.group.path();
    match ask(address, path, arguments.timeout) {
        Ok((code, body)) if (200..300).contains(&code) => {
            // Who asks wants the exit code; that nobody takes the text says nothing of the agent.
            let _ = print(&format!("{code} {body}"));
            Exit::Fine
        }
        Ok((code, body)) => {
            tell_error(&format!("error: {path} of {address} answered {code}: {body}"));
            Exit::NotWell
        }
        Err(error) => {
            tell_error(&format!(
                "error: {path} of {address} cannot be asked: {error}; is the agent running, and is this its address? (--address, SICKBAY_LISTEN, `server.listen` of a --config)"
            ));
            Exit::NotWell
        }
    }
}

fn address(
    given: Option<SocketAddr>,
    environment: &Env,
    load: Option<impl FnOnce(Overrides) -> Result<Plan, Exit>>,
) -> Result<SocketAddr, String> {
    const DEFAULT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 8686);
    if let Some(given) = given {
        return Ok(given);
    }
    if let Some(listen) = environment.get("SICKBAY_LISTEN").filter(|listen| !listen.is_empty()) {
        return listen.to_string_lossy().parse().map(reachable).map_err(|_| {
            let listen = listen.display();
            format!("error: SICKBAY_LISTEN: \"{listen}\" is not an address and port, such as 0.0.0.0:8686")
        });
    }
    let Some(load) = load else { return Ok(DEFAULT) };
    match load(Overrides::default()) {
        Ok(plan) => Ok(reachable(*plan.server().listen())),
        // All that is wrong with it has been told.
        Err(_) => {
            Err("error: where the agent listens cannot be told from this configuration; give --address"
                .into())
        }
    }
}

/// One GET over HTTP/1.1: the status code and the body.
fn ask(address: SocketAddr, path: &str, timeout: Duration) -> io::Result<(u16, String)> {
    let watch = Stopwatch::start();
    let left = || {
        // Zero would mean "no limit".
        Some(timeout.saturating_sub(watch.elapsed()).max(Duration::from_millis(1)))
    };
    let mut stream = TcpStream::connect_timeout(&address, timeout)?;
    stream.set_write_timeout(left())?;
    let request =
        format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nUser-Agent: sickbay\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        if watch.elapsed() >= timeout {
            return Err(io::Error::new(
                io::ErrorKind::TimedOut,
                format!("no whole answer within {timeout:?}"),
            ));
        }
        stream.set_read_timeout(left())?;
        match stream.read(&mut chunk) {
            Ok(0) => break,
            Ok(read) => answer.extend_from_slice(&chunk[..read]),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                continue;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        }
        if answer.len() > ANSWER_MAX {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "the answer is too long to be a health answer",
            ));
        }
    }
    parse(&answer).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "the answer is not HTTP"))
}

fn parse(answer: &[u8]) -> Option<(u16, String)> {
    let text = String::from_utf8_lossy(answer);
    let (head, body) = text.split_once("\r\n\r\n")?;
    let mut status = head.lines().next()?.split(' ');
    let version = status.next()?;
    let code = status.next()?.parse().ok()?;
    version.starts_with("HTTP/1.").then(|| (code, body.trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_status_and_refuses_what_is_not_http() {
        assert_eq!(parse(b"HTTP/1.1 200 OK\r\nA: b\r\n\r\n{}"), Some((200, "{}".into())));
        assert_eq!(parse(b"HTTP/1.0 503 X\r\n\r\n"), Some((503, String::new())));
        for bad in [b"".as_slice(), b"SSH-2.0-x\r\n\r\n", b"HTTP/1.1 2x0 OK\r\n\r\n", b"HTTP/1.1 200 OK\r\n"]
        {
            assert_eq!(parse(bad), None);
        }
    }

    #[test]
    fn follows_where_the_agent_listens() {
        let listen = |text: &str| Env::from([("SICKBAY_LISTEN".to_owned(), text.into())]);
        let address = |given, environment: &Env| address(given, environment, None::<fn(_) -> _>);
        assert_eq!(address(None, &listen("0.0.0.0:9000")).unwrap().to_string(), "127.0.0.1:9000");
        assert_eq!(address(None, &listen("[::]:9000")).unwrap().to_string(), "[::1]:9000");
        assert_eq!(address(None, &listen("")).unwrap().to_string(), "127.0.0.1:8686");
        assert_eq!(address(None, &listen("127.0.0.2:1")).unwrap().to_string(), "127.0.0.2:1");
        assert!(address(None, &listen("nowhere")).unwrap_err().contains("SICKBAY_LISTEN"));
    }
}
