//! A name: it resolves, by every server that was named, to what is expected.

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::future::{BoxFuture, join_all};
use hickory_resolver::proto::rr;

use super::Probe;
use crate::clock::{Deadline, Stopwatch};
use crate::config::plan::{DnsPlan, Nameserver, RecordType};
use crate::health::observation::{DnsDetails, NameserverAnswer};
use crate::health::{Details, Failure, FailureKind, Observation, Outcome, Phase};
use crate::net::Trace;
use crate::net::resolve::{Records, Resolver};

pub(super) struct Dns {
    plan: DnsPlan,
    record: rr::RecordType,
    /// Whom to ask: the system's servers have no address of their own here.
    servers: Vec<(Option<SocketAddr>, Resolver)>,
}

/// What one server came to.
struct Answer {
    server: Option<SocketAddr>,
    result: Result<Records, Failure>,
    duration: Duration,
}

impl Dns {
    pub(super) fn new(plan: &DnsPlan, system: &Resolver) -> Result<Self, Failure> {
        let servers = plan.nameservers().iter().map(|server| match server {
            Nameserver::System => Ok((None, system.clone())),
            Nameserver::At(address) => Ok((Some(*address), Resolver::servers(&[*address])?)),
        });
        let record = match plan.record() {
            RecordType::A => rr::RecordType::A,
            RecordType::Aaaa => rr::RecordType::AAAA,
            RecordType::Cname => rr::RecordType::CNAME,
            RecordType::Srv => rr::RecordType::SRV,
            RecordType::Txt => rr::RecordType::TXT,
        };
        Ok(Self { servers: servers.collect::<Result<_, Failure>>()?, plan: plan.clone(), record })
    }

    async fn ask(&self, deadline: Deadline, trace: &mut Trace) -> Outcome {
        let asking = self.servers.iter().map(|(server, resolver)| self.ask_one(*server, resolver, deadline));
        let all = async { Ok(join_all(asking).await) };
        // Each question ends by the deadline itself, so that one silent server does not hide the others.
        let answers = trace.phase(Phase::Dns, deadline.later(Duration::from_millis(50)), all).await?;
        let mut warnings = Vec::new();
        let mut by_nameserver = Vec::new();
        let mut first: Option<Records> = None;
        let mut failure: Option<Failure> = None;
        for Answer { server, result, duration } in answers {
            if let Some(server) = server {
                let records = match &result {
                    Ok(found) => Ok(sorted(&found.data)),
                    Err(failure) => Err(failure.to_string()),
                };
                by_nameserver.push(NameserverAnswer { server, records, duration });
            }
            let who = server.map_or("the system's name servers".to_owned(), |server| server.to_string());
            match (result, &first) {
                (Ok(found), None) => first = Some(found),
                (Ok(found), Some(first)) if sorted(&found.data) != sorted(&first.data) => {
                    warnings.push(format!("{who} answers otherwise: {}", found.data.join(", ")));
                }
                (Ok(_), Some(_)) => {}
                (Err(failed), _) => {
                    warnings.push(format!("{who}: {}", failed.message));
                    failure.get_or_insert(failed);
                }
            }
        }
        let Some(found) = first else {
            return Err(failure.unwrap_or_else(|| {
                Failure::new(Phase::Dns, FailureKind::Internal, "no name server was asked")
            }));
        };
        self.expected(&found)?;
        trace.resolved.clone_from(&found.addresses);
        let Records { data, addresses, ttl_seconds } = found;
        let details = Details::Dns(DnsDetails { records: data, addresses, ttl_seconds, by_nameserver });
        Ok(Observation { warnings, details })
    }

    async fn ask_one(&self, server: Option<SocketAddr>, resolver: &Resolver, deadline: Deadline) -> Answer {
        let watch = Stopwatch::start();
        let query = resolver.records(self.plan.query(), self.record);
        let result = tokio::time::timeout_at(deadline.instant(), query).await.unwrap_or_else(|_| {
            let message = format!("no answer for {} within {:.1?}", self.plan.query(), watch.elapsed());
            Err(Failure::new(Phase::Dns, FailureKind::DnsTimeout, message))
        });
        Answer { server, result, duration: watch.elapsed() }
    }

    fn expected(&self, found: &Records) -> Result<(), Failure> {
        let unexpected =
            |message: String| Err(Failure::new(Phase::Dns, FailureKind::DnsUnexpectedAnswer, message));
        let least = self.plan.expect_min().get();
        if found.data.len() < least as usize {
            return unexpected(format!(
                "{} has {} {} record(s), expected at least {least}",
                self.plan.query(),
                found.data.len(),
                self.plan.record()
            ));
        }
        let networks = self.plan.expect_addresses();
        let outside =
            found.addresses.iter().find(|address| !networks.iter().any(|net| net.contains(*address)));
        match outside {
            Some(address) if !networks.is_empty() => {
                let networks: Vec<String> = networks.iter().map(ToString::to_string).collect();
                unexpected(format!(
                    "{} resolves to {address}, which is not in {}",
                    self.plan.query(),
                    networks.join(", ")
                ))
            }
            _ => Ok(()),
        }
    }
}

fn sorted(records: &[String]) -> Vec<String> {
    let mut records = records.to_vec();
    records.sort_unstable();
    records
}

impl Probe for Dns {
    fn attempt<'a>(&'a mut self, deadline: Deadline, trace: &'a mut Trace) -> BoxFuture<'a, Outcome> {
        Box::pin(self.ask(deadline, trace))
    }
}
