//! What speaks to the API: one watch for each kind of object, by kube-rs, which reads lists by the page,
//! goes on where a watch ended (bookmarks), begins anew where that is too long ago (410 Gone), and backs
//! off. While the API does not answer, what is known stays known; that it does not is said once, and when
//! it does again.

use std::collections::{BTreeSet, VecDeque};
use std::fmt::Debug;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use kube::client::ClientBuilder;
use kube::core::NamespaceResourceScope;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, Config, Resource};
use serde::de::DeserializeOwned;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};
use tower::limit::RateLimitLayer;

use super::api::{
    JobObject, NamespaceObject, NodeObject, PodObject, ReplicaSetObject, ServiceObject,
    SliceObject, owner,
};
use super::cluster::Cluster;
use super::peers::Kind;
use super::pod::Owner;
use crate::say::say;
use crate::stats::Stats;

/// Which annotations are kept.
pub type Keeps = Box<dyn Fn(&str) -> bool + Send + Sync>;

/// What is watched.
pub struct Wanted {
    /// Whether Services are, and their endpoints.
    pub services: bool,
    /// Which annotations are kept.
    pub keeps: Keeps,
}

/// Starts watching, as tasks of `runtime` that end with it.
pub fn start(cluster: &Arc<Cluster>, wanted: Wanted, stats: &Arc<Stats>, runtime: &Handle) {
    let health = Arc::new(Health {
        failing: Mutex::default(),
        stats: Arc::clone(stats),
    });
    runtime.spawn(run(Arc::clone(cluster), wanted, health));
}

async fn run(cluster: Arc<Cluster>, wanted: Wanted, health: Arc<Health>) {
    let client = loop {
        match client().await {
            Ok(client) => break client,
            Err(why) => health.fails("how to reach it", &why),
        }
        sleep(AGAIN).await;
    };
    health.works("how to reach it");
    let (ask, asked) = mpsc::channel(MAX_ASKED);
    let services = async {
        if wanted.services {
            tokio::join!(
                services(&client, &cluster, &health),
                endpoints(&client, &cluster, &health)
            );
        }
    };
    tokio::join!(
        pods(&client, &cluster, &health, &wanted.keeps, &ask),
        owners(&client, &cluster, &health, asked),
        node(&client, &cluster, &health),
        namespace(&client, &cluster, &health),
        services,
    );
}

/// A client by the pod's own account or, where there is none, by a kubeconfig.
pub(super) async fn client() -> Result<Client, String> {
    let mut config = Config::infer().await.map_err(|why| why.to_string())?;
    config.connect_timeout = Some(CONNECT);
    config.read_timeout = Some(SILENCE);
    // It is tried again here, where it is said.
    config.default_retry = false;
    let builder = ClientBuilder::try_from(config).map_err(|why| why.to_string())?;
    let limit = RateLimitLayer::new(RATE, Duration::from_secs(1));
    Ok(builder.with_layer(&limit).build())
}

async fn pods(
    client: &Client,
    cluster: &Cluster,
    health: &Health,
    keeps: &Keeps,
    ask: &mpsc::Sender<Question>,
) {
    let node = cluster.node();
    let config = page(PODS).fields(&format!("spec.nodeName={}", node.name));
    let put = |pod: PodObject| {
        let Some(pod) = pod.into_pod(keeps) else {
            return;
        };
        let namespace = pod.namespace.clone();
        if let Some(owner) = cluster.put_pod(pod) {
            // What there is no room for is asked again with the pod's next change.
            let _ = ask.try_send(Question { namespace, owner });
        }
    };
    follow(
        Api::<PodObject>::all(client.clone()),
        config,
        health,
        PODS_TOLD,
        |event| match event {
            Event::Init => cluster.list_pods(),
            Event::InitApply(pod) | Event::Apply(pod) => put(pod),
            Event::InitDone => cluster.listed_pods(),
            Event::Delete(pod) => {
                if let Some(uid) = &pod.meta().uid {
                    cluster.remove_pod(uid);
                }
            }
        },
    )
    .await;
}

async fn services(client: &Client, cluster: &Cluster, health: &Health) {
    let put = |service: ServiceObject, gone| {
        let addresses = service.into_addresses(gone).into_iter();
        addresses.for_each(|addresses| cluster.put_addresses(addresses));
    };
    let api = Api::<ServiceObject>::all(client.clone());
    follow(
        api,
        page(SERVICES),
        health,
        "services",
        |event| match event {
            Event::Init => cluster.list_peers(Kind::Service),
            Event::InitApply(service) | Event::Apply(service) => put(service, false),
            Event::InitDone => cluster.listed_peers(Kind::Service),
            Event::Delete(service) => put(service, true),
        },
    )
    .await;
}

async fn endpoints(client: &Client, cluster: &Cluster, health: &Health) {
    let put = |slice: SliceObject, gone| {
        let addresses = slice.into_addresses(gone).into_iter();
        addresses.for_each(|addresses| cluster.put_addresses(addresses));
    };
    let api = Api::<SliceObject>::all(client.clone());
    follow(
        api,
        page(SLICES),
        health,
        "endpointslices",
        |event| match event {
            Event::Init => cluster.list_peers(Kind::Slice),
            Event::InitApply(slice) | Event::Apply(slice) => put(slice, false),
            Event::InitDone => cluster.listed_peers(Kind::Slice),
            Event::Delete(slice) => put(slice, true),
        },
    )
    .await;
}

async fn node(client: &Client, cluster: &Cluster, health: &Health) {
    let name = &cluster.node().name;
    let config = page(1).fields(&format!("metadata.name={name}"));
    let api = Api::<NodeObject>::all(client.clone());
    follow(api, config, health, "nodes", |event| match event {
        Event::InitApply(node) | Event::Apply(node) => cluster.put_node(|known| node.tell(known)),
        _ => {}
    })
    .await;
}

/// The UID of kube-system, which never changes.
async fn namespace(client: &Client, cluster: &Cluster, health: &Health) {
    let api = Api::<NamespaceObject>::all(client.clone());
    loop {
        match timeout(ANSWER, api.get_metadata("kube-system")).await {
            Ok(Ok(namespace)) => {
                health.works("namespaces");
                let uid = namespace.metadata.uid.map(Into::into);
                return cluster.put_node(|node| node.cluster = uid);
            }
            Ok(Err(why)) => health.fails("namespaces", &cause(&why)),
            Err(_) => health.fails("namespaces", SILENT),
        }
        sleep(AGAIN).await;
    }
}

/// Whose owner is asked for.
pub(super) struct Question {
    pub namespace: Box<str>,
    pub owner: Owner,
}

/// Finds out who made ReplicaSets and Jobs, one at a time, each once.
async fn owners(
    client: &Client,
    cluster: &Cluster,
    health: &Health,
    mut asked: mpsc::Receiver<Question>,
) {
    let mut open: VecDeque<Question> = VecDeque::new();
    loop {
        if open.is_empty() {
            let Some(question) = asked.recv().await else {
                return;
            };
            open.push_back(question);
        }
        while let Ok(question) = asked.try_recv() {
            let known = open.iter().any(|it| it.owner.uid == question.owner.uid);
            if !known && open.len() < MAX_ASKED {
                open.push_back(question);
            }
        }
        let Some(question) = open.pop_front() else {
            continue;
        };
        if cluster.knows_owner(&question.owner.uid) {
            continue;
        }
        match behind(client, &question).await {
            Ok(owner) => {
                health.works("owners of pods");
                // Of one that is gone is known what its name says.
                if let Some(owner) = owner {
                    cluster.put_owner(&question.owner.uid, owner);
                }
            }
            Err(why) => {
                health.fails("owners of pods", &why);
                open.push_back(question);
                // The next one may be of a kind that is told.
                sleep(AGAIN / u32::try_from(open.len()).unwrap_or(1).min(10)).await;
            }
        }
    }
}

/// Who made it, or that nobody did; none where it is gone, or another by now.
pub(super) async fn behind(
    client: &Client,
    question: &Question,
) -> Result<Option<Option<Owner>>, String> {
    let Question {
        namespace,
        owner: object,
    } = question;
    let found = match &*object.kind {
        "ReplicaSet" => metadata::<ReplicaSetObject>(client, namespace, &object.name).await?,
        _ => metadata::<JobObject>(client, namespace, &object.name).await?,
    };
    let same = found.filter(|found| found.uid.as_deref() == Some(&*object.uid));
    Ok(same.as_ref().map(owner))
}

async fn metadata<K>(
    client: &Client,
    namespace: &str,
    name: &str,
) -> Result<Option<Metadata>, String>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + DeserializeOwned
        + Debug,
{
    let api = Api::<K>::namespaced(client.clone(), namespace);
    match timeout(ANSWER, api.get_metadata_opt(name)).await {
        Ok(found) => Ok(found
            .map_err(|why| cause(&why))?
            .map(|object| object.metadata)),
        Err(_) => Err(SILENT.into()),
    }
}

type Metadata = k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

fn page(size: u32) -> watcher::Config {
    watcher::Config::default().page_size(size)
}

/// Watches for ever.
async fn follow<K>(
    api: Api<K>,
    config: watcher::Config,
    health: &Health,
    what: &'static str,
    mut take: impl FnMut(Event<K>),
) where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    loop {
        let mut events = pin!(watcher(api.clone(), config.clone()).default_backoff());
        let mut listed = false;
        let mut faults = Faults::default();
        loop {
            // A watch may be silent; a list that was asked for may not.
            let patience = if listed { faults.calm() } else { LIST };
            match timeout(patience, events.next()).await {
                Ok(Some(Ok(event))) => {
                    match event {
                        Event::Init => listed = false,
                        Event::InitApply(_) => {}
                        Event::InitDone | Event::Apply(_) | Event::Delete(_) => {
                            listed = true;
                            faults = Faults::default();
                            health.works(what);
                        }
                    }
                    take(event);
                }
                // What it was to go on from is too long ago (410 Gone): it begins anew.
                Ok(Some(Err(watcher::Error::WatchError(status)))) if status.code == 410 => {}
                Ok(Some(Err(why))) => {
                    faults.another();
                    health.fails(what, &watching(&why));
                }
                Ok(None) => break,
                Err(_) if listed => {
                    faults = Faults::default();
                    health.works(what);
                }
                Err(_) => {
                    health.fails(what, SILENT);
                    break;
                }
            }
        }
    }
}

/// How a watch fails. That it goes on is told by nothing but that it does not fail again: kube-rs says
/// nothing of a watch that was asked for again.
#[derive(Debug, Default)]
struct Faults {
    last: Option<Instant>,
    /// Between the last two.
    gap: Duration,
}

impl Faults {
    fn another(&mut self) {
        let last = self.last.replace(Instant::now());
        self.gap = last.map_or(Duration::ZERO, |last| last.elapsed());
    }

    /// The silence after which all is well: pauses between tries grow twofold.
    fn calm(&self) -> Duration {
        match self.last {
            Some(_) => self.gap * 3 + CALM,
            None => YEAR,
        }
    }
}

fn watching(error: &watcher::Error) -> String {
    match error {
        watcher::Error::InitialListFailed(why)
        | watcher::Error::WatchStartFailed(why)
        | watcher::Error::WatchFailed(why) => cause(why),
        watcher::Error::WatchError(status) => status.message.clone(),
        watcher::Error::NoResourceVersion => error.to_string(),
    }
}

/// Why, for people, with what to do about it where that is known.
pub(super) fn cause(error: &kube::Error) -> String {
    let kube::Error::Api(status) = error else {
        let mut text = error.to_string();
        let mut cause = std::error::Error::source(error);
        while let Some(error) = cause {
            text = error.to_string();
            cause = error.source();
        }
        return text;
    };
    let advice = match status.code {
        401 => " (is its service account's token mounted?)",
        403 => " (its ClusterRole must allow that: rbac.create of the chart)",
        _ => "",
    };
    format!("{} {}{advice}", status.code, status.message)
}

/// Which watches fail; says so once.
struct Health {
    failing: Mutex<Failing>,
    stats: Arc<Stats>,
}

#[derive(Default)]
struct Failing {
    what: BTreeSet<&'static str>,
    /// Reasons that were said since all was well: of pods, of others.
    said: BTreeSet<(bool, String)>,
}

impl Health {
    fn fails(&self, what: &'static str, why: &str) {
        self.stats.kubernetes_failed.add(1);
        let mut failing = self.failing.lock().unwrap_or_else(PoisonError::into_inner);
        failing.what.insert(what);
        let why: String = why.chars().take(MAX_REASON).collect();
        // That pods are not known is said for itself: names are missing then.
        let reason = (what == PODS_TOLD, why.clone());
        if failing.said.len() < MAX_SAID && failing.said.insert(reason) {
            say(format_args!(
                "Kubernetes does not tell of {what}: {why}; what is known is kept, and it is asked again"
            ));
        }
    }

    fn works(&self, what: &'static str) {
        let mut failing = self.failing.lock().unwrap_or_else(PoisonError::into_inner);
        if !failing.what.remove(what) {
            return;
        }
        // What fails for good, as for want of a right, hides no other outage.
        let of_pods = what == PODS_TOLD;
        failing.said.retain(|(pods, _)| *pods != of_pods);
        if failing.what.is_empty() {
            say("Kubernetes tells of everything again");
        } else if of_pods {
            say("Kubernetes tells of pods again");
        }
    }
}

pub(super) const SILENT: &str = "no answer";
/// Objects in a page of a list. Whole objects are sent, of which little is kept: a page is what is in
/// memory at once.
const PODS: u32 = 50;
const SERVICES: u32 = 50;
const SLICES: u32 = 50;
/// Longest a connection, an answer, and a page of a list take.
const CONNECT: Duration = Duration::from_secs(5);
const ANSWER: Duration = Duration::from_secs(10);
const LIST: Duration = Duration::from_secs(90);
/// Longest that a watch takes to fail again, besides the pause before it is asked for.
const CALM: Duration = Duration::from_secs(6);
/// For ever.
const YEAR: Duration = Duration::from_secs(365 * 86_400);
/// Longest a watch says nothing: the API sends bookmarks each minute, and ends watches after some five.
const SILENCE: Duration = Duration::from_secs(330);
/// Pause before what failed is asked again, where kube-rs does not say.
const AGAIN: Duration = Duration::from_secs(5);
/// Questions that wait.
const MAX_ASKED: usize = 1024;
/// Reasons that are said before all is well again, and their characters.
const MAX_SAID: usize = 8;
const MAX_REASON: usize = 300;
const PODS_TOLD: &str = "pods";
/// Requests a second: kube-rs asks again at once for a watch that ended.
const RATE: u64 = 20;
