//! What to do: one step a line, each with the command that proves it, filled in with what is known.
//!
//! A target on this host, in a private network of one's own and on AWS have different places to look at. The steps are
//! here, by what is to be looked at; which of them a cause wants is for its rule to say.

mod command;
mod endpoint;
mod settings;

use std::net::IpAddr;

use command::Command;
pub(super) use endpoint::{Endpoint, Service};
pub(super) use settings::placed;

use super::addresses::{self, Reach};
use super::evidence::{Attempt, Evidence, Heard, Speaks, Words};
use super::text;
use crate::health::{Kind, Phase};

/// What the steps are filled in with.
pub(super) struct Advice<'a> {
    evidence: &'a Evidence,
    endpoint: Option<Endpoint<'a>>,
    region: Option<String>,
}

/// A step with the command that proves it.
fn step(what: impl std::fmt::Display, command: &Command) -> String {
    format!("{what}: `{command}`")
}

impl<'a> Advice<'a> {
    /// For what was looked for.
    pub(super) fn on(evidence: &'a Evidence) -> Self {
        let endpoint = Endpoint::of(&evidence.subject.host);
        let of_task = || evidence.task.as_ref()?.region().map(str::to_owned);
        let region = endpoint.as_ref().and_then(|endpoint| endpoint.region.clone()).or_else(of_task);
        Self { evidence, endpoint, region }
    }

    /// What the name tells of an AWS endpoint.
    pub(super) fn endpoint(&self) -> Option<&Endpoint<'a>> {
        self.endpoint.as_ref()
    }

    /// Whether AWS' settings are the place to look at: it runs on ECS, or the target is one of AWS' services.
    pub(super) fn on_aws(&self) -> bool {
        !self.evidence.is_here() && (self.evidence.task.is_some() || self.endpoint.is_some())
    }

    /// Where packets to the port may be dropped, the usual place first.
    pub(super) fn let_the_port_in(&self) -> Vec<String> {
        let port = self.evidence.subject.port;
        if self.evidence.is_here() {
            return vec![step(
                format!("look for a packet filter on this host that drops port {port}"),
                &Command::new("nft list ruleset"),
            )];
        }
        if !self.on_aws() {
            let host = self.host();
            return vec![
                step(
                    format!(
                        "look for a packet filter on {host} or on the way there that drops port {port} \
                         (on AWS the inbound rules of its security group); on {host}"
                    ),
                    &Command::new("nft list ruleset"),
                ),
                step(
                    format!(
                        "look at this side, too: an output filter of this host's that drops port {port} \
                         (on AWS the outbound rules of its own security group) is silent in the same way"
                    ),
                    &Command::new("nft list ruleset"),
                ),
            ];
        }
        let mut steps = Vec::new();
        if let Some(target) = self.private_target() {
            let us = self.evidence.source().map(|source| format!(" or {source}")).unwrap_or_default();
            steps.push(step(
                format!(
                    "look at the inbound rules of the security group of {target}: one has to let TCP port {port} in \
                     from this task's security group{us}"
                ),
                &self.group_of(target, "SecurityGroups[].[GroupId,IpPermissions]"),
            ));
        } else {
            // No interface is found by such an address, and we are seen there by another one than we have.
            steps.push(format!(
                "look at the inbound rules of the security group of {}: one has to let TCP port {port} in from the \
                 public address by which this task gets out (that of its NAT gateway)",
                self.host()
            ));
        }
        steps.extend(self.own_group_lets_out());
        steps
    }

    /// The task's own security group.
    fn own_group_lets_out(&self) -> Option<String> {
        let port = self.evidence.subject.port;
        let source = self.evidence.source()?;
        Some(step(
            format!(
                "look at the outbound rules of this task's own security group: one has to let TCP port {port} out"
            ),
            &self.group_of(source, "SecurityGroups[].[GroupId,IpPermissionsEgress]"),
        ))
    }

    /// The subnets' network ACLs, which know nothing of connections: answers need a rule of their own.
    pub(super) fn network_acls(&self) -> Vec<String> {
        // Within a subnet there is none.
        if !self.on_aws() || self.same_subnet() {
            return Vec::new();
        }
        let port = self.evidence.subject.port;
        let of = |address, rules: String| {
            step(
                format!("look at the network ACL of the subnet of {address}: it has to let {rules}"),
                &self
                    .aws("aws ec2 describe-network-acls")
                    .option_from(
                        "--filters",
                        "Name=association.subnet-id,Values=",
                        &self.interface(address, SUBNET),
                    )
                    .option("--query", "NetworkAcls[].Entries"),
            )
        };
        let target = self.private_target();
        let target = target.map(|to| of(to, format!("TCP port {port} in, and ports 1024-65535 out")));
        let source = self.evidence.source();
        let source = source.map(|from| of(from, format!("TCP port {port} out, and ports 1024-65535 in")));
        target.into_iter().chain(source).collect()
    }

    /// The way there.
    pub(super) fn routes(&self) -> Vec<String> {
        let Some(address) = self.evidence.address().map(|address| address.ip()) else { return Vec::new() };
        if self.same_subnet() {
            return Vec::new();
        }
        let mut steps = Vec::new();
        if let Some(source) = self.evidence.source().filter(|_| self.on_aws()) {
            let reach = match Reach::of(address) {
                Reach::Public => {
                    "to the internet by a NAT gateway (or by an internet gateway and a public address)"
                }
                _ => {
                    "to its network: within the VPC that is always there, to another VPC it takes a peering or a transit gateway, and a route on both sides"
                }
            };
            steps.push(step(
                format!(
                    "look at the route table of this task's subnet: {address} needs a way {reach}; \
                     an empty answer means the VPC's main table"
                ),
                &self
                    .aws("aws ec2 describe-route-tables")
                    .option_from(
                        "--filters",
                        "Name=association.subnet-id,Values=",
                        &self.interface(source, SUBNET),
                    )
                    .option("--query", "RouteTables[].Routes"),
            ));
        } else {
            steps.push(step(
                format!("look at the way that this host takes to {address}"),
                &Command::new("ip route get").word(&address.to_string()),
            ));
        }
        steps
    }

    /// Whether there is a host behind the address at all.
    pub(super) fn owner(&self) -> Option<String> {
        let target = self.private_target().filter(|_| self.on_aws())?;
        let command = self.interface(
            target,
            "NetworkInterfaces[].[NetworkInterfaceId,Status,Description,SubnetId,Groups[].GroupId]",
        );
        Some(step(format!("see whose address {target} is; an empty answer means nobody's"), &command))
    }

    /// How the server stands, as AWS knows it.
    pub(super) fn state(&self) -> Vec<String> {
        let Some(endpoint) = &self.endpoint else { return Vec::new() };
        let id = endpoint.id;
        let what = format!("see how {id} stands");
        let command = match endpoint.is {
            Service::Instance => self
                .aws("aws rds describe-db-instances")
                .option("--db-instance-identifier", id)
                .option("--query", "DBInstances[].[DBInstanceStatus,MultiAZ,Endpoint,PubliclyAccessible]"),
            Service::ClusterWriter | Service::ClusterReaders => self
                .aws("aws rds describe-db-clusters")
                .option("--db-cluster-identifier", id)
                .option("--query", "DBClusters[].[Status,Endpoint,Port,DBClusterMembers]"),
            Service::Proxy => self.aws("aws rds describe-db-proxy-targets").option("--db-proxy-name", id),
            Service::CachePrimary | Service::CacheReplicas | Service::CacheCluster => {
                self.aws("aws elasticache describe-replication-groups").option("--replication-group-id", id)
            }
            Service::CacheNode => self
                .aws("aws elasticache describe-cache-clusters --show-cache-node-info")
                .option("--cache-cluster-id", id),
            Service::CacheServerless => {
                self.aws("aws elasticache describe-serverless-caches").option("--serverless-cache-name", id)
            }
        };
        let mut steps = vec![step(what, &command)];
        steps.extend(self.events());
        steps
    }

    /// What has happened to it lately.
    pub(super) fn events(&self) -> Option<String> {
        let endpoint = self.endpoint.as_ref()?;
        let (program, kind) = match endpoint.is {
            Service::Instance => ("aws rds describe-events", "db-instance"),
            Service::ClusterWriter | Service::ClusterReaders => ("aws rds describe-events", "db-cluster"),
            Service::Proxy => ("aws rds describe-events", "db-proxy"),
            Service::CachePrimary | Service::CacheReplicas | Service::CacheCluster => {
                ("aws elasticache describe-events", "replication-group")
            }
            Service::CacheNode => ("aws elasticache describe-events", "cache-cluster"),
            Service::CacheServerless => ("aws elasticache describe-events", "serverless-cache"),
        };
        let command = self
            .aws(program)
            .option("--source-identifier", endpoint.id)
            .option("--source-type", kind)
            .option("--duration", "60");
        Some(step("read what has happened to it in the last hour", &command))
    }

    /// Who listens on the port, seen from its own host.
    pub(super) fn listening(&self) -> Option<String> {
        if self.endpoint.is_some() {
            return None;
        }
        let port = self.evidence.subject.port;
        let command = Command::new("ss -ltnp").word(&format!("sport = :{port}"));
        let here = "see whether the process runs and listens on this port";
        let step = match (self.evidence.is_here(), self.evidence.task.is_some()) {
            // In awsvpc mode all containers of a task share one network.
            (true, true) => {
                step(format!("{here}; the containers of a task share 127.0.0.1. In its container"), &command)
            }
            (true, false) => step(
                format!(
                    "{here}; in a container, 127.0.0.1 is the container itself: name the other one by its service \
                     name, or publish its port"
                ),
                &command,
            ),
            (false, _) => step(
                format!(
                    "see whether the server runs and listens on this address, and not on 127.0.0.1 alone{}; on {}",
                    self.own_setting(),
                    self.host()
                ),
                &command,
            ),
        };
        Some(step)
    }

    /// What listens on the port, and whether the one that should does so on its usual one.
    pub(super) fn who_listens(&self, wanted: Speaks, usual: u16) -> Option<String> {
        if self.endpoint.is_some() {
            return None;
        }
        let (port, host) = (self.evidence.subject.port, self.host());
        let at = if self.evidence.is_here() { String::new() } else { format!(" on {host}") };
        let (what, filter) = match port == usual {
            true => (format!("see{at} whose process has port {port}"), format!("sport = :{port}")),
            false => (
                format!(
                    "see{at} whose process has port {port}, and whether {wanted} has its usual one, {usual}"
                ),
                format!("sport = :{port} or sport = :{usual}"),
            ),
        };
        Some(step(what, &Command::new("ss -ltnp").word(&filter)))
    }

    /// Whether the server takes connections as fast as they come, seen from its own host.
    pub(super) fn accept_queue(&self) -> Option<String> {
        if self.endpoint.is_some() {
            return None;
        }
        let port = self.evidence.subject.port;
        let at = if self.evidence.is_here() { String::new() } else { format!(" on {}", self.host()) };
        Some(step(
            format!(
                "see{at} whether connections wait there to be taken: a Recv-Q as large as Send-Q is a full queue, and \
                 the process behind it hangs"
            ),
            &Command::new("ss -ltn").word(&format!("sport = :{port}")),
        ))
    }

    /// The private zones of this task's VPC.
    pub(super) fn private_zones(&self) -> Option<String> {
        self.evidence.task.as_ref()?;
        let source = self.evidence.source()?;
        let command = self
            .aws("aws route53 list-hosted-zones-by-vpc")
            .option_from("--vpc-id", "", &self.interface(source, "NetworkInterfaces[0].VpcId"))
            .option("--vpc-region", self.region.as_deref().unwrap_or("REGION"));
        Some(step("see which private hosted zones this task's VPC is associated with", &command))
    }

    /// The VPC's own settings for names.
    pub(super) fn vpc_names(&self) -> Option<String> {
        self.evidence.task.as_ref()?;
        let source = self.evidence.source()?;
        let command = self.aws("aws ec2 describe-vpc-attribute --attribute enableDnsSupport").option_from(
            "--vpc-id",
            "",
            &self.interface(source, "NetworkInterfaces[0].VpcId"),
        );
        let what = "see whether the VPC's own resolver is on (enableDnsSupport, and enableDnsHostnames for private answers)";
        Some(step(what, &command))
    }

    /// The same question asked by hand.
    pub(super) fn dig(&self, server: Option<std::net::SocketAddr>) -> String {
        let names = self.evidence.names.as_ref();
        // Without a server, dig asks those of the host that it is run on, which may be others.
        let server = server.or_else(|| names?.resolver.servers.first().copied());
        let mut command = Command::new("dig");
        if let Some(server) = server {
            command = command.word(&format!("@{}", server.ip()));
            if server.port() != 53 {
                command = command.option("-p", &server.port().to_string());
            }
        }
        let subject = &self.evidence.subject;
        let command = command.word(text::name(&subject.host));
        step(
            "ask by hand",
            &subject.record.iter().fold(command, |command, record| command.word(record.as_str())),
        )
    }

    /// Who holds the connections of the server.
    pub(super) fn who_holds_connections(&self) -> String {
        match self.evidence.subject.kind {
            Kind::Redis => self.ask_redis("see who holds the connections", &["CLIENT", "LIST"]),
            _ => step(
                "see who holds them, as a superuser, for whom places are kept",
                &self.psql(
                    "SELECT application_name, client_addr, state, count(*) FROM pg_stat_activity \
                     WHERE backend_type = 'client backend' GROUP BY 1, 2, 3 ORDER BY 4 DESC",
                    Some(SUPERUSER),
                    self.evidence.subject.database.as_deref(),
                ),
            ),
        }
    }

    /// What the server says when it is asked by its own client.
    pub(super) fn ask_postgres(&self, what: &str, sql: &str) -> String {
        let subject = &self.evidence.subject;
        step(what, &self.psql(sql, subject.user.as_deref(), subject.database.as_deref()))
    }

    /// The same where our user, or our database, is the one that is missing.
    pub(super) fn ask_postgres_as_superuser(&self, what: &str, sql: &str) -> String {
        step(format!("{what}, as a superuser"), &self.psql(sql, Some(SUPERUSER), None))
    }

    /// The same for Redis.
    pub(super) fn ask_redis(&self, what: &str, words: &[&str]) -> String {
        step(what, &words.iter().fold(self.redis_cli(), |command, word| command.word(word)))
    }

    /// The server's certificate, as OpenSSL's own tool shows it.
    pub(super) fn show_certificate(&self) -> String {
        let subject = &self.evidence.subject;
        let host = text::name(&subject.host);
        let connect = match host.contains(':') {
            true => format!("[{host}]:{}", subject.port),
            false => format!("{host}:{}", subject.port),
        };
        let mut command = Command::new("openssl s_client -showcerts").option("-connect", &connect);
        if subject.kind == Kind::Postgres {
            command = command.option("-starttls", "postgres");
        }
        if host.parse::<IpAddr>().is_err() {
            command = command.option("-servername", host);
        }
        step("look at what the server sends", &command)
    }

    fn psql(&self, sql: &str, user: Option<&str>, database: Option<&str>) -> Command {
        let subject = &self.evidence.subject;
        let plain = |text: &&str| !text.contains(['=', '/']);
        // A database's name with `=` or `/` in it would be read as a connection string.
        Command::new("psql")
            .option("-h", text::name(&subject.host))
            .option("-p", &subject.port.to_string())
            .option_if("-U", user)
            .option("-d", database.filter(plain).unwrap_or("postgres"))
            .option("-c", sql)
    }

    fn redis_cli(&self) -> Command {
        let subject = &self.evidence.subject;
        let command = Command::new("redis-cli")
            .option("-h", text::name(&subject.host))
            .option("-p", &subject.port.to_string())
            .option_if("--user", subject.user.as_deref());
        // It asks for the password: one on the command line would be seen by all.
        let command = if self.has_password() { command.word("--askpass") } else { command };
        if self.evidence.wants_tls() { command.word("--tls") } else { command }
    }

    /// Whether Redis has to be given a password, as far as was seen.
    fn has_password(&self) -> bool {
        let asked = |words: &Words| matches!(&words.heard, Heard::Said(said) if said.starts_with("-NOAUTH"));
        let logs_in = |attempt: &Attempt| attempt.phases.get(Phase::Auth).is_some();
        let evidence = self.evidence;
        let refused = evidence.failure().is_some_and(|it| it.code.as_deref() == Some("WRONGPASS"));
        evidence.subject.user.is_some()
            || refused
            || evidence.words.as_ref().is_some_and(asked)
            || evidence.attempt.as_ref().is_some_and(logs_in)
    }

    /// Lists the rules of the security groups of the interface with this address.
    fn group_of(&self, address: IpAddr, query: &str) -> Command {
        self.aws("aws ec2 describe-security-groups")
            .option_from("--group-ids", "", &self.interface(address, "NetworkInterfaces[].Groups[].GroupId"))
            .option("--query", query)
    }

    /// Finds the interface with this private address.
    fn interface(&self, address: IpAddr, query: &str) -> Command {
        let filter = match address {
            IpAddr::V4(_) => "Name=addresses.private-ip-address",
            IpAddr::V6(_) => "Name=ipv6-addresses.ipv6-address",
        };
        self.aws("aws ec2 describe-network-interfaces")
            .option("--filters", &format!("{filter},Values={address}"))
            .option("--output", "text")
            .option("--query", query)
    }

    fn aws(&self, words: &'static str) -> Command {
        Command::new(words).option_if("--region", self.region.as_deref())
    }

    /// The target's address, where an interface of ours can have it.
    fn private_target(&self) -> Option<IpAddr> {
        let address = self.evidence.address()?.ip();
        matches!(Reach::of(address), Reach::Private | Reach::Shared | Reach::UniqueLocal).then_some(address)
    }

    /// Whether the target is in the task's own subnet.
    fn same_subnet(&self) -> bool {
        let target = self.evidence.address().zip(self.evidence.task.as_ref());
        target.is_some_and(|(address, task)| addresses::subnet_of(task, address.ip()).is_some())
    }

    /// The host, as a person would go there.
    fn host(&self) -> String {
        let address = self.evidence.address().map(|address| address.ip().to_string());
        address.unwrap_or_else(|| self.evidence.subject.host.clone())
    }

    fn own_setting(&self) -> &'static str {
        match self.evidence.subject.kind {
            Kind::Postgres => " (`listen_addresses`)",
            Kind::Redis => " (`bind`)",
            Kind::Dns | Kind::Tcp | Kind::Http => "",
        }
    }
}

/// Who a server's own tools log in as, where it has not been given another name; on RDS it is the master user's.
const SUPERUSER: &str = "postgres";

/// The subnet of an interface.
const SUBNET: &str = "NetworkInterfaces[].SubnetId";
