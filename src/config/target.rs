//! A target of the command line, `host:port` or a URL, as the one dependency of a configuration. It takes the way of all
//! others, so what is wrong with it is told in the same words.

use super::env::{self, Fields, Unusable};
use super::errors::{ConfigError, Errors};
use super::host;
use super::layers::Layers;
use super::origin::Origin;
use super::path::{Path, shown_key};
use super::tree::{Content, Map, Node};
use crate::health::{Impact, Kind};

/// What it is called among dependencies.
const NAME: &str = "target";

/// What is allowed, for errors.
const ALLOWED: &str =
    "`host:port`, or a URL: `http://…`, `https://…`, `postgresql://…`, `redis://…`, `rediss://…`";

/// Puts the target in the place of all dependencies.
pub(super) fn lay(layers: &mut Layers, target: &str, errors: &Errors) {
    let refuse = |error: ConfigError| errors.push(error.from(Some(Origin::Target)));
    let (kind, Fields { set, unused }) = match fields(target) {
        Ok(fields) => fields,
        Err(error) => return refuse(error),
    };
    layers.said.warnings.extend(unused.iter().map(|unused| format!("the target: {unused}")));
    let dependencies = Path::of("dependencies");
    layers.root.set(&dependencies, Node::new(Content::Map(Map::new()), &Origin::Target));
    let entry = dependencies.key(NAME);
    // It is watched by nobody.
    for (field, value) in [("kind", kind.as_str()), ("impact", Impact::None.as_str())] {
        layers.root.set(&entry.key(field), Node::word(value, &Origin::Target));
    }
    for (field, value) in set {
        layers.root.set(&entry.join(&Path::of(field)), Node::word(value, &Origin::Target));
    }
}

/// What it is a target of, and the fields that it sets. It is never quoted: there may be a password in its middle.
fn fields(target: &str) -> Result<(Kind, Fields), ConfigError> {
    let Some((scheme, _)) = target.split_once("://") else {
        return host_and_port(target).map(|fields| (Kind::Tcp, fields));
    };
    let of_url = |read: Result<Fields, Unusable>, allowed: &str| {
        let fields =
            read.and_then(|fields| if fields.has_host() { Ok(fields) } else { Err(Unusable::NO_HOST) });
        fields.map_err(|Unusable { what, advice }| {
            ConfigError::new(what).allowed(allowed).advice(advice.unwrap_or("correct it"))
        })
    };
    let scheme = scheme.to_ascii_lowercase();
    match scheme.split('+').next().unwrap_or_default() {
        "http" | "https" => {
            let set = vec![("url", target.to_owned())];
            Ok((Kind::Http, Fields { set, ..Fields::default() }))
        }
        "postgres" | "postgresql" => {
            Ok((Kind::Postgres, of_url(env::of_postgres(target), env::DATABASE_URL)?))
        }
        "redis" | "rediss" => Ok((Kind::Redis, of_url(env::of_redis(target), env::REDIS_URL)?)),
        _ => {
            let shown = shown_key(&scheme).map_or_else(String::new, |scheme| format!(" `{scheme}`"));
            Err(ConfigError::new(format!("the URL's scheme{shown} is not known")).allowed(ALLOWED))
        }
    }
}

fn host_and_port(target: &str) -> Result<Fields, ConfigError> {
    let wrong = |what: &str, advice: &str| ConfigError::new(what).allowed(ALLOWED).advice(advice);
    if target.parse::<std::net::Ipv6Addr>().is_ok() {
        return Err(wrong("an IPv6 address without brackets has no port", "write `[::1]:5432`"));
    }
    let (host, port) =
        target.rsplit_once(':').ok_or_else(|| wrong("it names no port", "add one: `:5432`"))?;
    let is_address = host::address(host).is_some() || host::has_a_zone(host);
    if host.is_empty() || !is_address && host.contains([':', '/', '@', ' ']) {
        return Err(wrong("it is neither a host with a port nor a URL", "correct it"));
    }
    if host.contains(':') && !host.starts_with('[') {
        return Err(wrong("an IPv6 address needs brackets in front of a port", "write `[::1]:5432`"));
    }
    let set = vec![("host", host.to_owned()), ("port", port.to_owned())];
    Ok(Fields { set, ..Fields::default() })
}
