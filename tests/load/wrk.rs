//! Load, made by wrk.

use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use super::meter;
use super::tested::{Tested, output};

/// What a round of load came to.
#[derive(Debug, Clone, Copy)]
pub struct Round {
    /// Answers per second.
    pub rate: f64,
    /// Processor time of the program under test for each answer, in microseconds. It hardly minds what else the
    /// machine is doing.
    pub cpu: f64,
}

/// As many connections as a handful of load balancer nodes keep.
const CONNECTIONS: u32 = 16;

/// Asks for `path` over and over for this long.
pub async fn round(tested: &Tested, path: &'static str, length: Duration) -> Round {
    let before = meter::cpu(tested.pid());
    let address = tested.address;
    let printed = tokio::task::spawn_blocking(move || run(address, path, length)).await.expect("wrk ran");
    let used = meter::cpu(tested.pid()).saturating_sub(before);
    let (rate, answers) =
        parse(&printed).unwrap_or_else(|| panic!("wrk was not answered as it should be:\n{printed}"));
    Round { rate, cpu: used.as_secs_f64() * 1e6 / answers }
}

fn run(address: SocketAddr, path: &str, length: Duration) -> String {
    let mut wrk = Command::new("wrk");
    wrk.args(["--threads", "1", "--connections", &CONNECTIONS.to_string()]);
    wrk.args(["--duration", &format!("{}s", length.as_secs())]).arg(format!("http://{address}{path}"));
    output(wrk)
}

/// Answers per second, and how many in all; `None` where some were no answers: of another status, or lost.
pub fn parse(printed: &str) -> Option<(f64, f64)> {
    if printed.contains("Non-2xx or 3xx responses") || printed.contains("Socket errors") {
        return None;
    }
    let rate = printed.lines().find_map(|line| line.strip_prefix("Requests/sec:"))?.trim().parse().ok()?;
    // "  1234 requests in 3.00s, 5.67MB read"
    let answers = printed.lines().find_map(|line| line.split_once(" requests in "))?.0.trim().parse().ok()?;
    Some((rate, answers))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_wrk_prints() {
        let printed = "Running 1s test @ http://127.0.0.1:1/health/ready\n  1 threads and 16 connections\n  \
                       Thread Stats   Avg      Stdev     Max   +/- Stdev\n    Latency   371.50us   98.00us\n  \
                       41234 requests in 1.10s, 6.84MB read\n\
                       Requests/sec:  37485.45\nTransfer/sec:      6.22MB\n";
        assert_eq!(parse(printed), Some((37_485.45, 41_234.0)));
        for wrong in ["Non-2xx or 3xx responses: 3", "Socket errors: connect 0, read 1, write 0, timeout 0"] {
            assert_eq!(parse(&format!("{printed}  {wrong}\n")), None, "{wrong}");
        }
        assert_eq!(parse("unable to connect to 127.0.0.1:1 Connection refused"), None);
    }
}
