//! The pods of a node, asked for once: for who looks and goes.

use std::time::Duration;

use kube::Api;
use kube::api::ListParams;
use tokio::time::timeout;

use super::api::{PodObject, SERVICE_NAME, SliceObject};
use super::cluster::Cluster;
use super::watch::{Question, SILENT, Wanted, behind, cause, client};

/// Puts the pods of the node into `cluster`, and who made them, and the endpoints of the Services that
/// `services` names then, by namespace and name. Takes `limit` at most.
///
/// # Errors
/// Where the API does not answer, or not with that; what came before is known.
pub async fn once(
    cluster: &Cluster,
    wanted: &Wanted,
    services: impl Fn(&Cluster) -> Vec<(String, String)>,
    limit: Duration,
) -> Result<(), String> {
    let asked = async {
        pods(cluster, wanted).await?;
        match wanted.services {
            true => endpoints(cluster, &services(cluster)).await,
            false => Ok(()),
        }
    };
    timeout(limit, asked)
        .await
        .unwrap_or_else(|_| Err(SILENT.into()))
}

async fn pods(cluster: &Cluster, wanted: &Wanted) -> Result<(), String> {
    let client = client().await?;
    let api = Api::<PodObject>::all(client.clone());
    let node = format!("spec.nodeName={}", cluster.node().name);
    let mut params = ListParams::default().fields(&node).limit(PAGE);
    loop {
        let page = api.list(&params).await.map_err(|why| cause(&why))?;
        for pod in page.items {
            let Some(pod) = pod.into_pod(&wanted.keeps) else {
                continue;
            };
            let namespace = pod.namespace.clone();
            if let Some(owner) = cluster.put_pod(pod) {
                let question = Question { namespace, owner };
                // Its own name is known all the same.
                if let Ok(Some(owner)) = behind(&client, &question).await {
                    cluster.put_owner(&question.owner.uid, owner);
                }
            }
        }
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => break,
        }
    }
    cluster.listed_pods();
    Ok(())
}

async fn endpoints(cluster: &Cluster, services: &[(String, String)]) -> Result<(), String> {
    if services.is_empty() {
        return Ok(());
    }
    let client = client().await?;
    for (namespace, name) in services {
        let api = Api::<SliceObject>::namespaced(client.clone(), namespace);
        let its = ListParams::default().labels(&format!("{SERVICE_NAME}={name}"));
        let slices = api.list(&its).await.map_err(|why| cause(&why))?;
        for slice in slices.items {
            if let Some(endpoints) = slice.into_addresses(false) {
                cluster.put_addresses(endpoints);
            }
        }
    }
    Ok(())
}

/// Pods in a page of the list.
const PAGE: u32 = 100;
