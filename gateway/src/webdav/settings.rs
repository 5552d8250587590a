//! What an operator may change while the listener serves.

use std::sync::{Arc, PoisonError, RwLock};

use crate::config::{Hsts, Webdav};

/// What counts from the next request or connection on.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Authorities accepted in `Destination` besides the request's own `Host`.
    pub public_names: Vec<String>,
    /// Connections from one address.
    pub source_connections_max: usize,
    /// `Strict-Transport-Security`
    pub hsts: Hsts,
}

impl Settings {
    /// Those of a configuration.
    pub fn of(section: &Webdav) -> Self {
        Self {
            public_names: section.public_names.clone(),
            source_connections_max: section.source_connections_max,
            hsts: section.hsts,
        }
    }
}

/// The settings as they are now. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Live(Arc<RwLock<Arc<Settings>>>);

impl Live {
    /// Begins with these.
    pub fn new(settings: Settings) -> Self {
        Self(Arc::new(RwLock::new(Arc::new(settings))))
    }

    /// The ones that count now.
    pub fn now(&self) -> Arc<Settings> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Others from now on.
    pub fn set(&self, settings: Settings) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(settings);
    }
}
