//! What a dependency keeps when a layer makes it another kind: what the new kind reads as well. A port is a
//! port, but what `expect` says to `tcp` is a text and to `http` a map.

use serde::de::DeserializeOwned;

use super::decode::{fields, reads_as};
use super::path::Path;
use super::raw::{RawChecking, RawDependency, RawDns, RawHttp, RawPostgres, RawRedis, RawTcp};
use super::tree::{Content, Map, Node};
use crate::health::Kind;

/// Drops from a dependency of the kind `former` what one of the kind `next` could not read. What the former
/// could not read either is wrong, and stays to be told.
pub(super) fn keep_what_fits(entry: &mut Node, former: Kind, next: Kind) {
    let common = [fields::<RawDependency>(), fields::<RawChecking>()].concat();
    if let Some(map) = entry.map_mut() {
        map.retain(|field, node| {
            common.contains(&field.as_str()) || reads(next, field, node) || !reads(former, field, node)
        });
    }
}

/// Whether a kind has this field and can read what stands there.
fn reads(kind: Kind, field: &str, node: &Node) -> bool {
    fn alone<T: DeserializeOwned>(field: &str, node: &Node) -> bool {
        let map = Map::from([(field.to_owned(), node.clone())]);
        reads_as::<T>(&Node::new(Content::Map(map), &node.origin))
    }
    match kind {
        Kind::Postgres => alone::<RawPostgres>(field, node),
        Kind::Redis => alone::<RawRedis>(field, node),
        Kind::Dns => alone::<RawDns>(field, node),
        Kind::Tcp => alone::<RawTcp>(field, node),
        Kind::Http => alone::<RawHttp>(field, node),
    }
}

/// The kind that is written in a dependency, if it is one.
pub(super) fn written(entry: &Node) -> Option<Kind> {
    entry.get(&Path::of("kind")).and_then(Node::text).and_then(Kind::parse)
}
