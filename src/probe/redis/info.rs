//! The answers of `INFO` and `CLUSTER INFO`: lines of `name:value`.
//!
//! They are read leniently: what a version, a fork or a proxy leaves out, or writes otherwise, is not known, and
//! the rest is.

use std::collections::HashMap;
use std::time::Duration;

use crate::health::observation::{RedisDetails, RedisReplica, RedisReplication};

/// An answer.
pub(super) struct Info<'a>(HashMap<&'a str, &'a str>);

/// Why a primary refuses writes although it answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusing {
    /// Its memory is full, and nothing may be evicted (`OOM`).
    Full,
    /// No replica is near enough, and `min-replicas-to-write` wants some (`NOREPLICAS`).
    Alone,
}

impl<'a> Info<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self(text.lines().filter_map(|line| line.split_once(':')).collect())
    }

    /// A value as it is written; `None` where it is empty, too.
    pub(super) fn text(&self, name: &str) -> Option<&'a str> {
        self.0.get(name).copied().filter(|value| !value.is_empty())
    }

    pub(super) fn number(&self, name: &str) -> Option<u64> {
        self.text(name)?.parse().ok()
    }

    /// A time that is counted in whole seconds; where there is none to count, it is written as -1.
    pub(super) fn seconds(&self, name: &str) -> Option<Duration> {
        self.number(name).map(Duration::from_secs)
    }

    fn flag(&self, name: &str) -> Option<bool> {
        self.number(name).map(|number| number != 0)
    }

    /// Where this replica's primary is.
    pub(super) fn primary(&self) -> Option<String> {
        Some(address(self.text("master_host")?, self.text("master_port")?))
    }

    /// Whether the whole data set is being received.
    pub(super) fn syncing(&self) -> Option<bool> {
        self.flag("master_sync_in_progress")
    }

    /// Whether the server is a node of a cluster.
    pub(super) fn of_a_cluster(&self) -> bool {
        self.flag("cluster_enabled") == Some(true)
    }

    /// Whether a full memory ends in refused writes, because nothing may be evicted to make room. With a policy
    /// `volatile-…` that is so while no key has a time to live.
    pub(super) fn keeps_all(&self) -> bool {
        match self.text("maxmemory_policy") {
            Some("noeviction") | None => true,
            Some(policy) => policy.starts_with("volatile-") && self.expiring_keys() == 0,
        }
    }

    /// Keys with a time to live, in all databases: `db0:keys=10,expires=3,avg_ttl=0`.
    fn expiring_keys(&self) -> u64 {
        let databases = self
            .0
            .iter()
            .filter(|(name, _)| name.strip_prefix("db").is_some_and(|number| number.parse::<u32>().is_ok()));
        let expiring = databases.filter_map(|(_, line)| {
            line.split(',').find_map(|field| field.strip_prefix("expires="))?.parse::<u64>().ok()
        });
        expiring.fold(0, u64::saturating_add)
    }

    /// Whether it says that it is a primary.
    pub(super) fn is_primary(&self) -> bool {
        self.text("role") == Some("master")
    }

    /// Why a primary would refuse a write, as far as it tells; `None` of a replica: it may share the settings, but
    /// takes writes from its primary alone, and those whatever its memory and its own replicas. The servers' own
    /// rules are followed: what is kept for replicas and for the append-only file does not count as used
    /// (`getMaxmemoryState`).
    pub(super) fn refusing(&self) -> Option<Refusing> {
        if !self.is_primary() {
            return None;
        }
        let limit = self.number("maxmemory").filter(|limit| *limit > 0);
        let counted = || {
            let used = self.number("used_memory")?;
            Some(used.saturating_sub(self.number("mem_not_counted_for_evict").unwrap_or(0)))
        };
        if self.keeps_all()
            && let (Some(limit), Some(used)) = (limit, counted())
            && used > limit
        {
            return Some(Refusing::Full);
        }
        // It is only told where it is asked for.
        (self.number("min_slaves_good_slaves") == Some(0)).then_some(Refusing::Alone)
    }

    /// All that is shown.
    pub(super) fn details(&self) -> RedisDetails {
        let replication = self.replication();
        let read_only = replication.as_ref().map(|replication| match replication {
            RedisReplication::Primary { .. } => self.refusing().is_some(),
            RedisReplication::Replica { .. } => self.flag("slave_read_only").unwrap_or(true),
        });
        RedisDetails {
            server_version: self.text("redis_version").map(str::to_owned),
            mode: self.text("redis_mode").map(str::to_owned),
            uptime: self.seconds("uptime_in_seconds"),
            read_only,
            connected_clients: self.number("connected_clients"),
            max_clients: self.number("maxclients"),
            rejected_connections: self.number("rejected_connections"),
            blocked_clients: self.number("blocked_clients"),
            used_memory_bytes: self.number("used_memory"),
            maxmemory_bytes: self.number("maxmemory"),
            maxmemory_policy: self.text("maxmemory_policy").map(str::to_owned),
            evicted_keys: self.number("evicted_keys"),
            loading: self.flag("loading"),
            replication,
            hidden: None,
            tls: None,
        }
    }

    /// Its role, and how it stands to the others.
    pub(super) fn replication(&self) -> Option<RedisReplication> {
        match self.text("role")? {
            "master" => {
                let offset = self.number("master_repl_offset");
                let lines = (0..).map_while(|n| self.text(&format!("slave{n}")));
                Some(RedisReplication::Primary {
                    offset,
                    connected_replicas: self.number("connected_slaves"),
                    replicas: lines.filter_map(|line| replica(line, offset)).collect(),
                })
            }
            "slave" => Some(RedisReplication::Replica {
                primary: self.primary(),
                link_up: self.text("master_link_status").map(|status| status == "up"),
                link_down_for: self.seconds("master_link_down_since_seconds"),
                syncing: self.syncing(),
                last_heard: self.seconds("master_last_io_seconds_ago"),
                offset: self.number("slave_repl_offset"),
            }),
            _ => None,
        }
    }
}

/// One of a primary's replicas: `ip=10.0.0.5,port=6379,state=online,offset=1234,lag=0`.
fn replica(line: &str, primary_offset: Option<u64>) -> Option<RedisReplica> {
    let fields: HashMap<_, _> = line.split(',').filter_map(|field| field.split_once('=')).collect();
    let number = |name| fields.get(name).and_then(|value| value.parse::<u64>().ok());
    let offset = number("offset");
    Some(RedisReplica {
        address: address(fields.get("ip")?, fields.get("port")?),
        state: fields.get("state").map(|state| (*state).to_owned()),
        lag: number("lag").map(Duration::from_secs),
        behind_bytes: primary_offset.zip(offset).map(|(primary, replica)| primary.saturating_sub(replica)),
    })
}

fn address(host: &str, port: &str) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_is_not_known_and_the_rest_is() {
        let info =
            Info::new("# Server\r\nredis_version:7.0.15\r\nused_memory:lots\r\nmaxmemory_policy:\r\n\r\nx");
        let seen = info.details();
        assert_eq!(seen.server_version.as_deref(), Some("7.0.15"));
        let unknown = RedisDetails { server_version: seen.server_version.clone(), ..RedisDetails::default() };
        assert_eq!(seen, unknown);
    }

    #[test]
    fn replicas_are_told_with_what_they_lack() {
        let info = Info::new(
            "role:master\r\nconnected_slaves:3\r\nmaster_repl_offset:100\r\n\
             slave0:ip=10.0.0.5,port=6379,state=online,offset=90,lag=1\r\n\
             slave1:ip=fd00::5,port=6380,state=wait_bgsave,offset=0,lag=0\r\nslave2:what is this\r\n",
        );
        let Some(RedisReplication::Primary { offset: Some(100), connected_replicas: Some(3), replicas }) =
            info.details().replication
        else {
            panic!("a primary");
        };
        let told: Vec<_> = replicas
            .iter()
            .map(|it| (it.address.as_str(), it.state.as_deref(), it.lag, it.behind_bytes))
            .collect();
        let lag = |seconds| Some(Duration::from_secs(seconds));
        assert_eq!(
            told,
            [
                ("10.0.0.5:6379", Some("online"), lag(1), Some(10)),
                ("[fd00::5]:6380", Some("wait_bgsave"), lag(0), Some(100)),
            ]
        );
    }

    #[test]
    fn a_time_of_minus_one_is_none() {
        let info = Info::new("role:slave\r\nmaster_last_io_seconds_ago:-1\r\nmaster_link_status:down\r\n");
        let Some(RedisReplication::Replica { link_up, last_heard, primary, .. }) = info.details().replication
        else {
            panic!("a replica");
        };
        assert_eq!((link_up, last_heard, primary), (Some(false), None, None));
    }

    #[test]
    fn writes_are_refused_where_the_server_would_refuse_them() {
        let refusing = |more: &str| Info::new(&format!("role:master\r\nmaxmemory:100\r\n{more}")).refusing();
        assert_eq!(refusing("used_memory:100\r\nmaxmemory_policy:noeviction"), None, "full to the brim");
        assert_eq!(refusing("used_memory:101\r\nmaxmemory_policy:noeviction"), Some(Refusing::Full));
        assert_eq!(refusing("used_memory:101\r\nmaxmemory_policy:allkeys-lru"), None);
        let buffers = "used_memory:110\r\nmem_not_counted_for_evict:10\r\nmaxmemory_policy:noeviction";
        assert_eq!(refusing(buffers), None, "buffers do not count");
        let volatile =
            "used_memory:101\r\nmaxmemory_policy:volatile-ttl\r\ndb0:keys=9,expires=0\r\ndb7:keys=1,expires=";
        assert_eq!(refusing(&format!("{volatile}0,avg_ttl=0")), Some(Refusing::Full), "nothing expires");
        assert_eq!(refusing(&format!("{volatile}1,avg_ttl=0")), None);
        let boundless = "maxmemory:0\r\nused_memory:1\r\nmaxmemory_policy:noeviction";
        assert_eq!(refusing(boundless), None, "0 is no limit");
        assert_eq!(refusing("min_slaves_good_slaves:0"), Some(Refusing::Alone));
        assert_eq!(refusing("min_slaves_good_slaves:1"), None);
        for more in ["used_memory:101\r\nmaxmemory:100", "min_slaves_good_slaves:0"] {
            let replica = format!("role:slave\r\nmaxmemory_policy:noeviction\r\n{more}");
            assert_eq!(Info::new(&replica).refusing(), None, "it is its primary's to refuse");
        }
        let read_only = |text| Info::new(text).details().read_only;
        assert_eq!(read_only("role:slave\r\nslave_read_only:1"), Some(true));
        assert_eq!(read_only("role:slave\r\nslave_read_only:0"), Some(false));
        assert_eq!(read_only("role:master"), Some(false));
        assert_eq!(read_only(""), None);
    }
}
