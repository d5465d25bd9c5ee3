//! What Kubernetes is asked, and what of it is told.

use std::time::Duration;

/// Whether something is done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Presence {
    /// Where it looks as if it could be.
    #[default]
    Auto,
    /// It is.
    On,
    /// It is not.
    Off,
}

/// What Kubernetes is asked, and what of it is told.
#[derive(Clone, Debug, PartialEq)]
pub struct Kubernetes {
    /// Whether it is asked; in a pod, where nothing is said.
    pub enabled: Presence,
    /// The node's name; the host's, where none is given.
    pub node: Option<String>,
    /// Longest a span waits for its pod.
    pub wait: Duration,
    /// Globs on labels of pods that are told.
    pub labels: Vec<String>,
    /// Globs on annotations of pods that are told.
    pub annotations: Vec<String>,
    /// Whether well-known labels name services.
    pub service_labels: bool,
    /// Whether Services and their endpoints are watched.
    pub services: bool,
}

impl Default for Kubernetes {
    fn default() -> Self {
        Self {
            enabled: Presence::Auto,
            node: None,
            wait: Duration::from_secs(2),
            labels: Vec::new(),
            annotations: Vec::new(),
            service_labels: false,
            services: true,
        }
    }
}
