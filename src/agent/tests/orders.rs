//! Orders, and a new configuration, over the same scripted probes.

use std::collections::HashMap;
use std::sync::Mutex;

use super::*;
use crate::agent::keeper;
use crate::agent::operations::Orders;
use crate::agent::runners::{Changes, Make, Prepared, Reload, Restored, Runners};
use crate::config::plan::DependencyPlan;
use crate::config::{self, Sources};
use crate::health::circuit::{Actor, Mode, Override, Readiness, State};
use crate::health::{DependencyName, Order, ServiceStatus};
use crate::http::{NotDone, Operations as _};

const MINUTE: Duration = Duration::from_secs(60);

/// The plans of dependencies of these names, each with what is said of it.
fn plan(dependencies: &[(&str, &str)]) -> Vec<DependencyPlan> {
    let mut text = String::from("dependencies:\n");
    for (name, more) in dependencies {
        text += &format!(
            "  - {{name: {name}, kind: tcp, impact: critical, scope: shared, host: 127.0.0.1, port: 1, slow_after: 60s, {more}}}\n"
        );
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("sickbay.yaml");
    std::fs::write(&file, text).unwrap();
    let plan = config::load(&Sources { files: vec![file], ..Sources::default() }).unwrap();
    // Without those that are compiled in.
    let is_given =
        |plan: &&DependencyPlan| dependencies.iter().any(|(name, _)| plan.policy().name.as_str() == *name);
    plan.dependencies().iter().filter(is_given).cloned().collect()
}

/// The agent's inside: what is asked for is answered by scripts, by the name of the dependency.
struct Inside {
    clock: Clock,
    current: Arc<ArcSwap<Snapshot>>,
    orders: Orders,
    reloads: mpsc::Sender<Reload>,
    scripts: Scripts,
    /// Of every probe that was made for a dependency, by its name.
    counts: Arc<Mutex<HashMap<String, Counts>>>,
    /// Whose runners do not survive that their probe is made.
    bad_to_make: Arc<Mutex<Vec<String>>>,
    held: watch::Receiver<Held>,
    stop: CancellationToken,
    runners: tokio::task::JoinHandle<()>,
}

type Scripts = Arc<Mutex<HashMap<String, Script>>>;

impl Inside {
    fn start(plan: &[DependencyPlan], scripts: impl IntoIterator<Item = (&'static str, Script)>) -> Self {
        Self::start_with(plan, scripts, Restored::new())
    }

    fn start_with(
        plan: &[DependencyPlan],
        scripts: impl IntoIterator<Item = (&'static str, Script)>,
        restored: Restored,
    ) -> Self {
        let clock = Clock::start();
        let started = clock.now();
        let prepared = Prepared::all(plan, restored, started);
        let views = prepared.iter().map(|prepared| prepared.view(started)).collect();
        let current = Arc::new(ArcSwap::from_pointee(Snapshot::new(started, views)));
        let (tell, held) = watch::channel(Held::default());
        let ids = prepared.iter().map(Prepared::id);
        let (registry, updates) =
            Registry::new(clock, Arc::clone(&current), ids, tell, Heartbeat::new(clock));
        tokio::spawn(registry.run(|| {}));
        let stop = CancellationToken::new();
        let names = Settings { nameservers: Vec::new(), packets_per_second: NonZeroU32::MIN };
        let shared =
            Shared { clock, updates, network: Network::new(names), turns: turns(), stop: stop.clone() };
        let scripts: Scripts = Arc::new(Mutex::new(
            scripts.into_iter().map(|(name, script)| (name.to_owned(), script)).collect(),
        ));
        let counts: Arc<Mutex<HashMap<String, Counts>>> = Arc::default();
        let (given, counted) = (Arc::clone(&scripts), Arc::clone(&counts));
        let bad_to_make: Arc<Mutex<Vec<String>>> = Arc::default();
        let bad = Arc::clone(&bad_to_make);
        let make: Make = Box::new(move |plan| {
            let name = plan.policy().name.as_str().to_owned();
            let script = given.lock().unwrap().get(&name).cloned().unwrap_or_else(well);
            let count = counted.lock().unwrap().entry(name.clone()).or_default().clone();
            let bad = Arc::clone(&bad);
            let factory: Factory = Arc::new(move || {
                count.made.fetch_add(1, Ordering::SeqCst);
                let is_bad = bad.lock().unwrap().contains(&name);
                assert!(!is_bad, "this panic is part of the test");
                let Counts { asked, closed, .. } = count.clone();
                Ok(Box::new(Scripted { script: Arc::clone(&script), asked, closed }))
            });
            Means { factory, watched_name: None, explain: None }
        });
        let (give, asked) = Runners::orders();
        let (kept, _) = keeper::keep(None, held.clone());
        let (reloads, to_reload) = mpsc::channel(1);
        let runners = Runners::start(prepared, make, Arc::clone(&current), Arc::default(), shared);
        let runners = tokio::spawn(runners.run(asked, to_reload));
        let orders = Orders::new(give, kept);
        Self { clock, current, orders, reloads, scripts, counts, bad_to_make, held, stop, runners }
    }

    async fn order(&self, name: &str, order: Order) -> Result<(), NotDone> {
        self.orders.carry_out(&DependencyName::parse(name).unwrap(), order).await
    }

    fn over(&self, mode: Mode, how_long: Duration) -> Order {
        let now = self.clock.now();
        let mono = now.mono + how_long;
        Order::Hold(Arc::new(Override {
            mode,
            reason: "a test".into(),
            actor: Actor::new("admin"),
            since: now.wall,
            expires: crate::health::Now { mono, wall: now.wall_at(mono) },
            readiness: Readiness::Count,
        }))
    }

    /// Takes a configuration up; what came of it, or `None` where the agent ended meanwhile.
    fn reload(&self, plan: &[DependencyPlan]) -> impl Future<Output = Option<Changes>> + use<> {
        let dependencies = plan.iter().map(|dependency| Arc::new(dependency.clone())).collect();
        let (done, changes) = oneshot::channel();
        let reload = Reload { dependencies, adopt: Box::new(|| {}), done };
        let reloads = self.reloads.clone();
        async move {
            assert!(reloads.send(reload).await.is_ok());
            changes.await.ok()
        }
    }

    fn script(&self, name: &str, script: Script) {
        self.scripts.lock().unwrap().insert(name.to_owned(), script);
    }

    fn is_bad_to_make(&self, name: &str) {
        self.bad_to_make.lock().unwrap().push(name.to_owned());
    }

    fn view(&self, name: &str) -> Arc<DependencyView> {
        Arc::clone(self.current.load().get(name).unwrap().1)
    }

    fn state(&self, name: &str) -> State {
        self.view(name).circuit.state
    }

    fn status(&self, name: &str) -> Status {
        let snapshot = self.current.load();
        snapshot.status(snapshot.get(name).unwrap().0, self.clock.mono())
    }

    fn count(&self, name: &str) -> Counts {
        self.counts.lock().unwrap().get(name).cloned().unwrap_or_default()
    }

    fn asked(&self, name: &str) -> usize {
        self.count(name).asked.load(Ordering::SeqCst)
    }

    fn service(&self) -> ServiceStatus {
        verdict::service(&self.current.load(), self.clock.mono())
    }

    fn names(&self) -> Vec<String> {
        self.current.load().dependencies.iter().map(|view| view.policy.name.to_string()).collect()
    }

    async fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let limit = Deadline::after(Duration::from_secs(3600));
        while !holds(self) {
            assert!(!limit.remaining().is_zero(), "an hour passed without: {what}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

fn refused() -> Script {
    Arc::new(|_| Box::pin(async { Err(Failure::new(Phase::Auth, FailureKind::AuthFailed, "no")) }))
}

/// One that takes so long.
fn slow(takes: Duration) -> Script {
    Arc::new(move |_| {
        Box::pin(async move {
            tokio::time::sleep(takes).await;
            Ok(Observation::default())
        })
    })
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[tokio::test(start_paused = true)]
async fn an_order_is_to_be_seen_when_it_is_answered() {
    let it = Inside::start(&plan(&[("database", "")]), []);
    it.until("it is up", |it| it.status("database") == Status::Up).await;
    let asked = it.asked("database");
    assert_eq!(it.order("database", it.over(Mode::ForcedOpen, 30 * MINUTE)).await, Ok(()));
    assert_eq!((it.state("database"), it.status("database")), (State::Open, Status::Down));
    assert_eq!(it.held.borrow().overrides.len(), 1);
    tokio::time::sleep(10 * MINUTE).await;
    assert_eq!(it.asked("database"), asked, "nothing is asked while it is held open");
    assert_eq!(it.status("database"), Status::Down, "and that does not grow stale");
    assert_eq!(it.order("database", Order::Check).await, Err(NotDone::HeldOpen));

    assert_eq!(it.order("database", it.over(Mode::ForcedClosed, MINUTE)).await, Ok(()));
    assert!(it.view("database").circuit.is_held(Mode::ForcedClosed), "another takes its place");
    assert_eq!(it.order("database", Order::Reset(Actor::new("admin"))).await, Ok(()));
    assert_eq!(it.view("database").circuit.over, None);
    assert!(it.held.borrow().overrides.is_empty());
    it.until("trials close it", |it| it.state("database") == State::Closed).await;
}

#[tokio::test(start_paused = true)]
async fn a_check_is_made_now_and_seen_when_it_is_answered() {
    let it = Inside::start(&plan(&[("database", "interval: 10m")]), []);
    it.until("it is up", |it| it.status("database") == Status::Up).await;
    let began = it.clock.mono();
    assert_eq!(it.order("database", Order::Check).await, Ok(()));
    assert_eq!((it.asked("database"), it.view("database").circuit.successes), (2, 2));
    assert!(it.clock.mono().since(began) < secs(1));
}

#[tokio::test(start_paused = true)]
async fn orders_are_obeyed_while_a_check_hangs_and_askers_share_it() {
    let plan = plan(&[("database", "timeout: 60s, connect_timeout: 60s, retry: {attempts: 1}")]);
    let it = Inside::start(&plan, [("database", slow(secs(50)))]);
    it.until("a check is under way", |it| it.asked("database") == 1).await;
    let began = it.clock.mono();
    let name = DependencyName::parse("database").unwrap();
    let asked = [(); 3].map(|()| tokio::spawn(it.orders.carry_out(&name, Order::Check)));
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(it.order("database", it.over(Mode::ForcedOpen, 30 * MINUTE)).await, Ok(()));
    assert_eq!(it.state("database"), State::Open);
    assert_eq!(it.order("database", Order::Check).await, Err(NotDone::HeldOpen));
    assert_eq!(it.order("database", Order::Reset(Actor::new("admin"))).await, Ok(()));
    assert_eq!(it.state("database"), State::HalfOpen);
    assert_eq!(it.order("database", it.over(Mode::ForcedClosed, secs(20))).await, Ok(()));
    assert!(it.clock.mono().since(began) < secs(1), "none of them waited for the check");

    it.until("it expires under the check", |it| it.state("database") == State::HalfOpen).await;
    assert!(it.clock.mono().since(began) < secs(21));
    for asked in asked {
        assert_eq!(asked.await.unwrap(), Ok(()));
    }
    assert_eq!(it.view("database").circuit.successes, 1, "one for all");
    assert_eq!(it.view("database").circuit.consecutive_successes, 1, "it counted as a trial");
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_a_check_that_is_lost_is_told() {
    let it = Inside::start(&plan(&[("database", "")]), [("database", hangs())]);
    it.until("a check is under way", |it| it.asked("database") == 1).await;
    assert_eq!(it.order("database", Order::Check).await, Err(NotDone::CheckLost));
    // A request that its client gave up takes no place.
    let name = DependencyName::parse("database").unwrap();
    let given_up = tokio::time::timeout(secs(1), it.orders.carry_out(&name, Order::Check)).await;
    assert!(given_up.is_err());
    assert_eq!(it.order("database", it.over(Mode::ForcedClosed, MINUTE)).await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn an_override_ends_by_itself_with_a_trial_at_once() {
    let it = Inside::start(&plan(&[("database", "")]), []);
    it.until("it is up", |it| it.status("database") == Status::Up).await;
    let asked = it.asked("database");
    let began = it.clock.mono();
    assert_eq!(it.order("database", it.over(Mode::ForcedOpen, 30 * MINUTE)).await, Ok(()));
    it.until("a trial", |it| it.asked("database") > asked).await;
    let took = it.clock.mono().since(began);
    assert!(took >= 30 * MINUTE && took < 30 * MINUTE + secs(1), "{took:?}");
    it.until("it is up", |it| it.status("database") == Status::Up).await;
    let states: Vec<_> = it.view("database").circuit.transitions.iter().map(|t| t.to.as_str()).collect();
    assert_eq!(states, ["open", "half_open", "closed"]);
    assert!(it.held.borrow().overrides.is_empty(), "who keeps it is told of its end");
}

#[tokio::test(start_paused = true)]
async fn an_override_outlives_a_runner_that_dies_and_orders_wait_for_the_next() {
    // The second probe of each life is made by a runner that does not survive it.
    // A check takes a while, so that one can look at what a new life has before its first result.
    let script: Script = Arc::new(|n| {
        Box::pin(async move {
            tokio::time::sleep(secs(1)).await;
            assert!(n % 2 == 0, "this panic is part of the test");
            Ok(Observation::default())
        })
    });
    let bench = Bench::start_making(vec![(policy("database"), script)], |n| n % 2 == 1);
    bench.until("it is up", |b| b.status(0) == Status::Up).await;
    let clock = bench.clock;
    let give = |order: Order| {
        let (reply, answer) = oneshot::channel();
        bench.legacies[0].note(&order);
        let orders = bench.orders[0].clone();
        async move {
            orders.send(Ordered { order, reply, is_echo: false }).await.unwrap();
            answer.await
        }
    };
    let now = clock.now();
    let mono = now.mono + 30 * MINUTE;
    let over = Arc::new(Override {
        mode: Mode::ForcedClosed,
        reason: "a test".into(),
        actor: Actor::new("admin"),
        since: now.wall,
        expires: crate::health::Now { mono, wall: now.wall_at(mono) },
        readiness: Readiness::Count,
    });
    assert_eq!(give(Order::Hold(Arc::clone(&over))).await, Ok(Ok(())));
    let lives = bench.made(0);
    let comes_back = |b: &Bench, times| {
        let service = verdict::service(&b.current.load(), b.clock.mono());
        assert_ne!(service, ServiceStatus::Starting, "it has started, and forgets that with no runner");
        b.made(0) >= lives + times
    };
    bench.until("it died and came back", |b| comes_back(b, 4)).await;
    let view = || Arc::clone(&bench.current.load().dependencies[0]);
    assert_eq!(view().circuit.over.as_deref(), Some(&*over));
    // Whenever it comes: the runner may just be dead.
    assert_eq!(give(Order::Reset(Actor::new("admin"))).await, Ok(Ok(())));
    assert_eq!(view().circuit.over, None);
    bench.until("it died and came back", |b| comes_back(b, 8)).await;
    assert_eq!(view().circuit.over, None, "what was reset does not come back");
}

#[tokio::test(start_paused = true)]
async fn who_is_not_there_and_who_is_disabled_is_told_apart() {
    let it = Inside::start(&plan(&[("database", ""), ("off", "enabled: false")]), []);
    assert_eq!(it.order("nobody", Order::Check).await, Err(NotDone::Unknown));
    assert_eq!(it.order("off", it.over(Mode::ForcedOpen, MINUTE)).await, Err(NotDone::Disabled));
    it.stop.cancel();
    it.until("the end", |it| it.runners.is_finished()).await;
    assert_eq!(it.order("database", Order::Check).await, Err(NotDone::Stopping));
}

#[tokio::test(start_paused = true)]
async fn restored_overrides_hold_from_the_first_snapshot_on_and_leave_nothing_starting() {
    let clock = Clock::start();
    let now = clock.now();
    let mono = now.mono + 30 * MINUTE;
    let over = |name: &str, mode| {
        let over = Override {
            mode,
            reason: "before the restart".into(),
            actor: Actor::new("admin"),
            since: now.wall,
            expires: crate::health::Now { mono, wall: now.wall_at(mono) },
            readiness: Readiness::Ignore,
        };
        (DependencyName::parse(name).unwrap(), Arc::new(over))
    };
    let restored = [over("open", Mode::ForcedOpen), over("closed", Mode::ForcedClosed)].into();
    let plans = plan(&[("open", ""), ("closed", "")]);
    let it = Inside::start_with(&plans, [("open", hangs()), ("closed", refused())], restored);
    assert_eq!([it.status("open"), it.status("closed")], [Status::Down, Status::Degraded]);
    assert_eq!(it.held.borrow().overrides.len(), 2, "and are kept on");
    it.until("a result", |it| it.view("closed").last_check.is_some()).await;
    assert_eq!((it.service(), it.asked("open")), (ServiceStatus::Degraded, 0));
    it.until("both expire", |it| it.held.borrow().overrides.is_empty()).await;
    assert_eq!(it.service(), ServiceStatus::Down);
}

// A new configuration.

#[tokio::test(start_paused = true)]
async fn unchanged_ones_go_on_and_the_order_is_the_new_ones() {
    let it = Inside::start(&plan(&[("a", ""), ("b", ""), ("c", "")]), []);
    it.until("all are up", |it| it.service() == ServiceStatus::Up).await;
    tokio::time::sleep(MINUTE).await;
    let before = it.view("a").circuit.successes;
    let next = plan(&[("d", ""), ("c", "timeout: 9s"), ("a", "")]);
    let changes = it.reload(&next).await.unwrap();
    let names = |names: &[DependencyName]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(
        (names(&changes.added), names(&changes.changed), names(&changes.removed), changes.unchanged),
        (vec!["d".into()], vec!["c".into()], vec!["b".into()], 1)
    );
    assert_eq!(it.names(), ["d", "c", "a"]);
    assert_eq!(it.service(), ServiceStatus::Up, "each has a result when it is shown");
    assert_eq!(it.view("c").policy.timeout, secs(9));
    assert!(it.view("a").circuit.successes >= before);
    assert_eq!(it.view("c").circuit.successes, 1, "another circuit");
    it.until("the old ones said goodbye", |it| {
        ["b", "c"].iter().all(|name| it.count(name).closed.load(Ordering::SeqCst) == 1)
    })
    .await;
    assert_eq!((it.count("a").made.load(Ordering::SeqCst), it.asked("b")), (1, it.asked("b")));
    let asked = it.asked("b");
    tokio::time::sleep(MINUTE).await;
    assert_eq!(it.asked("b"), asked, "what was removed is asked no more");
    assert!(it.view("a").circuit.successes >= before + 5);
    assert_eq!(it.order("b", Order::Check).await, Err(NotDone::Unknown));
    assert_eq!(it.order("d", Order::Check).await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn a_new_one_that_hangs_makes_nothing_start_over() {
    let it = Inside::start(&plan(&[("a", "")]), [("new", hangs())]);
    it.until("it is up", |it| it.service() == ServiceStatus::Up).await;
    let reload = tokio::spawn(it.reload(&plan(&[("a", ""), ("new", "timeout: 5s")])));
    let began = it.clock.mono();
    while !reload.is_finished() {
        assert_eq!(
            (it.service(), it.names().len()),
            (ServiceStatus::Up, 1),
            "what was shown goes on being shown"
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(it.clock.mono().since(began) < secs(10), "its time and a grace");
    assert_eq!((it.names().len(), it.service()), (2, ServiceStatus::Down), "unknown, and no start");
    let (snapshot, now) = (it.current.load_full(), it.clock.mono());
    assert!(verdict::alb(&snapshot, now).pass, "no reason to take the task out");
    assert!(verdict::startup(&snapshot).pass, "nor to take back that it came up");
}

#[tokio::test(start_paused = true)]
async fn a_new_one_that_is_misconfigured_is_no_reason_to_replace_the_fleet() {
    let it = Inside::start(&plan(&[("a", "")]), [("new", refused())]);
    it.until("it is up", |it| it.service() == ServiceStatus::Up).await;
    it.reload(&plan(&[("a", ""), ("new", "")])).await;
    assert_eq!(it.view("new").failing_by(), Some(FailureKind::AuthFailed));
    let (snapshot, now) = (it.current.load_full(), it.clock.mono());
    let codes = [verdict::ready(&snapshot, now), verdict::alb(&snapshot, now)].map(|answer| answer.code());
    assert_eq!((it.service(), codes), (ServiceStatus::Down, [503, 200]));
    // At a start it is one.
    let it = Inside::start(&plan(&[("a", ""), ("new", "")]), [("new", refused())]);
    it.until("each has a result", |it| it.service() == ServiceStatus::Down).await;
    assert!(!verdict::alb(&it.current.load(), it.clock.mono()).pass);
}

#[tokio::test(start_paused = true)]
async fn before_the_start_is_over_a_reload_does_not_end_it() {
    let it = Inside::start(&plan(&[("a", "timeout: 5s")]), [("a", hangs())]);
    it.reload(&plan(&[("a", "timeout: 6s")])).await;
    assert_eq!(it.service(), ServiceStatus::Starting);
    assert!(!verdict::startup(&it.current.load()).pass);
}

#[tokio::test(start_paused = true)]
async fn two_in_a_row_and_the_latest_wins() {
    let it = Inside::start(&plan(&[("a", "")]), [("b", slow(secs(3)))]);
    it.until("it is up", |it| it.service() == ServiceStatus::Up).await;
    let first = tokio::spawn(it.reload(&plan(&[("a", ""), ("b", "")])));
    let second = tokio::spawn(it.reload(&plan(&[("c", ""), ("b", "timeout: 9s")])));
    assert_eq!(first.await.unwrap().unwrap().added.len(), 1);
    let changes = second.await.unwrap().unwrap();
    assert_eq!((changes.added.len(), changes.changed.len(), changes.removed.len()), (1, 1, 1));
    assert_eq!((it.names(), it.service()), (vec!["c".into(), "b".into()], ServiceStatus::Up));
    assert_eq!(it.view("b").policy.timeout, secs(9));
}

#[tokio::test(start_paused = true)]
async fn what_was_down_stays_down_until_trials_succeed_and_what_came_up_is_not_born_again() {
    let it = Inside::start(&plan(&[("a", ""), ("b", ""), ("c", "")]), [("c", refused())]);
    let as_wanted =
        |it: &Inside| ["a", "b", "c"].map(|name| it.status(name)) == [Status::Up, Status::Up, Status::Down];
    it.until("two are up", as_wanted).await;
    // One whose new settings are wrong, one that was never up, one that goes on as it is.
    it.script("b", refused());
    it.script("c", well());
    it.reload(&plan(&[("a", ""), ("b", "timeout: 9s"), ("c", "timeout: 9s")])).await;
    assert_eq!((it.status("b"), it.state("b")), (Status::Degraded, State::Closed), "it has come up before");
    assert!(verdict::alb(&it.current.load(), it.clock.mono()).pass, "what fails now is no bad start");
    assert_eq!(it.status("c"), Status::Up, "its first success");
    it.until("it is down", |it| it.status("b") == Status::Down).await;

    it.script("b", well());
    it.reload(&plan(&[("a", ""), ("b", "timeout: 8s"), ("c", "timeout: 9s")])).await;
    assert_eq!((it.status("b"), it.state("b")), (Status::Down, State::HalfOpen), "one success is not enough");
    it.until("it is up", |it| it.status("b") == Status::Up).await;
    assert_eq!(it.view("b").circuit.successes, 3);
}

#[tokio::test(start_paused = true)]
async fn overrides_stay_in_force_also_those_ordered_meanwhile() {
    let names = ["a", "b", "c", "d", "e", "f"];
    let with = |more| plan(&names.map(|name| (name, more)));
    let it = Inside::start(&with(""), []);
    it.until("all are up", |it| it.service() == ServiceStatus::Up).await;
    for name in ["a", "b", "f"] {
        assert_eq!(it.order(name, it.over(Mode::ForcedOpen, 30 * MINUTE)).await, Ok(()));
    }
    // The fourth keeps the switch waiting.
    it.script("d", slow(secs(50)));
    let reload = tokio::spawn(it.reload(&with("timeout: 60s, connect_timeout: 60s")));
    it.until("new runners have begun", |it| it.count("d").made.load(Ordering::SeqCst) == 2).await;
    assert_eq!(it.order("b", Order::Reset(Actor::new("admin"))).await, Ok(()));
    assert_eq!(it.order("c", it.over(Mode::ForcedClosed, 30 * MINUTE)).await, Ok(()));
    assert!(it.view("c").circuit.is_held(Mode::ForcedClosed), "seen at once, by the runner that is shown");
    // What is over when the new ones are shown is over there, too, with the trials that follow it: also where it took the
    // place of another.
    for name in ["e", "f"] {
        assert_eq!(it.order(name, it.over(Mode::ForcedOpen, secs(2))).await, Ok(()));
    }
    it.until("it is over", |it| ["e", "f"].iter().all(|name| it.state(name) == State::Closed)).await;
    assert!(!reload.is_finished());
    let is_closed = |it: &Inside| ["e", "f"].iter().all(|name| it.state(name) == State::Closed);
    it.until("the new ones are shown", |it| {
        assert!(is_closed(it), "it is not held again");
        reload.is_finished()
    })
    .await;
    assert_eq!(reload.await.unwrap().unwrap().changed.len(), 6);
    assert!(is_closed(&it));
    let held = |name: &str| it.view(name).circuit.over.as_ref().map(|over| over.mode);
    assert_eq!(
        names.map(held),
        [Some(Mode::ForcedOpen), None, Some(Mode::ForcedClosed), None, None, None],
        "as it was ordered last"
    );
    assert_eq!(it.view("a").policy.timeout, MINUTE);
    let kept: Vec<_> = it.held.borrow().overrides.iter().map(|(name, _)| name.to_string()).collect();
    assert_eq!(kept, ["a", "c"]);
    // And they end where they would have.
    it.until("both are over", |it| it.held.borrow().overrides.is_empty()).await;
    it.until("all are up", |it| it.service() == ServiceStatus::Up).await;
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_a_check_that_a_reload_cuts_off_is_told_so() {
    let names = ["a", "b", "c"];
    let hanging = names.map(|name| (name, "timeout: 60s, connect_timeout: 60s"));
    let it = Inside::start(&plan(&hanging), names.map(|name| (name, hangs())));
    it.until("checks are under way", |it| names.iter().all(|name| it.asked(name) == 1)).await;
    let order = |name| it.orders.carry_out(&DependencyName::parse(name).unwrap(), Order::Check);
    let asked = names.map(|name| tokio::spawn(order(name)));
    tokio::time::sleep(Duration::from_millis(100)).await;
    it.script("a", well());
    assert!(it.reload(&plan(&[("a", ""), ("b", "enabled: false")])).await.is_some());
    let mut told = Vec::new();
    for asked in asked {
        told.push(asked.await.unwrap());
    }
    assert_eq!(told, [NotDone::Replaced, NotDone::Disabled, NotDone::Unknown].map(Err));
    assert_eq!(it.order("a", Order::Check).await, Ok(()));

    it.script("a", hangs());
    assert!(it.reload(&plan(&[("a", "timeout: 60s, connect_timeout: 60s")])).await.is_some());
    let asked = tokio::spawn(order("a"));
    tokio::time::sleep(Duration::from_millis(100)).await;
    it.stop.cancel();
    assert_eq!(asked.await.unwrap(), Err(NotDone::Stopping), "that is another matter");
}

#[tokio::test(start_paused = true)]
async fn one_that_is_being_brought_back_holds_up_nobody_else() {
    let it = Inside::start(&plan(&[("dying", ""), ("well", "")]), [("dying", panics_while(|n| n > 0))]);
    it.until("both are up", |it| it.service() == ServiceStatus::Up).await;
    it.is_bad_to_make("dying");
    let lives = it.count("dying").made.load(Ordering::SeqCst);
    it.until("its runner is dead", |it| it.count("dying").made.load(Ordering::SeqCst) > lives).await;
    let name = DependencyName::parse("dying").unwrap();
    let began = it.clock.mono();
    let waiting: Vec<_> = (0..32)
        .map(|_| tokio::spawn(it.orders.carry_out(&name, it.over(Mode::ForcedOpen, 30 * MINUTE))))
        .collect();
    tokio::time::sleep(Duration::from_millis(10)).await;
    assert_eq!(it.order("dying", Order::Reset(Actor::new("admin"))).await, Err(NotDone::Busy));
    assert_eq!(it.order("well", it.over(Mode::ForcedClosed, MINUTE)).await, Ok(()));
    assert!(it.clock.mono().since(began) < Duration::from_millis(500));
    let mut told = Vec::new();
    for waiting in waiting {
        told.push(waiting.await.unwrap());
    }
    assert_eq!(told.iter().filter(|told| **told == Ok(())).count(), 16, "{told:?}");
    assert_eq!(told.iter().filter(|told| **told == Err(NotDone::Busy)).count(), 16, "{told:?}");
    assert!(it.view("dying").circuit.is_held(Mode::ForcedOpen), "what was refused is not obeyed later");
}

#[tokio::test(start_paused = true)]
async fn what_is_disabled_ends_and_comes_back() {
    let it = Inside::start(&plan(&[("a", ""), ("b", "")]), []);
    it.until("both are up", |it| it.service() == ServiceStatus::Up).await;
    assert_eq!(it.order("b", it.over(Mode::ForcedOpen, 30 * MINUTE)).await, Ok(()));
    it.reload(&plan(&[("a", ""), ("b", "enabled: false")])).await;
    assert_eq!((it.status("b"), it.service()), (Status::Disabled, ServiceStatus::Up));
    assert!(it.held.borrow().overrides.is_empty(), "what is not checked is not held");
    assert_eq!(it.order("b", Order::Check).await, Err(NotDone::Disabled));
    it.reload(&plan(&[("a", ""), ("b", "")])).await;
    assert_eq!((it.status("b"), it.state("b")), (Status::Up, State::Closed));
}

#[tokio::test(start_paused = true)]
async fn the_stop_does_not_wait_for_a_reload() {
    let it = Inside::start(&plan(&[("a", "")]), [("new", hangs())]);
    it.until("it is up", |it| it.service() == ServiceStatus::Up).await;
    let reload = tokio::spawn(it.reload(&plan(&[("a", "timeout: 9s"), ("new", "")])));
    let begun = |it: &Inside| it.asked("new") == 1 && it.count("a").made.load(Ordering::SeqCst) == 2;
    it.until("its runners have begun", begun).await;
    let began = it.clock.mono();
    it.stop.cancel();
    it.until("the end", |it| it.runners.is_finished()).await;
    assert!(it.clock.mono().since(began) <= secs(2));
    assert_eq!(reload.await.unwrap(), None, "nobody tells that it was taken up");
    assert_eq!(it.count("a").closed.load(Ordering::SeqCst), 2, "the new one and the old one said goodbye");
}
