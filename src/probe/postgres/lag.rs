//! How far a replica is behind its primary.
//!
//! The age of the last transaction that was replayed is not it: where the primary commits nothing, that grows on a
//! replica that lacks nothing. And where one commit comes after an hour's silence, for the moment until it is
//! replayed it is an hour. So a replica that has replayed all it received lags by nothing; and one that had, a
//! while ago, lags by no more than that while.

use std::net::SocketAddr;
use std::time::Duration;

use super::facts::Replay;
use crate::clock::Stopwatch;

/// Remembers when a replica was last seen with nothing left to replay.
#[derive(Debug, Default)]
pub(super) struct Lag {
    caught_up: Option<(Option<SocketAddr>, Stopwatch)>,
}

impl Lag {
    /// The lag of the replica at this address, from what it tells now.
    pub(super) fn of(&mut self, replay: Replay, address: Option<SocketAddr>) -> Option<Duration> {
        let since = self.caught_up.filter(|(of, _)| *of == address).map(|(_, watch)| watch.elapsed());
        if replay.receiving && replay.caught_up {
            self.caught_up = Some((address, Stopwatch::start()));
        }
        lag(replay, since)
    }
}

/// Whether a primary sent to this replica, and none does any more: how far it is behind, it cannot know.
pub(super) fn link_lost(replay: Replay) -> bool {
    replay.has_received && !replay.receiving
}

fn lag(replay: Replay, since_caught_up: Option<Duration>) -> Option<Duration> {
    match replay {
        Replay { receiving: true, caught_up: true, .. } => Some(Duration::ZERO),
        Replay { receiving: true, behind, .. } => match (behind, since_caught_up) {
            (Some(behind), Some(since)) => Some(behind.min(since)),
            (behind, since) => behind.or(since),
        },
        // It is fed from an archive, or by nobody: the age of what it shows is all there is.
        Replay { receiving: false, behind, .. } => behind,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn secs(seconds: u64) -> Option<Duration> {
        Some(Duration::from_secs(seconds))
    }

    fn replay(receiving: bool, caught_up: bool, behind: Option<Duration>) -> Replay {
        Replay { receiving, has_received: true, caught_up, behind }
    }

    #[test]
    fn nothing_left_to_replay_is_no_lag_however_old_the_last_transaction() {
        assert_eq!(lag(replay(true, true, secs(3_600)), None), secs(0));
        assert_eq!(lag(replay(true, true, None), None), secs(0));
    }

    #[test]
    fn what_is_left_lags_by_its_age_and_by_no_more_than_the_time_since_nothing_was() {
        assert_eq!(lag(replay(true, false, secs(40)), None), secs(40));
        assert_eq!(lag(replay(true, false, secs(40)), secs(90)), secs(40));
        assert_eq!(lag(replay(true, false, secs(3_600)), secs(10)), secs(10), "the primary was idle");
        assert_eq!(lag(replay(true, false, None), secs(10)), secs(10));
        assert_eq!(lag(replay(true, false, None), None), None);
    }

    #[test]
    fn without_a_primary_all_that_was_received_being_replayed_proves_nothing() {
        assert_eq!(lag(replay(false, true, secs(60)), secs(1)), secs(60));
        assert!(link_lost(replay(false, true, None)) && !link_lost(replay(true, false, None)));
        assert!(!link_lost(Replay { has_received: false, ..replay(false, false, None) }), "an archive");
    }

    #[tokio::test(start_paused = true)]
    async fn each_replica_is_remembered_by_itself() {
        let (one, other) = ("10.0.0.1:1".parse().ok(), "10.0.0.2:1".parse().ok());
        let mut seen = Lag::default();
        assert_eq!(seen.of(replay(true, true, secs(500)), one), secs(0));
        tokio::time::advance(Duration::from_secs(5)).await;
        assert_eq!(seen.of(replay(true, false, secs(500)), one), secs(5));
        assert_eq!(seen.of(replay(true, false, secs(500)), other), secs(500));
    }
}
