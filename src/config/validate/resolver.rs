//! How names are resolved, and whether that will do for all dependencies.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use super::cursor::Cursor;
use super::{Resolved, given, kind};
use crate::config::errors::ConfigError;
use crate::config::host;
use crate::config::plan::{ProbePlan, ResolverPlan};
use crate::config::raw::RawResolver;

pub(super) fn resolver(raw: RawResolver, at: &Cursor<'_>) -> ResolverPlan {
    let servers_at = at.key("nameservers");
    let servers = given(raw.nameservers, &servers_at).map(|raw| kind::nameservers(raw, &servers_at));
    let servers = servers.unwrap_or_default();
    let nameservers: Vec<SocketAddr> = servers.iter().filter_map(|server| server.address()).collect();
    if !nameservers.is_empty() && nameservers.len() < servers.len() {
        servers_at
            .refuse(ConfigError::new("`system` stands beside addresses").allowed("`system`, or addresses"));
    }
    let at = at.key("packets_per_second");
    // Ten let a single dependency look both families up and be answered late; above the most a VPC's resolver
    // takes, there would be no limit.
    let packets = given(raw.packets_per_second, &at).map(|packets| at.number(packets, 10..=1024));
    ResolverPlan { nameservers, packets_per_second: packets.unwrap_or(NonZeroU32::MIN) }
}

/// A warning where the checks of all names, were nothing lost and nothing answered late, would take more packets than
/// may be sent.
pub(super) fn too_many_questions(dependencies: &[Resolved], resolver: &ResolverPlan) -> Option<String> {
    let mut every: HashMap<&str, Duration> = HashMap::new();
    let mut per_second = 0.0;
    let enabled = dependencies.iter().filter(|resolved| resolved.plan.policy.enabled());
    for (probe, interval) in enabled.map(|resolved| (&resolved.probe, resolved.plan.policy.interval)) {
        let host = match probe {
            ProbePlan::Postgres(plan) => plan.host(),
            ProbePlan::Redis(plan) => plan.host(),
            ProbePlan::Tcp(plan) => plan.host(),
            ProbePlan::Http(plan) => plan.url().host_str().unwrap_or_default(),
            ProbePlan::Dns(plan) => {
                per_second += plan.nameservers().len() as f64 / interval.as_secs_f64();
                continue;
            }
        };
        if host::address(host).is_none() && host != "localhost" {
            let often = every.entry(host).or_insert(interval);
            *often = interval.min(*often);
        }
    }
    // Both address families are asked for; and nobody asks for the same name twice in a second.
    per_second += every.values().map(|often| 2.0 / often.as_secs_f64().max(1.0)).sum::<f64>();
    let allowed = resolver.packets_per_second;
    (per_second > f64::from(allowed.get())).then(|| {
        format!(
            "the checks of {} names take {per_second:.0} DNS packets a second, and `resolver.packets_per_second` allows \
             {allowed}: answers up to 30 s old are used in place of new ones; check less often, or allow more",
            every.len()
        )
    })
}
