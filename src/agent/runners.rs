//! All runners: who watches which dependency, gives them their orders, and replaces those whose settings change.
//!
//! A new configuration is taken up without a gap. Dependencies whose settings are the same keep their runner, and with
//! it circuit, history and connections. For the others runners begin beside the old ones, which go on being shown;
//! when each has a first result, or has had the time for one, all that is shown changes at once, and the old ones end.
//! What an operator orders meanwhile both obey, so that what it comes to, its end included, is over in both alike.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::Level;

use super::legacy::{Legacy, Ordered};
use super::registry::{Reply, RunnerId, Switch, Update};
use super::runner::{Means, Shared};
use super::supervisor::{RESPAWN_AFTER, keep_running};
use crate::clock::{self, Deadline};
use crate::config::plan::DependencyPlan;
use crate::health::circuit::{Mode, Override};
use crate::health::record::GRACE;
use crate::health::{DependencyName, DependencyView, Now, Order, Policy, Record, Snapshot};
use crate::http::NotDone;
use crate::log::about;

/// Orders on their way to a runner. Each is a request that waits, and a request is bounded where it is accepted.
const ORDERS_WAITING: usize = 64;

/// How much longer than a check the first result of a new runner may take: first checks are spread over a fifth of a
/// second, and one that hangs is given up only after its grace.
const FIRST_RESULT_GRACE: Duration = GRACE.saturating_add(Duration::from_secs(1));

/// How long after that a new runner may still take to obey what was ordered meanwhile: one that panicked is back by then.
const OBEYS_WITHIN: Duration = RESPAWN_AFTER.saturating_add(Duration::from_secs(1));

/// Makes what a dependency's runner works with.
pub(super) type Make = Box<dyn Fn(&Arc<DependencyPlan>) -> Means + Send + Sync>;

/// The overrides to begin with.
pub(super) type Restored = HashMap<DependencyName, Arc<Override>>;

/// An order for a dependency.
pub(super) struct Asked {
    pub(super) dependency: DependencyName,
    pub(super) order: Order,
    pub(super) reply: Reply,
}

/// Other dependencies are to be watched.
pub(super) struct Reload {
    /// All of them, in the order of the configuration.
    pub(super) dependencies: Vec<Arc<DependencyPlan>>,
    /// What else changes at the moment at which they are shown.
    pub(super) adopt: Box<dyn FnOnce() + Send>,
    /// Told when they are.
    pub(super) done: oneshot::Sender<Changes>,
}

/// What a new configuration came to, by the names of dependencies.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Changes {
    pub(super) added: Vec<DependencyName>,
    pub(super) changed: Vec<DependencyName>,
    pub(super) removed: Vec<DependencyName>,
    /// How many that are checked go on as they are.
    pub(super) unchanged: usize,
}

/// A dependency that is about to be watched.
pub(super) struct Prepared {
    id: RunnerId,
    plan: Arc<DependencyPlan>,
    record: Record,
    legacy: Legacy,
    orders: mpsc::Sender<Ordered>,
}

impl Prepared {
    fn new(id: RunnerId, plan: Arc<DependencyPlan>, record: Record) -> Self {
        let (legacy, orders) = Legacy::new();
        Self { id, plan, record, legacy, orders }
    }

    /// Holds its circuit, as it was held before it was there.
    fn hold(&mut self, over: Arc<Override>, now: Now) {
        self.legacy.note(&Order::Hold(Arc::clone(&over)));
        self.record.hold(over, now);
    }

    /// The dependencies of a start, in the order of the configuration.
    pub(super) fn all(plans: &[DependencyPlan], mut restored: Restored, now: Now) -> Vec<Self> {
        let prepare = |(id, plan): (RunnerId, &DependencyPlan)| {
            let record = Record::new(Arc::clone(plan.policy()), now, clock::draw());
            let mut prepared = Self::new(id, Arc::new(plan.clone()), record);
            if let Some(over) = restored.remove(&plan.policy().name) {
                prepared.hold(over, now);
            }
            prepared
        };
        (0..).map(RunnerId).zip(plans).map(prepare).collect()
    }

    /// Who will watch it.
    pub(super) fn id(&self) -> RunnerId {
        self.id
    }

    /// How it looks.
    pub(super) fn view(&self, now: Now) -> Arc<DependencyView> {
        Arc::new(self.record.view(now.mono))
    }
}

/// A dependency, and how to reach its runner.
#[derive(Clone)]
struct Member {
    id: RunnerId,
    plan: Arc<DependencyPlan>,
    /// `None` where it is disabled.
    runner: Option<Reach>,
}

#[derive(Clone)]
struct Reach {
    orders: mpsc::Sender<Ordered>,
    legacy: Legacy,
    stop: CancellationToken,
}

impl Member {
    fn name(&self) -> &DependencyName {
        &self.plan.policy().name
    }

    fn legacy(&self) -> Option<&Legacy> {
        self.runner.as_ref().map(|reach| &reach.legacy)
    }

    /// Ends its runner; who still waits for that one is told this.
    fn stop(&self, answer: NotDone) {
        if let Some(reach) = &self.runner {
            reach.legacy.end_with(answer);
            reach.stop.cancel();
        }
    }
}

/// A place for one order. It is taken first, and the order noted then: what could not be given is not obeyed later.
struct Place<'a> {
    orders: mpsc::Permit<'a, Ordered>,
    legacy: &'a Legacy,
}

impl Place<'_> {
    fn give(self, ordered: Ordered) {
        self.legacy.note(&ordered.order);
        self.orders.send(ordered);
    }
}

impl Reach {
    /// Nobody waits for a place: all are taken only of a runner that is being brought back, and the orders for others
    /// must not wait for that one.
    fn place(&self) -> Result<Place<'_>, NotDone> {
        match self.orders.try_reserve() {
            Ok(orders) => Ok(Place { orders, legacy: &self.legacy }),
            Err(TrySendError::Full(())) => Err(NotDone::Busy),
            // A runner takes no more only where it has ended, and it is found here no more unless all end.
            Err(TrySendError::Closed(())) => Err(NotDone::Stopping),
        }
    }
}

/// All runners.
pub(super) struct Runners {
    shared: Shared,
    current: Arc<ArcSwap<Snapshot>>,
    make: Make,
    members: Vec<Member>,
    /// Those that are shown, for liveness.
    watched: Arc<ArcSwap<Vec<Legacy>>>,
    tasks: JoinSet<()>,
    next_id: u64,
}

/// A new configuration whose runners have no first result yet.
struct Coming {
    members: Vec<Member>,
    /// Those orders that new runners were given, too, and may not have obeyed yet.
    echoes: Vec<oneshot::Receiver<Result<(), NotDone>>>,
    first: HashMap<RunnerId, Arc<DependencyView>>,
    /// Until then a first result is waited for.
    deadline: Instant,
    waits_for: Vec<(DependencyName, CancellationToken)>,
    changes: Changes,
    adopt: Box<dyn FnOnce() + Send>,
    done: oneshot::Sender<Changes>,
}

impl Coming {
    /// Ends when each runner has its first result and has obeyed what was ordered meanwhile, or has had the time for it.
    /// Can be dropped and called again.
    async fn is_ready(coming: Option<&mut Self>) {
        let Some(Self { deadline, waits_for, echoes, .. }) = coming else {
            return std::future::pending().await;
        };
        let all = async {
            for (_, first_result) in waits_for {
                first_result.cancelled().await;
            }
        };
        // What has none by then is shown without.
        let _ = tokio::time::timeout_at(*deadline, all).await;
        let obeyed = async {
            while let Some(echo) = echoes.last_mut() {
                // Dropped where the runner panicked over it: then it obeys when it is back.
                let _ = echo.await;
                echoes.pop();
            }
        };
        let _ = tokio::time::timeout_at(*deadline + OBEYS_WITHIN, obeyed).await;
    }

    /// Tells for whom it is waited.
    fn log(&self, within: Duration) {
        let names: Vec<&str> = self.waits_for.iter().map(|(name, _)| name.as_str()).collect();
        if names.is_empty() {
            return;
        }
        let within = within.as_secs_f64().ceil();
        tracing::info!(
            waits_for = names.join(","),
            within_seconds = within,
            "the configuration was read; it takes over when {} have a first result, within {within} s at most",
            names.join(", ")
        );
    }

    /// The runner beside the one that is shown, where there is one.
    fn beside(&self, shown: &Member) -> Option<Reach> {
        let new = self.members.iter().find(|new| new.name() == shown.name())?;
        new.runner.clone().filter(|_| new.id != shown.id)
    }
}

impl Runners {
    /// Starts a runner for each dependency that is enabled.
    pub(super) fn start(
        prepared: Vec<Prepared>,
        make: Make,
        current: Arc<ArcSwap<Snapshot>>,
        watched: Arc<ArcSwap<Vec<Legacy>>>,
        shared: Shared,
    ) -> Self {
        let next_id = prepared.iter().map(|prepared| prepared.id.0 + 1).max().unwrap_or_default();
        let members = Vec::new();
        let mut runners = Self { shared, current, make, members, watched, tasks: JoinSet::new(), next_id };
        runners.members = prepared.into_iter().map(|prepared| runners.spawn(prepared)).collect();
        runners.show_lives();
        runners
    }

    /// The way to give orders.
    pub(super) fn orders() -> (mpsc::Sender<Asked>, mpsc::Receiver<Asked>) {
        mpsc::channel(ORDERS_WAITING)
    }

    /// Runs until the agent stops and every runner has ended. One new configuration is taken up at a time.
    pub(super) async fn run(mut self, mut asked: mpsc::Receiver<Asked>, mut reloads: mpsc::Receiver<Reload>) {
        let mut coming: Option<Coming> = None;
        loop {
            tokio::select! {
                biased;
                () = self.shared.stop.cancelled() => break,
                Some(asked) = asked.recv() => self.give(asked, coming.as_mut()),
                () = Coming::is_ready(coming.as_mut()) => {
                    if let Some(ready) = coming.take() {
                        self.switch(ready).await;
                    }
                }
                Some(reload) = reloads.recv(), if coming.is_none() => coming = Some(self.begin(reload)),
                Some(_) = self.tasks.join_next() => {}
            }
        }
        // Whoever still asks is told that nobody answers any more.
        drop((asked, reloads, coming));
        while self.tasks.join_next().await.is_some() {}
    }

    fn spawn(&mut self, prepared: Prepared) -> Member {
        let Prepared { id, plan, record, legacy, orders } = prepared;
        if !plan.policy().enabled() {
            return Member { id, plan, runner: None };
        }
        let means = (self.make)(&plan);
        // Of the agent's end, or of this runner's alone.
        let stop = self.shared.stop.child_token();
        let shared = Shared { stop: stop.clone(), ..self.shared.clone() };
        self.tasks.spawn(keep_running(id, record, means, legacy.clone(), shared));
        Member { id, plan, runner: Some(Reach { orders, legacy, stop }) }
    }

    /// Passes an order on, without waiting.
    fn give(&self, Asked { dependency, order, reply }: Asked, coming: Option<&mut Coming>) {
        if let Err((reply, why)) = self.pass_on(&dependency, order, reply, coming) {
            // Whoever asked may have given up.
            let _ = reply.send(Err(why));
        }
    }

    /// Passes an order on to the runner that is shown, which answers it, and to the one beside it.
    fn pass_on(
        &self,
        dependency: &DependencyName,
        order: Order,
        reply: Reply,
        coming: Option<&mut Coming>,
    ) -> Result<(), (Reply, NotDone)> {
        let Some(member) = self.members.iter().find(|member| member.name() == dependency) else {
            return Err((reply, NotDone::Unknown));
        };
        let Some(reach) = &member.runner else { return Err((reply, NotDone::Disabled)) };
        // Both or none.
        let place = match reach.place() {
            Ok(place) => place,
            Err(why) => return Err((reply, why)),
        };
        if let Some(coming) = coming.filter(|_| order != Order::Check)
            && let Some(beside) = coming.beside(member)
        {
            let (echo, obeyed) = oneshot::channel();
            match beside.place() {
                Ok(place) => place.give(Ordered { order: order.clone(), reply: echo, is_echo: true }),
                Err(why) => return Err((reply, why)),
            }
            coming.echoes.push(obeyed);
        }
        place.give(Ordered { order, reply, is_echo: false });
        Ok(())
    }

    /// Starts the runners that a new configuration wants beside those that there are.
    fn begin(&mut self, Reload { dependencies, adopt, done }: Reload) -> Coming {
        let now = self.shared.clock.now();
        let snapshot = self.current.load_full();
        let mut before: HashMap<DependencyName, Member> =
            self.members.iter().map(|member| (member.name().clone(), member.clone())).collect();
        let mut coming = Coming {
            members: Vec::new(),
            echoes: Vec::new(),
            first: HashMap::new(),
            deadline: Deadline::after(Duration::ZERO).instant(),
            waits_for: Vec::new(),
            changes: Changes::default(),
            adopt,
            done,
        };
        let mut within = FIRST_RESULT_GRACE;
        for plan in dependencies {
            let policy = Arc::clone(plan.policy());
            let old = before.remove(&policy.name);
            if let Some(same) = old.as_ref().filter(|old| *old.plan == *plan) {
                coming.changes.unchanged += usize::from(policy.enabled());
                coming.members.push(same.clone());
                continue;
            }
            let seen = snapshot.get(policy.name.as_str()).filter(|_| old.is_some()).map(|(_, view)| view);
            let record = match seen {
                Some(seen) => Record::in_place_of(seen, Arc::clone(&policy), now, clock::draw()),
                None => Record::new(Arc::clone(&policy), now, clock::draw()),
            };
            let mut prepared = Prepared::new(self.next_id(), plan, record);
            let held = old.as_ref().and_then(Member::legacy).and_then(|legacy| legacy.held(now.mono));
            if let Some(over) = held.filter(|_| policy.enabled()) {
                prepared.hold(over, now);
            }
            let view = prepared.view(now);
            coming.first.insert(prepared.id, Arc::clone(&view));
            let member = self.spawn(prepared);
            // No check is made, nor waited for, while it is held open.
            if let Some(legacy) = member.legacy().filter(|_| !view.circuit.is_held(Mode::ForcedOpen)) {
                coming.waits_for.push((policy.name.clone(), legacy.first_result().clone()));
                within = within.max(policy.timeout + FIRST_RESULT_GRACE);
            }
            match old {
                None => coming.changes.added.push(policy.name.clone()),
                Some(_) => coming.changes.changed.push(policy.name.clone()),
            }
            coming.members.push(member);
        }
        let gone = self.members.iter().map(Member::name).filter(|name| before.contains_key(*name));
        coming.changes.removed = gone.cloned().collect();
        coming.deadline = Deadline::after(within).instant();
        coming.log(within);
        coming
    }

    /// Shows what a new configuration wants to be watched, and ends the runners of what it does not.
    async fn switch(&mut self, coming: Coming) {
        let Coming { members, first, changes, adopt, done: told, .. } = coming;
        let shown: Vec<RunnerId> = members.iter().map(|member| member.id).collect();
        let (done, seen) = oneshot::channel();
        let switch = Switch { shown, first, adopt, done };
        if self.shared.updates.send(Update::Switch(switch)).await.is_ok() {
            let _ = seen.await;
        }
        let now = self.shared.clock.mono();
        let before = std::mem::replace(&mut self.members, members);
        let after: HashMap<&DependencyName, &Member> =
            self.members.iter().map(|member| (member.name(), member)).collect();
        for old in &before {
            let why = match after.get(old.name()) {
                Some(new) if new.id == old.id => continue,
                Some(Member { runner: Some(_), .. }) => NotDone::Replaced,
                Some(Member { runner: None, .. }) => NotDone::Disabled,
                None => NotDone::Unknown,
            };
            if let Some(over) = old.legacy().and_then(|legacy| legacy.held(now)) {
                log_dropped(after.get(old.name()).copied(), old.plan.policy(), &over);
            }
            old.stop(why);
        }
        self.show_lives();
        // Whoever asked may be about to end.
        let _ = told.send(changes);
    }

    fn show_lives(&self) {
        let lives = self.members.iter().filter_map(|member| member.legacy().cloned()).collect();
        self.watched.store(Arc::new(lives));
    }

    fn next_id(&mut self) -> RunnerId {
        let id = RunnerId(self.next_id);
        self.next_id += 1;
        id
    }
}

/// An override that ends with what it held is told as loudly as it was when it began.
fn log_dropped(new: Option<&Member>, before: &Policy, over: &Override) {
    let why = match new {
        // It goes on there.
        Some(Member { runner: Some(_), .. }) => return,
        Some(new) => {
            let why = new.plan.policy().disabled.as_deref().unwrap_or("by configuration");
            format!("the new configuration disables the dependency ({why})")
        }
        None => "the new configuration has no dependency of this name".to_owned(),
    };
    about!(
        Level::WARN,
        before,
        mode = over.mode.as_str(),
        actor = over.actor.as_str(),
        reason = over.reason.as_str(),
        readiness = over.readiness.as_str(),
        expires_at = clock::rfc3339(over.expires.wall),
        "{} by {} is dropped, since {why}: {}",
        over.mode,
        over.actor,
        over.reason
    );
}
