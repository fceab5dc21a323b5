//! What the endpoint names of AWS tell: the identifier of the database or cache, and its region.
//!
//! Amazon RDS User Guide, "Finding the connection information"; Amazon ElastiCache User Guide, "Finding connection
//! endpoints". Only identifiers of the letters that AWS allows are taken: they go into commands.

/// What an endpoint name leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::diagnose) struct Endpoint<'a> {
    /// What it is.
    pub(in crate::diagnose) is: Service,
    /// Its identifier.
    pub(in crate::diagnose) id: &'a str,
    /// Where it is: `eu-central-1`; `None` where the name does not tell.
    pub(in crate::diagnose) region: Option<String>,
}

/// What an endpoint can belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::diagnose) enum Service {
    /// An RDS instance, or one of an Aurora cluster.
    Instance,
    /// An Aurora or Multi-AZ cluster: the endpoint of its writer.
    ClusterWriter,
    /// …of its readers, or of some of its instances.
    ClusterReaders,
    /// An RDS proxy.
    Proxy,
    /// An ElastiCache replication group: the endpoint of its primary.
    CachePrimary,
    /// …of its replicas.
    CacheReplicas,
    /// …of a group in cluster mode.
    CacheCluster,
    /// One node.
    CacheNode,
    /// A serverless cache.
    CacheServerless,
}

impl Service {
    /// Whether the name follows the primary when that changes.
    pub(in crate::diagnose) fn follows_the_primary(self) -> bool {
        matches!(self, Self::Instance | Self::ClusterWriter | Self::CachePrimary)
    }

    /// Whether the name stands for several servers, which it may give in turns.
    pub(in crate::diagnose) fn takes_turns(self) -> bool {
        matches!(
            self,
            Self::ClusterReaders | Self::CacheReplicas | Self::CacheCluster | Self::CacheServerless
        )
    }

    /// Whether it is RDS'.
    pub(in crate::diagnose) fn is_rds(self) -> bool {
        matches!(self, Self::Instance | Self::ClusterWriter | Self::ClusterReaders | Self::Proxy)
    }
}

impl<'a> Endpoint<'a> {
    /// What a host name tells; `None` for any other.
    pub(in crate::diagnose) fn of(host: &'a str) -> Option<Self> {
        let host = host.strip_suffix('.').unwrap_or(host);
        let host = host.strip_suffix(".cn").unwrap_or(host).strip_suffix(".amazonaws.com")?;
        let labels: Vec<&str> = host.split('.').collect();
        let endpoint = match labels[..] {
            // In China the region stands last.
            [id, account, region, "rds"] | [id, account, "rds", region] => {
                Self { is: rds(account), id, region: Some(region.to_owned()) }
            }
            [.., region, "cache"] => cache(&labels[..labels.len() - 2], region)?,
            [.., "cache", region] => {
                let region = region.to_owned();
                Self { region: Some(region), ..cache(&labels[..labels.len() - 2], "")? }
            }
            _ => return None,
        };
        let region_is_plain = endpoint.region.as_deref().is_none_or(is_identifier);
        (is_identifier(endpoint.id) && region_is_plain).then_some(endpoint)
    }
}

/// What the second label tells, which holds the account's own letters.
fn rds(account: &str) -> Service {
    match account {
        _ if account.starts_with("cluster-ro-") || account.starts_with("cluster-custom-") => {
            Service::ClusterReaders
        }
        _ if account.starts_with("cluster-") => Service::ClusterWriter,
        _ if account.starts_with("proxy-") => Service::Proxy,
        _ => Service::Instance,
    }
}

fn cache<'a>(labels: &[&'a str], region: &str) -> Option<Endpoint<'a>> {
    let (is, id) = match *labels {
        // With TLS.
        ["master", id, _] => (Service::CachePrimary, id),
        ["replica", id, _] => (Service::CacheReplicas, id),
        ["clustercfg", id, _] | [id, _, "clustercfg"] => (Service::CacheCluster, id),
        // `name-abc123`: the account's own letters follow the name.
        [id, "serverless"] => (Service::CacheServerless, id.rsplit_once('-')?.0),
        // Without.
        [id, _, "ng", _] => match id.strip_suffix("-ro") {
            Some(id) => (Service::CacheReplicas, id),
            None => (Service::CachePrimary, id),
        },
        [id, _, _] => (Service::CacheNode, id),
        // The node, the group, the account's letters and, in cluster mode, the shard.
        [id, _, _, _] => (Service::CacheNode, id),
        _ => return None,
    };
    Some(Endpoint { is, id, region: long_region(region) })
}

/// ElastiCache shortens regions: `euc1` is `eu-central-1`.
fn long_region(short: &str) -> Option<String> {
    const DIRECTIONS: [(&str, &str); 9] = [
        ("ne", "northeast"),
        ("nw", "northwest"),
        ("se", "southeast"),
        ("sw", "southwest"),
        ("n", "north"),
        ("e", "east"),
        ("s", "south"),
        ("w", "west"),
        ("c", "central"),
    ];
    let (area, rest) = short.split_at_checked(2)?;
    let digits = rest.find(|c: char| c.is_ascii_digit())?;
    let (direction, number) = rest.split_at(digits);
    let (area, direction) = match direction.strip_prefix('g') {
        Some(direction) if area == "us" => ("us-gov", direction),
        _ => (area, direction),
    };
    let (_, direction) = DIRECTIONS.iter().find(|(short, _)| *short == direction)?;
    let plain = area.chars().all(|c| c.is_ascii_lowercase() || c == '-') && number.parse::<u8>().is_ok();
    plain.then(|| format!("{area}-{direction}-{number}"))
}

/// What AWS takes for an identifier, all services together.
fn is_identifier(text: &str) -> bool {
    let mut chars = text.chars();
    chars.next().is_some_and(|first| first.is_ascii_alphanumeric())
        && text.len() <= 63
        && chars.all(|c| c.is_ascii_alphanumeric() || c == '-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_tell_what_they_lead_to() {
        use Service::*;
        for (host, is, id, region) in [
            ("mydb.abc123.eu-central-1.rds.amazonaws.com", Instance, "mydb", "eu-central-1"),
            ("mydb.abc123.eu-central-1.rds.amazonaws.com.", Instance, "mydb", "eu-central-1"),
            ("a.cluster-abc123.us-east-1.rds.amazonaws.com", ClusterWriter, "a", "us-east-1"),
            ("a.cluster-ro-abc123.us-east-1.rds.amazonaws.com", ClusterReaders, "a", "us-east-1"),
            ("a.cluster-custom-abc123.us-east-1.rds.amazonaws.com", ClusterReaders, "a", "us-east-1"),
            ("p.proxy-abc123.us-east-1.rds.amazonaws.com", Proxy, "p", "us-east-1"),
            ("mydb.abc123.rds.cn-north-1.amazonaws.com.cn", Instance, "mydb", "cn-north-1"),
            ("master.rg.abc123.euc1.cache.amazonaws.com", CachePrimary, "rg", "eu-central-1"),
            ("replica.rg.abc123.use2.cache.amazonaws.com", CacheReplicas, "rg", "us-east-2"),
            ("clustercfg.rg.abc123.apne1.cache.amazonaws.com", CacheCluster, "rg", "ap-northeast-1"),
            ("rg.abc123.clustercfg.usw2.cache.amazonaws.com", CacheCluster, "rg", "us-west-2"),
            ("rg.abc123.ng.0001.euw1.cache.amazonaws.com", CachePrimary, "rg", "eu-west-1"),
            ("rg-ro.abc123.ng.0001.euw1.cache.amazonaws.com", CacheReplicas, "rg", "eu-west-1"),
            ("rg-001.abc123.0001.euw1.cache.amazonaws.com", CacheNode, "rg-001", "eu-west-1"),
            ("rg-001.rg.abc123.euw1.cache.amazonaws.com", CacheNode, "rg-001", "eu-west-1"),
            (
                "rg-0001-001.rg.abc123.0001.usgw1.cache.amazonaws.com",
                CacheNode,
                "rg-0001-001",
                "us-gov-west-1",
            ),
            ("my-cache-abc123.serverless.sae1.cache.amazonaws.com", CacheServerless, "my-cache", "sa-east-1"),
            ("rg.abc123.ng.0001.cache.cn-north-1.amazonaws.com.cn", CachePrimary, "rg", "cn-north-1"),
        ] {
            let region = Some(region.to_owned());
            assert_eq!(Endpoint::of(host), Some(Endpoint { is, id, region }), "{host}");
        }
    }

    #[test]
    fn what_is_no_endpoint_of_theirs_tells_nothing() {
        for host in [
            "db.internal",
            "rds.amazonaws.com",
            "eu-central-1.rds.amazonaws.com",
            "s3.eu-central-1.amazonaws.com",
            "mydb.abc123.eu-central-1.rds.amazonaws.com.example.org",
            "$(reboot).abc123.eu-central-1.rds.amazonaws.com",
            "mydb.abc123.eu;reboot.rds.amazonaws.com",
            "-mydb.abc123.eu-central-1.rds.amazonaws.com",
            ".abc123.eu-central-1.rds.amazonaws.com",
            "x.cache.amazonaws.com",
            "",
        ] {
            assert_eq!(Endpoint::of(host), None, "{host}");
        }
        let unknown = Endpoint::of("rg.abc123.ng.0001.xx.cache.amazonaws.com").unwrap();
        assert_eq!((unknown.id, unknown.region), ("rg", None));
    }
}
