//! What all connections of a process share.

use super::resolve::Resolver;
use super::tls::Connectors;

/// What all dialers of a process share: the system's resolver, and TLS connectors with the authorities that they
/// trust. Copies are the same network.
#[derive(Clone)]
pub struct Network {
    resolver: Resolver,
    connectors: Connectors,
}

impl Network {
    /// Resolves as the system does.
    pub fn system() -> Self {
        Self { resolver: Resolver::system(), connectors: Connectors::default() }
    }

    /// Resolves names.
    pub fn resolver(&self) -> &Resolver {
        &self.resolver
    }

    pub(super) fn connectors(&self) -> &Connectors {
        &self.connectors
    }
}
