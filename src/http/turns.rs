//! One long answer at a time, and a look at all sockets between two of them.
//!
//! What operators ask for can take a hundred times as long to make as a health answer. Hundreds of clients who ask
//! for it, again and again, would each have it made several times before the thread looks whether the load
//! balancer has asked, too.

use std::sync::Arc;

use tokio::sync::Mutex;

/// The turns of one listener, in the order in which they are asked for. Copies are the same turns.
#[derive(Debug, Clone, Default)]
pub(super) struct Turns(Arc<Mutex<()>>);

impl Turns {
    /// Waits for a turn. The turn lasts until whoever has it waits for something else.
    pub(super) async fn next(&self) {
        let _first = self.0.lock().await;
        // A runtime takes up who yields after it has looked at the sockets.
        tokio::task::yield_now().await;
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::rc::Rc;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::UnixStream;
    use tokio::task::LocalSet;

    use super::*;

    #[tokio::test]
    async fn what_comes_is_seen_before_the_turns_of_others_are_over() {
        let (mut ours, mut theirs) = UnixStream::pair().unwrap();
        let taken = Rc::new(Cell::new(0));
        let local = LocalSet::new();
        let turns = Turns::default();
        for _ in 0..1_000 {
            let (turns, taken) = (turns.clone(), Rc::clone(&taken));
            local.spawn_local(async move {
                turns.next().await;
                taken.set(taken.get() + 1);
            });
        }
        let seen_after = local.run_until(async {
            while taken.get() < 10 {
                tokio::task::yield_now().await;
            }
            theirs.write_u8(b'?').await.unwrap();
            let sent_after = taken.get();
            ours.read_u8().await.unwrap();
            taken.get() - sent_after
        });
        let seen_after = seen_after.await;
        assert!(seen_after <= 10, "{seen_after} others had their turn");
    }
}
