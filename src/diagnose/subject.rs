//! A dependency as what is looked for.

use super::Surroundings;
use super::evidence::{Speaks, Subject, TlsWanted};
use crate::config::plan::{DependencyPlan, ProbePlan, Role, SslMode, TlsPlan, Verify};
use crate::health::Kind;
use crate::net::Target;

impl Subject {
    /// This dependency; `None` where its target is not known. The settings are the real ones: what is told of them
    /// passes [`hidden`](super::hidden) before.
    pub(super) fn of(plan: &DependencyPlan, around: &Surroundings) -> Option<Self> {
        let policy = plan.policy();
        let probe = plan.probe().as_ref()?;
        let mut subject = Self {
            dependency: (!around.is_bare).then(|| policy.name.as_str().to_owned()),
            kind: policy.kind,
            speaks: None,
            host: String::new(),
            port: 0,
            target: policy.target.clone(),
            user: None,
            database: None,
            tls: TlsWanted::No,
            role: Role::Any,
            record: None,
            nameservers: Vec::new(),
            expected_addresses: Vec::new(),
            other_hosts: around.other_hosts.clone(),
            connect_timeout: *plan.connect_timeout(),
        };
        match probe {
            ProbePlan::Postgres(plan) => {
                subject.at(plan.host(), *plan.port());
                subject.speaks = Some(Speaks::Postgres);
                subject.user = Some(plan.user().clone());
                subject.database = Some(plan.database().clone());
                subject.role = *plan.role();
                subject.tls = match (plan.sslmode(), plan.verify()) {
                    (SslMode::Prefer, _) => TlsWanted::IfOffered,
                    (_, Some(verify)) => TlsWanted::Yes { verify, root_cert: plan.root_cert().clone() },
                    (_, None) => TlsWanted::No,
                };
            }
            ProbePlan::Redis(plan) => {
                subject.at(plan.host(), *plan.port());
                subject.speaks = Some(Speaks::Redis);
                // Without a password nobody is logged in.
                subject.user = plan.username().clone().filter(|_| plan.password().is_some());
                subject.role = *plan.role();
                subject.tls = wanted(plan.tls().as_ref());
            }
            ProbePlan::Dns(plan) => {
                subject.host.clone_from(plan.query());
                subject.record = Some(*plan.record());
                subject.nameservers.clone_from(plan.nameservers());
                subject.expected_addresses.clone_from(plan.expect_addresses());
            }
            ProbePlan::Tcp(plan) => {
                subject.at(plan.host(), *plan.port());
                subject.tls = wanted(plan.tls().as_ref());
                subject.speaks = plan.tls().as_ref().map(|_| Speaks::Tls);
                if around.is_bare && subject.tls == TlsWanted::No {
                    (subject.speaks, subject.tls) = by_port(*plan.port());
                }
            }
            ProbePlan::Http(plan) => {
                subject.at(plan.url().host_str()?, plan.port());
                subject.speaks = Some(Speaks::Http);
                if plan.url().scheme() == "https" {
                    subject.tls = wanted(Some(plan.tls()));
                }
            }
        }
        Some(subject)
    }

    fn at(&mut self, host: &str, port: u16) {
        // Without the brackets of an IPv6 address in a URL.
        (self.host, self.port) = (Target::new(host, port).host().to_owned(), port);
    }

    /// Whether it is a port of the command line, of which nothing is known but its number.
    pub(super) fn is_bare_port(&self) -> bool {
        self.dependency.is_none() && self.kind == Kind::Tcp
    }
}

fn wanted(plan: Option<&TlsPlan>) -> TlsWanted {
    plan.map_or(TlsWanted::No, |plan| TlsWanted::Yes {
        verify: *plan.verify(),
        root_cert: plan.root_cert().clone(),
    })
}

/// What a port of this number speaks, where it is what everybody takes it for. Nothing is verified of its TLS: nobody has
/// said by which name it is known, or by which authorities.
fn by_port(port: u16) -> (Option<Speaks>, TlsWanted) {
    match port {
        5432 => (Some(Speaks::Postgres), TlsWanted::IfOffered),
        6379 => (Some(Speaks::Redis), TlsWanted::No),
        80 | 8000 | 8080 => (Some(Speaks::Http), TlsWanted::No),
        443 | 8443 => (Some(Speaks::Http), TlsWanted::Yes { verify: Verify::None, root_cert: None }),
        22 => (Some(Speaks::Ssh), TlsWanted::No),
        25 | 587 => (Some(Speaks::Smtp), TlsWanted::No),
        3306 => (Some(Speaks::Mysql), TlsWanted::No),
        _ => (None, TlsWanted::No),
    }
}
