//! A name: it resolves, by every server that was named, to what is expected.
//!
//! All servers are asked at once. Whoever uses the name asks any of them: so what one answers has to be what is
//! expected, and where they disagree, or one has no answer, that is told even though another one has.

mod compare;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use hickory_resolver::proto::rr;

use super::Probe;
use crate::clock::{Deadline, Stopwatch};
use crate::config::plan::{DnsPlan, Nameserver, RecordType};
use crate::health::observation::{DnsDetails, NameserverAnswer};
use crate::health::{Details, Failure, FailureKind, Observation, Outcome, Phase};
use crate::net::Trace;
use crate::net::resolve::{Records, Resolver};
use compare::{Lately, listed, shortened};

/// Once one server has answered, another is waited for this much longer: in that time a question is repeated twice.
const PATIENCE: Duration = Duration::from_millis(800);

/// Of the other servers, the words of so many are told beside an answer that is not what is expected.
const OTHERS_TOLD: usize = 3;

pub(super) struct Dns {
    plan: DnsPlan,
    record: rr::RecordType,
    servers: Vec<Server>,
}

/// A record type as a name server is asked for it.
pub fn as_asked(record: RecordType) -> rr::RecordType {
    match record {
        RecordType::A => rr::RecordType::A,
        RecordType::Aaaa => rr::RecordType::AAAA,
        RecordType::Cname => rr::RecordType::CNAME,
        RecordType::Srv => rr::RecordType::SRV,
        RecordType::Txt => rr::RecordType::TXT,
    }
}

/// Somebody to ask.
struct Server {
    /// The system's servers have no address of their own here.
    address: Option<SocketAddr>,
    resolver: Resolver,
    /// What it answered lately.
    lately: Lately,
}

impl Server {
    fn name(&self) -> String {
        self.address.map_or_else(|| "the system's name servers".to_owned(), |address| address.to_string())
    }
}

/// What one server came to.
struct Answer {
    result: Result<Records, Failure>,
    duration: Duration,
}

impl Dns {
    pub(super) fn new(plan: &DnsPlan, system: &Resolver) -> Result<Self, Failure> {
        let servers = plan.nameservers().iter().map(|server| {
            let (address, resolver) = match server {
                Nameserver::System => (None, system.clone()),
                Nameserver::At(address) => (Some(*address), system.asking(*address)?),
            };
            Ok(Server { address, resolver, lately: Lately::default() })
        });
        let record = as_asked(*plan.record());
        Ok(Self { servers: servers.collect::<Result<_, Failure>>()?, plan: plan.clone(), record })
    }

    async fn ask(&mut self, deadline: Deadline, trace: &mut Trace) -> Outcome {
        let all = async { Ok(self.ask_all(deadline).await) };
        // It ends by the deadline itself, so that one silent server does not hide the others.
        let answers = trace.phase(Phase::Dns, deadline.later(Duration::from_millis(50)), all).await?;
        for (server, answer) in self.servers.iter_mut().zip(&answers) {
            if let Ok(found) = &answer.result {
                server.lately.note(&found.data);
            }
        }
        self.judge(answers, trace)
    }

    /// Asks all servers side by side. Once one has an answer, the others are not waited for long.
    async fn ask_all(&self, deadline: Deadline) -> Vec<Answer> {
        let watch = Stopwatch::start();
        let ask_one = |(n, server): (usize, &Server)| {
            let resolver = server.resolver.clone();
            async move { (n, resolver.records(self.plan.query(), self.record).await) }
        };
        let mut asking: FuturesUnordered<_> = self.servers.iter().enumerate().map(ask_one).collect();
        let mut answers: Vec<Option<Answer>> = self.servers.iter().map(|_| None).collect();
        let mut until = deadline;
        while let Ok(Some((n, result))) = tokio::time::timeout_at(until.instant(), asking.next()).await {
            if result.is_ok() && until == deadline {
                until = deadline.within(PATIENCE);
            }
            answers[n] = Some(Answer { result, duration: watch.elapsed() });
        }
        let silent = || {
            let message = format!("no answer for {} within {:.1?}", self.plan.query(), watch.elapsed());
            let failure = Failure::new(Phase::Dns, FailureKind::DnsTimeout, message);
            Answer { result: Err(failure), duration: watch.elapsed() }
        };
        answers.into_iter().map(|answer| answer.unwrap_or_else(silent)).collect()
    }

    fn judge(&self, answers: Vec<Answer>, trace: &mut Trace) -> Outcome {
        let by_nameserver = self.servers.iter().zip(&answers).map(|(server, answer)| NameserverAnswer {
            server: server.address,
            records: match &answer.result {
                Ok(found) => Ok(found.data.clone()),
                Err(failure) => Err(failure.message.clone()),
            },
            duration: answer.duration,
        });
        let by_nameserver = by_nameserver.collect();
        let mut warnings = Vec::new();
        let mut failures = Vec::new();
        let mut unexpected = None;
        let mut first: Option<(&Server, Records)> = None;
        for (server, Answer { result, .. }) in self.servers.iter().zip(answers) {
            let found = match result {
                Ok(found) => found,
                Err(failure) => {
                    failures.push((server, failure));
                    continue;
                }
            };
            unexpected = unexpected.or_else(|| self.unexpected(server, &found).err());
            match &first {
                None => first = Some((server, found)),
                Some((other, _)) if !server.lately.agrees_with(&other.lately) => {
                    warnings.push(format!(
                        "{} answers otherwise: {}; and {}: {}",
                        server.name(),
                        listed(&found.data),
                        other.name(),
                        listed(&other.lately.newest())
                    ));
                }
                Some(_) => {}
            }
        }
        let Some((_, found)) = first else { return Err(nobody_knows(failures)) };
        let Records { data, addresses, ttl_seconds, aliases, .. } = found;
        trace.resolved.clone_from(&addresses);
        let details =
            Details::Dns(DnsDetails { records: data, addresses, aliases, ttl_seconds, by_nameserver });
        warnings.extend(
            failures.iter().map(|(server, failure)| format!("{}: {}", server.name(), failure.message)),
        );
        match unexpected {
            Some(unexpected) => {
                trace.seen = details;
                Err(with_others(unexpected, &warnings))
            }
            None => Ok(Observation { warnings, details }),
        }
    }

    fn unexpected(&self, server: &Server, found: &Records) -> Result<(), Failure> {
        let unexpected = |what: String| {
            let message = self.by(server, format!("{} {what}", self.plan.query()));
            Err(Failure::new(Phase::Dns, FailureKind::DnsUnexpectedAnswer, message))
        };
        let least = self.plan.expect_min().get();
        if found.data.len() < least as usize {
            let record = self.plan.record();
            return unexpected(format!(
                "has {} {record} record(s), expected at least {least}",
                found.data.len()
            ));
        }
        let networks = self.plan.expect_addresses();
        let outside =
            found.addresses.iter().find(|address| !networks.iter().any(|net| net.contains(*address)));
        match outside {
            Some(address) if !networks.is_empty() => {
                let networks: Vec<String> = networks.iter().map(ToString::to_string).collect();
                unexpected(format!("resolves to {address}, which is not in {}", networks.join(", ")))
            }
            _ => Ok(()),
        }
    }

    /// What a server said, with its name where there is more than the system.
    fn by(&self, server: &Server, message: String) -> String {
        match server.address {
            None if self.servers.len() == 1 => message,
            _ => format!("{}: {message}", server.name()),
        }
    }
}

/// An answer that is not what is expected, and what else is wrong with the servers. What each of them said is
/// among the details, in full.
fn with_others(unexpected: Failure, others: &[String]) -> Failure {
    let mut message = unexpected.message;
    for other in others.iter().take(OTHERS_TOLD) {
        message = format!("{message}; {}", shortened(other));
    }
    if let more @ 1.. = others.len().saturating_sub(OTHERS_TOLD) {
        message = format!("{message}; and {more} more");
    }
    Failure { message, ..unexpected }
}

/// One failure for all servers: the one that says most about a server and least about the name, because a name
/// is missing only where everybody says so; and what each of them said.
fn nobody_knows(failures: Vec<(&Server, Failure)>) -> Failure {
    let alone_with_the_system = matches!(failures.as_slice(), [(server, _)] if server.address.is_none());
    let said: Vec<String> =
        failures.iter().map(|(server, failure)| format!("{}: {}", server.name(), failure.message)).collect();
    let kinds: BTreeSet<&str> = failures.iter().map(|(_, failure)| failure.kind.as_str()).collect();
    let alike = kinds.len() <= 1;
    let told = failures
        .into_iter()
        .map(|(_, failure)| failure)
        .reduce(|first, next| if weight(&next) > weight(&first) { next } else { first });
    match told {
        Some(failure) if alone_with_the_system => failure,
        Some(failure) if alike => Failure { message: said.join("; "), ..failure },
        Some(failure) => Failure { message: said.join("; "), ..failure }
            .with_hint("the name servers fail in different ways: look at each by itself, and at the network to those that are silent"),
        None => Failure::new(Phase::Dns, FailureKind::Internal, "no name server was asked"),
    }
}

/// How much a failure says about a server rather than about the name.
fn weight(failure: &Failure) -> u8 {
    match (failure.kind, failure.code.as_deref()) {
        (FailureKind::DnsTimeout, _) => 3,
        (FailureKind::DnsNotFound, Some("NXDOMAIN")) => 0,
        (FailureKind::DnsNotFound, _) => 1,
        _ => 2,
    }
}

impl Probe for Dns {
    fn attempt<'a>(&'a mut self, deadline: Deadline, trace: &'a mut Trace) -> BoxFuture<'a, Outcome> {
        Box::pin(self.ask(deadline, trace))
    }
}
