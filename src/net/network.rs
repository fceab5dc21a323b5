//! What all connections of a process share.

use super::resolve::{self, Resolver};
use super::tls::Connectors;

/// What all dialers of a process share: the system's resolver, and TLS connectors with the authorities that they
/// trust. Copies are the same network.
#[derive(Clone)]
pub struct Network {
    resolver: Resolver,
    connectors: Connectors,
}

impl Network {
    /// Resolves names as these settings say.
    pub fn new(resolver: resolve::Settings) -> Self {
        Self { resolver: Resolver::system(resolver), connectors: Connectors::default() }
    }

    /// Resolves names.
    pub fn resolver(&self) -> &Resolver {
        &self.resolver
    }

    /// The same for a diagnosis beside checks: its questions to name servers have only the room that these leave.
    pub fn in_spare_room(&self) -> Self {
        Self { resolver: self.resolver.in_spare_room(), connectors: self.connectors.clone() }
    }

    pub(super) fn connectors(&self) -> &Connectors {
        &self.connectors
    }
}
