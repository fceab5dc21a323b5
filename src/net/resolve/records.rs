//! What a name server answered.

use std::net::IpAddr;

use hickory_resolver::lookup::Lookup;
use hickory_resolver::proto::rr::{RData, RecordType};

/// An answer to a query.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Records {
    /// The data of the records of the type asked for, as text, in the order of the answer.
    pub data: Vec<String>,
    /// The addresses among them.
    pub addresses: Vec<IpAddr>,
    /// The shortest time to live in the answer, in seconds.
    pub ttl_seconds: Option<u32>,
    /// The names that the name is an alias of, in the order of the answer: the last one has the records.
    pub aliases: Vec<String>,
    /// The name that was found: as it was asked for, or with a suffix of the search list and without a final dot.
    pub found_as: String,
    /// Whether it is known here, by the hosts file or as `localhost`, so that no server was asked.
    pub from_hosts_file: bool,
}

impl Records {
    /// The records whose type is wanted. An alias on the way shortens the life of the whole answer, so its
    /// TTL counts; its data is only among the records where aliases were asked for.
    pub(super) fn of(lookup: &Lookup, wanted: impl Fn(RecordType) -> bool) -> Self {
        let answers = lookup.answers();
        let matching = || answers.iter().filter(|record| wanted(record.record_type()));
        let alias = |data: &RData| match data {
            RData::CNAME(name) if !wanted(RecordType::CNAME) => Some(name.to_string()),
            _ => None,
        };
        Self {
            data: matching().map(|record| record.data.to_string()).collect(),
            addresses: matching().filter_map(|record| record.data.ip_addr()).collect(),
            ttl_seconds: answers.iter().map(|record| record.ttl).min(),
            aliases: answers.iter().filter_map(|record| alias(&record.data)).collect(),
            ..Self::default()
        }
    }

    /// The addresses of several answers, IPv4 before IPv6, each family in the order of its answer.
    pub(super) fn addresses(parts: impl IntoIterator<Item = Self>) -> Self {
        let mut all = Self::default();
        for part in parts {
            all.addresses.extend(part.addresses);
            // Both families are found under the same aliases.
            if all.aliases.is_empty() {
                all.aliases = part.aliases;
            }
            all.ttl_seconds = all.ttl_seconds.into_iter().chain(part.ttl_seconds).min();
        }
        all.addresses.sort_by_key(IpAddr::is_ipv6);
        all.data = all.addresses.iter().map(ToString::to_string).collect();
        all
    }
}
