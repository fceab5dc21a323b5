//! `/health/alb` while 2,000 connections are held that ask nothing, or never finish asking.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use sickbay::clock::Deadline;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::five::Five;
use super::machine::Cores;
use super::report::{Row, Target, median, quantile};
use super::support::client;
use super::support::wait::eventually;
use super::tested::Tested;

const HELD: usize = 2000;
const ASKED: usize = 500;
/// The wanted bound, in milliseconds.
const BOUND: f64 = 50.0;
/// The crowd is held for this long at least: longer than a server's patience with it.
const AT_LEAST: Duration = Duration::from_secs(15);
/// Where answers are slow, fewer are asked for.
const AT_MOST: Duration = Duration::from_secs(45);

/// The row.
pub async fn rows(cores: &Cores) -> Vec<Row> {
    let five = Five::start().await;
    let sickbay = Tested::sickbay(cores, &five.config("1s")).await;
    sickbay.until_well("/health/alb").await;
    let alone = ask(sickbay.address, Duration::ZERO).await;
    let crowd = Crowd::gather(sickbay.address).await;
    let among = ask(sickbay.address, AT_LEAST).await;
    let most = quantile(&among, 1.0);
    vec![Row {
        what: format!(
            "`/health/alb` among {HELD} idle and half-sent connections, slowest of {}, ms",
            among.len()
        ),
        ours: format!("{most:.1} (median {:.2}, alone {:.2})", median(&among), median(&alone)),
        beside: format!("{BOUND} ms; {} connections came again after they were cut", crowd.came_again()),
        ratio: most / BOUND,
        target: Target::AtMost(1.0),
    }]
}

/// How long each of many answers took, one connection each as a load balancer does it, in milliseconds. An
/// answer that does not come is infinitely slow.
async fn ask(address: SocketAddr, at_least: Duration) -> Vec<f64> {
    let (until, at_most) = (Deadline::after(at_least), Deadline::after(AT_MOST));
    let mut took = Vec::new();
    while (took.len() < ASKED || !until.remaining().is_zero()) && !at_most.remaining().is_zero() {
        let answer = client::get(address, "/health/alb").await;
        let well = answer.ok().filter(|answer| answer.status == 200);
        let patience_ended = well.is_none();
        took.push(well.map_or(f64::INFINITY, |answer| answer.took.as_secs_f64() * 1000.0));
        if patience_ended {
            // Nothing is gained by waiting for the others.
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    took
}

/// Connections that are made again whenever they are cut. Dropped, they are gone.
struct Crowd {
    _members: JoinSet<()>,
    made: Arc<AtomicUsize>,
}

impl Crowd {
    async fn gather(address: SocketAddr) -> Self {
        let made = Arc::new(AtomicUsize::new(0));
        let mut members = JoinSet::new();
        for number in 0..HELD {
            // Every other one says nothing; the rest begin a request and leave it.
            let words: &[u8] =
                if number % 2 == 0 { b"" } else { b"GET /health/alb HTTP/1.1\r\nHost: x\r\nX-Slow: " };
            members.spawn(member(address, words, Arc::clone(&made)));
        }
        eventually("the crowd to be there", || {
            let there = made.load(Ordering::Relaxed);
            std::future::ready(if there >= HELD { Ok(()) } else { Err(format!("{there} of {HELD}")) })
        })
        .await;
        Self { _members: members, made }
    }

    fn came_again(&self) -> usize {
        self.made.load(Ordering::Relaxed).saturating_sub(HELD)
    }
}

async fn member(address: SocketAddr, words: &[u8], made: Arc<AtomicUsize>) {
    loop {
        if let Ok(mut stream) = TcpStream::connect(address).await {
            made.fetch_add(1, Ordering::Relaxed);
            if stream.write_all(words).await.is_ok() {
                let mut rest = [0; 512];
                while matches!(stream.read(&mut rest).await, Ok(1..)) {}
            }
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
