//! A container's name, where its engine left it readable on the host: Docker's and containerd's
//! state files, by id. Read once per process that needs it; nothing is asked of any engine.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::target::files;

/// What an engine calls a container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Names {
    /// The container's name.
    pub name: Option<String>,
    /// The service it is one of (Compose): better as `service.name` than `shop-web-1`.
    pub service: Option<String>,
    /// The image it was made from, without tag.
    pub image: Option<String>,
}

/// Looks a container up in the state of the engines of the host whose procfs is at `proc`.
pub fn container(proc: &Path, id: &str) -> Names {
    let root = proc.join("1/root");
    let read = |path: String| files::text(&root, &path, STATE_READ).ok();
    if let Some(names) =
        read(format!("var/lib/docker/containers/{id}/config.v2.json")).and_then(|t| docker(&t))
    {
        return names;
    }
    for namespace in ["k8s.io", "default"] {
        let path =
            format!("run/containerd/io.containerd.runtime.v2.task/{namespace}/{id}/config.json");
        if let Some(names) = read(path).and_then(|text| containerd(&text)) {
            return names;
        }
    }
    Names::default()
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct DockerState {
    name: String,
    config: DockerConfig,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct DockerConfig {
    image: String,
    labels: std::collections::HashMap<String, String>,
}

fn docker(text: &str) -> Option<Names> {
    let state: DockerState = serde_json::from_str(text).ok()?;
    Some(Names {
        name: some(state.name.trim_start_matches('/')),
        service: state
            .config
            .labels
            .get("com.docker.compose.service")
            .and_then(|name| some(name)),
        image: image(&state.config.image),
    })
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Bundle {
    annotations: std::collections::HashMap<String, String>,
}

fn containerd(text: &str) -> Option<Names> {
    let bundle: Bundle = serde_json::from_str(text).ok()?;
    let find = |keys: [&str; 2]| {
        keys.iter()
            .find_map(|key| some(bundle.annotations.get(*key)?))
    };
    Some(Names {
        name: find(["io.kubernetes.cri.container-name", "nerdctl/name"]),
        service: None,
        image: find(["io.kubernetes.cri.image-name", "nerdctl/image"])
            .and_then(|name| image(&name)),
    })
}

/// Without tag or digest; a port of the registry is not a tag.
fn image(name: &str) -> Option<String> {
    let name = name.split('@').next().unwrap_or(name);
    let name = match name.rsplit_once(':') {
        Some((before, tag)) if !tag.contains('/') => before,
        _ => name,
    };
    if name == "sha256" {
        return None;
    }
    some(name)
}

fn some(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

const STATE_READ: u64 = 256 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn engines() {
        let names = docker(
            r#"{"ID":"x","Name":"/shop-web-1","Config":{"Image":"reg:5000/shop/web:2",
                "Labels":{"com.docker.compose.service":"web"}},"Path":"/x"}"#,
        );
        let expected = Names {
            name: Some("shop-web-1".into()),
            service: Some("web".into()),
            image: Some("reg:5000/shop/web".into()),
        };
        assert_eq!(names, Some(expected));
        let names = containerd(
            r#"{"ociVersion":"1","annotations":{"io.kubernetes.cri.container-name":"api",
                "io.kubernetes.cri.image-name":"docker.io/library/api:v1@sha256:aa"}}"#,
        );
        let expected = Names {
            name: Some("api".into()),
            service: None,
            image: Some("docker.io/library/api".into()),
        };
        assert_eq!(names, Some(expected));
        assert_eq!(docker("{}"), Some(Names::default()));
        assert_eq!(docker("{"), None);
        assert_eq!(docker(r#"{"Name":3}"#), None);
        assert_eq!(image("sha256:0123"), None);
        assert_eq!(
            image("localhost:5000/a").as_deref(),
            Some("localhost:5000/a")
        );
    }
}
