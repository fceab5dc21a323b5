//! `task`: where this process runs.

use schemars::JsonSchema;
use serde::Serialize;

use crate::health::{self, TaskNetwork};

/// The ECS task, as its metadata tell; what they leave out is null.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Task<'a> {
    /// By its short name or its ARN.
    cluster: Option<&'a str>,
    task_arn: Option<&'a str>,
    family: Option<&'a str>,
    revision: Option<&'a str>,
    availability_zone: Option<&'a str>,
    networks: Vec<Network<'a>>,
}

/// An interface in `awsvpc` mode.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "TaskNetwork")]
struct Network<'a> {
    addresses: Vec<String>,
    /// As CIDR.
    subnet: Option<&'a str>,
    gateway: Option<String>,
    nameservers: Vec<String>,
}

impl<'a> From<&'a health::Task> for Task<'a> {
    fn from(task: &'a health::Task) -> Self {
        let health::Task { cluster, arn, family, revision, availability_zone, networks } = task;
        Self {
            cluster: cluster.as_deref(),
            task_arn: arn.as_deref(),
            family: family.as_deref(),
            revision: revision.as_deref(),
            availability_zone: availability_zone.as_deref(),
            networks: networks.iter().map(Network::from).collect(),
        }
    }
}

impl<'a> From<&'a TaskNetwork> for Network<'a> {
    fn from(TaskNetwork { addresses, subnet, gateway, nameservers }: &'a TaskNetwork) -> Self {
        let texts = |addresses: &[std::net::IpAddr]| addresses.iter().map(ToString::to_string).collect();
        Self {
            addresses: texts(addresses),
            subnet: subnet.as_deref(),
            gateway: gateway.map(|gateway| gateway.to_string()),
            nameservers: texts(nameservers),
        }
    }
}
