//! A server that speaks Redis well enough for a check, and misbehaves at one command.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::tcp::{Peer, with_reset};

/// What it does in place of the answer.
#[derive(Debug, Clone, Copy)]
pub enum Act {
    /// Says this, and goes on.
    Say(&'static str),
    /// Says this, and closes.
    Close(&'static str),
    /// Says this, and nothing more, whatever it is asked.
    Hang(&'static str),
    /// Says this, and goes on to say `x` for ever.
    Endless(&'static str),
    /// Says this, a byte a second.
    Slowly(&'static str),
    /// Resets the connection.
    Reset,
}

/// Starts one that does this at each command of this name.
pub async fn fake_redis(command: &'static str, act: Act) -> Peer {
    Peer::start(move |stream| async move {
        // How the connection ends is decided by the act, or by the client.
        let _ = serve(stream, command, act).await;
    })
    .await
}

async fn serve(mut stream: TcpStream, at: &str, act: Act) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut received = Vec::new();
    loop {
        while let Some(name) = take_command(&mut received) {
            if name == at {
                match act {
                    Act::Say(text) => stream.write_all(text.as_bytes()).await?,
                    Act::Close(text) => {
                        stream.write_all(text.as_bytes()).await?;
                        stream.shutdown().await?;
                        return until_closed(stream).await;
                    }
                    Act::Hang(text) => {
                        stream.write_all(text.as_bytes()).await?;
                        return until_closed(stream).await;
                    }
                    Act::Endless(text) => {
                        stream.write_all(text.as_bytes()).await?;
                        loop {
                            stream.write_all(&[b'x'; 65_536]).await?;
                        }
                    }
                    Act::Slowly(text) => {
                        for byte in text.bytes() {
                            stream.write_u8(byte).await?;
                            tokio::time::sleep(Duration::from_secs(1)).await;
                        }
                    }
                    Act::Reset => {
                        with_reset(stream);
                        return Ok(());
                    }
                }
                continue;
            }
            let well = match name.as_str() {
                "PING" => "+PONG\r\n",
                "INFO" => "$13\r\nrole:master\r\n\r\n",
                _ => "+OK\r\n",
            };
            stream.write_all(well.as_bytes()).await?;
        }
        if stream.read_buf(&mut received).await? == 0 {
            return Ok(());
        }
    }
}

/// Closing while something is unread would reset the connection.
async fn until_closed(mut stream: TcpStream) -> std::io::Result<()> {
    while stream.read(&mut [0; 1_024]).await? > 0 {}
    Ok(())
}

/// The name of the next command, once all of it is there: `*2\r\n$4\r\nAUTH\r\n$6\r\nsecret\r\n`.
fn take_command(received: &mut Vec<u8>) -> Option<String> {
    let text = String::from_utf8(received.clone()).expect("clients send text");
    let mut rest = text.strip_prefix('*')?;
    let mut line = || {
        let (line, after) = rest.split_once("\r\n")?;
        rest = after;
        Some(line)
    };
    let words: usize = line()?.parse().expect("a number of words");
    let mut name = None;
    for _ in 0..words {
        line()?;
        let word = line()?;
        name.get_or_insert_with(|| word.to_owned());
    }
    let taken = text.len() - rest.len();
    received.drain(..taken);
    name
}
