//! The task metadata endpoint, version 4: where this process runs.
//!
//! ECS sets a variable to an address that only this task reaches, link-local and without TLS. What comes from there is
//! taken apart field by field: of one that is missing, or that is not what such a field can be, nothing is known. Its
//! words end up in commands that somebody copies, so they are taken only where they are made of what ARNs are made of.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper::header::HOST;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use ipnet::IpNet;
use serde_json::Value;
use tokio::net::TcpStream;
use url::{Host, Url};

use crate::health::{Task, TaskNetwork};

/// The variable that holds the address.
pub const VARIABLE: &str = "ECS_CONTAINER_METADATA_URI_V4";

/// It answers within milliseconds, or is not there.
const TIMEOUT: Duration = Duration::from_secs(1);

/// A task with ten containers comes to some 15 KiB.
const ANSWER_MAX: usize = 64 * 1024;

/// An ARN of a task is about 200 long.
const WORD_MAX: usize = 512;

/// A task on Fargate has one network; more than these are not looked at.
const NETWORKS_MAX: usize = 16;
const ADDRESSES_MAX: usize = 16;

/// Where the metadata are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    address: SocketAddr,
    path: String,
}

/// Why what the variable holds is no such place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "{VARIABLE} {0}; ECS sets it to an address such as http://169.254.170.2/v4/…: leave it as it is, or unset it"
)]
pub struct NoEndpoint(&'static str);

/// Why there are no metadata.
#[derive(Debug, thiserror::Error)]
pub enum Unread {
    /// There is no connection to be had, or it broke.
    #[error("{0}")]
    Unreachable(Box<dyn std::error::Error + Send + Sync>),
    /// It took longer than a second.
    #[error("no whole answer within {TIMEOUT:?}")]
    Late,
    /// The answer was another one than 200.
    #[error("it answered {0}")]
    Status(StatusCode),
    /// The answer is longer than 64 KiB, breaks off, or is not JSON.
    #[error("its answer is not a task's metadata: {0}")]
    Strange(String),
}

impl Endpoint {
    /// The place that the variable names.
    ///
    /// # Errors
    /// It is no URL of plain HTTP with a link-local or loopback address in it: nothing else is asked, whoever set it.
    pub fn parse(uri: &str) -> Result<Self, NoEndpoint> {
        let url = Url::parse(uri).map_err(|_| NoEndpoint("holds no URL"))?;
        if url.scheme() != "http" {
            return Err(NoEndpoint("is not an `http` URL"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(NoEndpoint("holds a user, which this endpoint has none of"));
        }
        let ip = match url.host() {
            Some(Host::Ipv4(ip)) if ip.is_link_local() || ip.is_loopback() => IpAddr::V4(ip),
            Some(Host::Ipv6(ip)) if ip.is_unicast_link_local() || ip.is_loopback() => IpAddr::V6(ip),
            _ => return Err(NoEndpoint("names neither a link-local nor a loopback address")),
        };
        let address = SocketAddr::new(ip, url.port().unwrap_or(80));
        Ok(Self { address, path: format!("{}/task", url.path().trim_end_matches('/')) })
    }

    /// Reads the task.
    ///
    /// # Errors
    /// It does not answer, or not with a task's metadata. Another try may fare better.
    pub async fn task(&self) -> Result<Task, Unread> {
        let answer = tokio::time::timeout(TIMEOUT, self.ask()).await.map_err(|_| Unread::Late)??;
        let json = serde_json::from_slice(&answer).map_err(|error| Unread::Strange(error.to_string()))?;
        Some(task(&json))
            .filter(|task| *task != Task::default())
            .ok_or_else(|| Unread::Strange("it is JSON, and has no field of a task".to_owned()))
    }

    async fn ask(&self) -> Result<Bytes, Unread> {
        let unreachable = |error: hyper::Error| Unread::Unreachable(error.into());
        let stream =
            TcpStream::connect(self.address).await.map_err(|error| Unread::Unreachable(error.into()))?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(unreachable)?;
        let request = Request::get(&self.path).header(HOST, self.address.to_string());
        let request =
            request.body(Empty::<Bytes>::new()).map_err(|error| Unread::Strange(error.to_string()))?;
        let answer = async {
            let answer = sender.send_request(request).await.map_err(unreachable)?;
            if answer.status() != StatusCode::OK {
                return Err(Unread::Status(answer.status()));
            }
            let body = Limited::new(answer.into_body(), ANSWER_MAX).collect().await;
            Ok(body.map_err(|error| Unread::Strange(error.to_string()))?.to_bytes())
        };
        let mut answer = std::pin::pin!(answer);
        tokio::select! {
            biased;
            answer = &mut answer => answer,
            // Whatever came before the end is there, and else why nothing came.
            _ended = connection => answer.await,
        }
    }
}

/// The task that this describes.
fn task(json: &Value) -> Task {
    let mut networks: Vec<TaskNetwork> = Vec::new();
    let of_containers = list(&json["Containers"]).flat_map(|container| list(&container["Networks"]));
    // In this mode alone the addresses are the task's own, and those of all its containers.
    for network in of_containers.filter(|network| network["NetworkMode"] == "awsvpc").map(network) {
        if !networks.contains(&network) && networks.len() < NETWORKS_MAX {
            networks.push(network);
        }
    }
    Task {
        cluster: word(&json["Cluster"]),
        arn: word(&json["TaskARN"]),
        family: word(&json["Family"]),
        revision: word(&json["Revision"]),
        availability_zone: word(&json["AvailabilityZone"]),
        networks,
    }
}

fn network(json: &Value) -> TaskNetwork {
    let addresses = |field: &str| list(&json[field]).filter_map(|text| text.as_str()?.parse().ok());
    let subnet = |field: &str| Some(json[field].as_str()?.parse::<IpNet>().ok()?.to_string());
    // With or without the length of its network.
    let address = |field: &str| json[field].as_str()?.split('/').next()?.parse().ok();
    TaskNetwork {
        addresses: addresses("IPv4Addresses").chain(addresses("IPv6Addresses")).take(ADDRESSES_MAX).collect(),
        subnet: subnet("IPv4SubnetCIDRBlock").or_else(|| subnet("IPv6SubnetCIDRBlock")),
        gateway: address("SubnetGatewayIpv4Address").or_else(|| address("SubnetGatewayIpv6Address")),
        nameservers: addresses("DomainNameServers").take(ADDRESSES_MAX).collect(),
    }
}

fn list(json: &Value) -> impl Iterator<Item = &Value> {
    json.as_array().into_iter().flatten()
}

/// A name, a number or an ARN.
fn word(json: &Value) -> Option<String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.:/".contains(c);
    let word = json.as_str().filter(|text| !text.is_empty() && text.len() <= WORD_MAX)?;
    // A dash in front would make an option of it.
    (word.chars().all(plain) && !word.starts_with('-')).then(|| word.to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_what_this_task_alone_reaches_is_asked() {
        for (uri, address, path) in [
            ("http://169.254.170.2/v4/0a1b-2c3d", "169.254.170.2:80", "/v4/0a1b-2c3d/task"),
            ("http://127.0.0.1:51678/v4/x/", "127.0.0.1:51678", "/v4/x/task"),
            ("http://[fe80::1]/v4/x", "[fe80::1]:80", "/v4/x/task"),
        ] {
            let expected = Endpoint { address: address.parse().unwrap(), path: path.to_owned() };
            assert_eq!(Endpoint::parse(uri), Ok(expected), "{uri}");
        }
        for (uri, why) in [
            ("", "no URL"),
            ("/v4/x", "no URL"),
            ("https://169.254.170.2/v4/x", "`http`"),
            ("http://10.0.0.1/v4/x", "link-local"),
            ("http://metadata.internal/v4/x", "link-local"),
            ("http://localhost/v4/x", "link-local"),
            ("http://169.254.170.2@10.0.0.1/v4/x", "user"),
            ("http://[fd00:ec2::254]/v4/x", "link-local"),
        ] {
            let error = Endpoint::parse(uri).unwrap_err().to_string();
            assert!(error.contains(why) && error.starts_with(VARIABLE), "{uri}: {error}");
        }
    }

    #[test]
    fn what_is_missing_or_strange_is_not_known_and_the_rest_is() {
        let all = json!({
            "Cluster": "prod", "TaskARN": 7, "Family": "$(reboot)", "Revision": "", "AvailabilityZone": "-a",
            "Containers": [
                {"Networks": [{"NetworkMode": "bridge", "IPv4Addresses": ["172.17.0.2"]}]},
                {"Networks": "none"},
                {"Networks": [{
                    "NetworkMode": "awsvpc", "IPv4Addresses": ["10.0.2.106", "nonsense", 5],
                    "IPv4SubnetCIDRBlock": "10.0.2.0/24; reboot", "IPv6SubnetCIDRBlock": "2001:db8::/64",
                    "SubnetGatewayIpv4Address": "10.0.2.1/24", "DomainNameServers": ["10.0.0.2"],
                }]},
                {"Networks": [{"NetworkMode": "awsvpc"}, {"NetworkMode": "awsvpc"}]},
            ],
        });
        let network = TaskNetwork {
            addresses: vec!["10.0.2.106".parse().unwrap()],
            subnet: Some("2001:db8::/64".to_owned()),
            gateway: Some("10.0.2.1".parse().unwrap()),
            nameservers: vec!["10.0.0.2".parse().unwrap()],
        };
        let expected = Task {
            cluster: Some("prod".to_owned()),
            networks: vec![network, TaskNetwork::default()],
            ..Task::default()
        };
        assert_eq!(task(&all), expected);
        for nothing in [json!(null), json!([]), json!("x"), json!({"Cluster": "x".repeat(WORD_MAX + 1)})] {
            assert_eq!(task(&nothing), Task::default());
        }
    }

    #[test]
    fn however_much_it_tells_little_is_kept() {
        let network = |n: u32| {
            let addresses: Vec<_> =
                (0..1000_u32).map(|m| format!("10.{n}.{}.{}", m / 250, m % 250)).collect();
            json!({"Networks": [{"NetworkMode": "awsvpc", "IPv4Addresses": addresses}]})
        };
        let containers: Vec<_> = (0..200).map(network).collect();
        let task = task(&json!({"Containers": containers}));
        assert_eq!(task.networks.len(), NETWORKS_MAX);
        assert!(task.networks.iter().all(|network| network.addresses.len() == ADDRESSES_MAX));
    }
}
