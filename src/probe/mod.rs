//! One file per kind of dependency. Each speaks its protocol over a stream that [`net`](crate::net) made, and
//! turns what it meets into the closed failure kinds.
//!
//! [`check`] runs attempts with pauses between them until one succeeds, the budget ends, or trying again
//! would be of no use. [`pooled`] keeps one connection open between checks, for the kinds that have sessions.
//! To add a kind: a plan in `config/plan`, a file here that implements [`Probe`], and an arm in [`build`].

pub mod check;
mod dns;
mod expecting;
mod first_words;
mod http;
mod password;
mod pooled;
mod postgres;
mod redact;
mod redis;
mod tcp;

use std::time::Duration;

use futures_util::future::BoxFuture;
use tracing::Level;

use crate::clock::Deadline;
use crate::config::Plan;
use crate::config::plan::{DependencyPlan, ProbePlan, TlsPlan, Verify};
use crate::health::time::millis;
use crate::health::{DependencyName, Failure, FailureKind, Outcome};
use crate::log::about;
use crate::net::resolve;
use crate::net::{Dialer, Limits, Network, Target, Tls, Trace, Verification, shown};
pub use dns::as_asked;
use password::Password;
pub use redact::Discretion;

/// Asks one dependency.
pub trait Probe: Send {
    /// One attempt. It ends by the deadline, and writes into `trace` how far it came while it goes on.
    fn attempt<'a>(&'a mut self, deadline: Deadline, trace: &'a mut Trace) -> BoxFuture<'a, Outcome>;

    /// Ends what is open, politely: a server's log should not tell of us.
    fn close(self: Box<Self>) -> BoxFuture<'static, ()> {
        Box::pin(std::future::ready(()))
    }

    /// Ends when nothing of what it had open is left, also where the probe itself was dropped in the middle of an
    /// attempt. Waits for as long as goodbyes take, which have a time limit each; to be taken beforehand.
    fn gone(&self) -> BoxFuture<'static, ()> {
        Box::pin(std::future::ready(()))
    }
}

/// How long a polite end may take.
pub const GOODBYE: Duration = Duration::from_secs(1);

/// What all probes of a process share.
pub fn network(plan: &Plan) -> Network {
    let resolver = plan.resolver();
    Network::new(resolve::Settings {
        nameservers: resolver.nameservers().clone(),
        packets_per_second: *resolver.packets_per_second(),
    })
}

/// The probe of a dependency; `None` for one that is disabled and has no target.
pub fn build(plan: &DependencyPlan, network: &Network) -> Result<Option<Box<dyn Probe>>, Failure> {
    build_with(plan, network, None)
}

/// The same, with segments of TCP that are no larger than this, in bytes.
pub fn build_with(
    plan: &DependencyPlan,
    network: &Network,
    segment: Option<u16>,
) -> Result<Option<Box<dyn Probe>>, Failure> {
    let Some(probe) = plan.probe() else { return Ok(None) };
    let limits = limits(plan, segment);
    let dialer = Dialer::new(network.clone(), limits);
    let patience = limits.connect_timeout;
    log_parameters(plan, probe);
    let password = Password::of(probe);
    let asks: Box<dyn Probe> = match probe {
        ProbePlan::Postgres(plan) => {
            Box::new(postgres::probe(plan.clone(), password.clone(), patience, dialer))
        }
        ProbePlan::Redis(plan) => Box::new(redis::probe(plan.clone(), password.clone(), patience, dialer)),
        ProbePlan::Dns(plan) => Box::new(dns::Dns::new(plan, network.resolver())?),
        ProbePlan::Tcp(plan) => Box::new(tcp::Tcp::new(plan.clone(), dialer)),
        ProbePlan::Http(plan) => Box::new(http::Http::new(plan.clone(), dialer)),
    };
    Ok(Some(Box::new(redact::Discreet::new(asks, probe, plan.from_secret_files(), password))))
}

/// How long the connections of a dependency may take, and how large their segments may be.
pub fn limits(plan: &DependencyPlan, segment: Option<u16>) -> Limits {
    Limits { connect_timeout: *plan.connect_timeout(), user_timeout: plan.policy().timeout, segment }
}

/// The target whose addresses tell of a failover; `None` where there is no name in it.
pub fn named_target(plan: &ProbePlan) -> Option<Target> {
    let target = match plan {
        ProbePlan::Postgres(plan) => Target::new(plan.host(), *plan.port()),
        ProbePlan::Redis(plan) => Target::new(plan.host(), *plan.port()),
        ProbePlan::Tcp(plan) => Target::new(plan.host(), *plan.port()),
        ProbePlan::Http(plan) => Target::new(plan.url().host_str()?, plan.port()),
        ProbePlan::Dns(_) => return None,
    };
    target.name().is_some().then_some(target)
}

/// The names of the hosts that these dependencies are at, but for those that must not be shown.
pub fn named_hosts(plans: &[DependencyPlan]) -> impl Iterator<Item = (DependencyName, String)> {
    plans.iter().filter_map(|plan| {
        let target = named_target(plan.probe().as_ref()?)?;
        let is_secret = plan.from_secret_files().iter().any(|secret| secret.expose().contains(target.host()));
        (!is_secret).then(|| (plan.policy().name.clone(), target.host().to_owned()))
    })
}

fn tls(plan: &TlsPlan) -> Tls {
    Tls::new(verification(*plan.verify()), plan.root_cert().clone())
}

/// What of a certificate is verified, in the words of [`net`](crate::net).
pub fn verification(verify: Verify) -> Verification {
    match verify {
        Verify::Full => Verification::Full,
        Verify::Ca => Verification::Chain,
        Verify::None => Verification::None,
    }
}

/// What a connection is made with. Every field is named here, so that a secret can get in by no default: not
/// even a URL is shown whole, since its query may hold a token.
fn log_parameters(plan: &DependencyPlan, probe: &ProbePlan) {
    let policy = plan.policy();
    let hidden = plan.from_secret_files();
    let tls = |tls: &Option<TlsPlan>| tls.as_ref().map_or("off", |tls| tls.verify().as_str());
    let parameters = match probe {
        ProbePlan::Postgres(plan) => format!(
            "user={} password={} sslmode={} role={} pool_max={} reconnect_every={}",
            redact::setting(plan.user(), hidden),
            set(plan.password().is_some()),
            plan.sslmode(),
            plan.role(),
            plan.pool_max(),
            plan.reconnect_every()
        ),
        ProbePlan::Redis(plan) => format!(
            "user={} password={} tls={} role={} reconnect_every={}",
            redact::setting(plan.username().as_deref().unwrap_or("default"), hidden),
            set(plan.password().is_some()),
            tls(plan.tls()),
            plan.role(),
            plan.reconnect_every()
        ),
        ProbePlan::Dns(plan) => format!("record={} nameservers={:?}", plan.record(), plan.nameservers()),
        ProbePlan::Tcp(plan) => format!("tls={} send={}", tls(plan.tls()), set(plan.send().is_some())),
        ProbePlan::Http(plan) => format!("method={} tls_verify={}", plan.method(), plan.tls().verify()),
    };
    about!(
        Level::DEBUG,
        policy,
        destination = policy.target,
        timeout_ms = millis(policy.timeout),
        connect_timeout_ms = millis(*plan.connect_timeout()),
        tcp_user_timeout_ms = millis(policy.timeout),
        "connection parameters: {parameters}"
    );
}

fn set(is_set: bool) -> &'static str {
    if is_set { "set" } else { "none" }
}

/// The failure, with a better hint where the connection was cut before it carried an answer. Over TLS 1.3 that
/// is how a server refuses a client for want of a certificate; without TLS, how one that wants it does.
fn cut_before_an_answer(failure: Failure, over_tls: bool) -> Failure {
    match (failure.kind, over_tls) {
        (FailureKind::ConnectReset, true) => failure.with_hint(
            "the connection was cut right after the TLS handshake: the server may require a client certificate, which is not supported yet",
        ),
        (FailureKind::ConnectReset, false) => failure.with_hint(
            "the connection was cut before anything was answered: check the port; if it takes only TLS, turn TLS on (for Redis REDIS_TLS=true, for HTTP an https URL)",
        ),
        _ => failure,
    }
}
