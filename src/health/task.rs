//! Where this process runs: what ECS tells a task about itself.

use std::net::IpAddr;

/// The task, as the metadata endpoint (version 4) describes it; what that leaves out is `None`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Task {
    /// The cluster, by its short name or its ARN.
    pub cluster: Option<String>,
    /// The task's ARN.
    pub arn: Option<String>,
    /// The task definition's family…
    pub family: Option<String>,
    /// …and revision.
    pub revision: Option<String>,
    /// Where it runs: `eu-central-1a`.
    pub availability_zone: Option<String>,
    /// The interfaces of the task.
    pub networks: Vec<TaskNetwork>,
}

/// One interface of a task in `awsvpc` mode.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TaskNetwork {
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// Its subnet, as CIDR: `10.0.1.0/24`.
    pub subnet: Option<String>,
    /// The subnet's router.
    pub gateway: Option<IpAddr>,
    /// The name servers that the task was given.
    pub nameservers: Vec<IpAddr>,
}

impl Task {
    /// The region, from the task's ARN or its zone: `eu-central-1`.
    pub fn region(&self) -> Option<&str> {
        let of_arn =
            self.arn.as_deref().and_then(|arn| arn.split(':').nth(3)).filter(|region| !region.is_empty());
        let of_zone = || self.availability_zone.as_deref()?.strip_suffix(|c: char| c.is_ascii_lowercase());
        of_arn.or_else(of_zone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_region_comes_from_the_arn_and_else_from_the_zone() {
        let arn = "arn:aws:ecs:eu-central-1:111122223333:task/cluster/0123";
        let task =
            Task { arn: Some(arn.into()), availability_zone: Some("us-east-1a".into()), ..Task::default() };
        assert_eq!(task.region(), Some("eu-central-1"));
        assert_eq!(Task { arn: None, ..task }.region(), Some("us-east-1"));
        assert_eq!(Task::default().region(), None);
    }
}
