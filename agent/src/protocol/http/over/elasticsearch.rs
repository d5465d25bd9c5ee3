//! Elasticsearch and OpenSearch: what is asked of their REST API, by the heads alone. Sources: the
//! endpoints and their names in <https://github.com/elastic/elasticsearch-specification>; attributes:
//! semantic conventions for Elasticsearch (1.42.0).
//!
//! A request may be theirs by its path, where an endpoint's name begins with `_`, or by who asks; it
//! is where the response says so: `X-Elastic-Product` of Elasticsearch (from 7.14 on),
//! `X-OpenSearch-Version` of OpenSearch (from 3.0 on). Older ones stay HTTP.
//!
//! Never true here: that a query or a document is looked at, or a part of a path told by a name that
//! is not known.

use std::borrow::Cow;

use super::heads::decoded;
use super::{Application, Head, Said, Tap};
use crate::protocol::{Attribute, Attributes, Value};

/// The registry's entry.
pub const APPLICATION: &dyn Application = &Elasticsearch;

#[derive(Debug)]
struct Elasticsearch;

impl Application for Elasticsearch {
    fn asked(&self, head: &Head<'_>) -> Option<Box<dyn Tap>> {
        let path = head.path().strip_prefix('/')?;
        let named = path.starts_with('_') || path.contains("/_");
        if !named && !is_client(head) {
            return None;
        }
        let (operation, asked) = endpoint(head.method, path)?;
        Some(Box::new(Call { operation, asked }))
    }
}

/// Whether it is asked by a client of theirs: what has no endpoint's name in its path could be
/// anybody's.
fn is_client(head: &Head<'_>) -> bool {
    let agent = head.field("user-agent").unwrap_or_default();
    let own = ["elasticsearch", "elastic-transport", "opensearch"];
    let has = |name: &str| memchr::memmem::find(agent, name.as_bytes()).is_some();
    head.field("x-elastic-client-meta").is_some() || own.into_iter().any(has)
}

/// One call.
#[derive(Debug)]
struct Call {
    operation: &'static str,
    /// What is told once the answer is theirs too.
    asked: Attributes,
}

impl Tap for Call {
    fn answered(&mut self, head: &Head<'_>, said: &mut Said) -> bool {
        let system = if head.field("x-elastic-product") == Some(b"Elasticsearch") {
            "elasticsearch"
        } else if head.field("x-opensearch-version").is_some() {
            "opensearch"
        } else {
            return false;
        };
        let index = self.asked.iter().find(|a| a.key == COLLECTION);
        let name = match index.map(|a| &a.value) {
            Some(Value::Str(index)) => Cow::Owned(format!("{} {index}", self.operation)),
            _ => Cow::Borrowed(self.operation),
        };
        said.name = Some(name);
        said.asked.push(Attribute::fixed("db.system.name", system));
        let operation = Attribute::fixed("db.operation.name", self.operation);
        said.asked.push(operation);
        said.asked.append(&mut self.asked);
        let answered = said.answered.get_or_insert_default();
        let mut put = |key, value: Option<String>| {
            let told = value.map(|value| Attribute::text(key, value));
            answered.attributes.extend(told);
        };
        let code = head.code.map(|code| code.to_string());
        put("db.response.status_code", code);
        // Of Elastic's cloud.
        let field = |name| std::str::from_utf8(head.field(name)?).ok();
        let cluster = field("x-found-handling-cluster").map(str::to_owned);
        put("db.namespace", cluster);
        let node = field("x-found-handling-instance").map(str::to_owned);
        put("elasticsearch.node.name", node);
        true
    }

    fn weight(&self) -> usize {
        crate::protocol::weight(&self.asked)
    }
}

const COLLECTION: &str = "db.collection.name";

/// The endpoint of a request, and the parts of its path that have names.
fn endpoint(method: &str, path: &str) -> Option<(&'static str, Attributes)> {
    let path = path.strip_suffix('/').unwrap_or(path);
    let mut parts = path.split('/').filter(|part| !part.is_empty());
    let mut parts: [Option<&str>; 4] = [parts.next(), parts.next(), parts.next(), parts.next()];
    if path.split('/').count() > parts.len() {
        return None;
    }
    // What stands before an endpoint's name is an index.
    let index = parts[0].filter(|part| !part.starts_with('_'));
    if index.is_some() {
        parts.rotate_left(1);
        parts[3] = None;
    }
    let [name, second, third, _] = parts;
    let words = (index.is_some(), name, second);
    let (operation, keys): (_, [Option<&'static str>; 2]) = match words {
        (true, Some(name), id) => of_index(method, name, id)?,
        (true, None, _) => (whole_index(method)?, [None, None]),
        (false, Some("_cat"), what) => (cat(what)?, [None, third.and(Some("name"))]),
        (false, Some(name), what) => of_cluster(method, name, what)?,
        (false, None, _) if method == "HEAD" => ("ping", [None, None]),
        (false, None, _) if method == "GET" => ("info", [None, None]),
        (false, None, _) => return None,
    };
    let mut told = Attributes::new();
    if let Some(index) = index {
        let index = decoded(index)?;
        told.push(Attribute::text(COLLECTION, index.clone()));
        told.push(parameter("index", index));
    }
    for (key, part) in keys.into_iter().zip([second, third]) {
        if let (Some(key), Some(part)) = (key, part) {
            told.push(parameter(key, decoded(part)?));
        }
    }
    Some((operation, told))
}

fn parameter(key: &'static str, value: String) -> Attribute {
    Attribute {
        key: Cow::Owned(format!("db.operation.parameter.{key}")),
        value: Value::Str(value.into()),
    }
}

/// An endpoint, and the names of the two parts that follow its own.
type Endpoint = (&'static str, [Option<&'static str>; 2]);

/// `/index/_name`, `/index/_name/id`.
fn of_index(method: &str, name: &str, id: Option<&str>) -> Option<Endpoint> {
    let operation = match (name, id, method) {
        ("_doc", Some(_), "GET") => "get",
        ("_doc", Some(_), "HEAD") => "exists",
        ("_doc", Some(_), "PUT" | "POST") | ("_doc", None, "POST") => "index",
        ("_doc", Some(_), "DELETE") => "delete",
        ("_source", Some(_), "GET") => "get_source",
        ("_source", Some(_), "HEAD") => "exists_source",
        ("_create", Some(_), "PUT" | "POST") => "create",
        ("_update", Some(_), "POST") => "update",
        ("_explain", Some(_), "GET" | "POST") => "explain",
        ("_termvectors", _, "GET" | "POST") => "termvectors",
        ("_pit", None, "POST") => "open_point_in_time",
        ("_mapping" | "_mappings", None, "GET") => "indices.get_mapping",
        ("_mapping" | "_mappings", None, "PUT" | "POST") => "indices.put_mapping",
        ("_settings", None, "GET") => "indices.get_settings",
        ("_settings", None, "PUT") => "indices.put_settings",
        ("_open", None, "POST") => "indices.open",
        ("_close", None, "POST") => "indices.close",
        ("_rollover", None, "POST") => "indices.rollover",
        ("_delete_by_query", None, "POST") => "delete_by_query",
        ("_update_by_query", None, "POST") => "update_by_query",
        ("_alias", Some(_), "PUT" | "POST") => {
            return Some(("indices.put_alias", [Some("name"), None]));
        }
        ("_alias", Some(_), "DELETE") => {
            return Some(("indices.delete_alias", [Some("name"), None]));
        }
        (name, None, method) => return Some((of_both(method, name)?, [None, None])),
        ("_validate", Some("query"), "GET" | "POST") => {
            return Some(("indices.validate_query", [None, None]));
        }
        _ => return None,
    };
    Some((operation, [id.and(Some("id")), None]))
}

/// Of an index, of several, or of all.
fn of_both(method: &str, name: &str) -> Option<&'static str> {
    let operation = match (name, method) {
        ("_search", "GET" | "POST") => "search",
        ("_async_search", "POST") => "async_search.submit",
        ("_msearch", "GET" | "POST") => "msearch",
        ("_count", "GET" | "POST") => "count",
        ("_bulk", "POST" | "PUT") => "bulk",
        ("_mget", "GET" | "POST") => "mget",
        ("_field_caps", "GET" | "POST") => "field_caps",
        ("_refresh", "GET" | "POST") => "indices.refresh",
        ("_flush", "GET" | "POST") => "indices.flush",
        ("_forcemerge", "POST") => "indices.forcemerge",
        ("_analyze", "GET" | "POST") => "indices.analyze",
        ("_stats", "GET") => "indices.stats",
        _ => return None,
    };
    Some(operation)
}

/// `/index`.
fn whole_index(method: &str) -> Option<&'static str> {
    match method {
        "PUT" => Some("indices.create"),
        "GET" => Some("indices.get"),
        "HEAD" => Some("indices.exists"),
        "DELETE" => Some("indices.delete"),
        _ => None,
    }
}

/// `/_name`, `/_name/what`.
fn of_cluster(method: &str, name: &str, what: Option<&str>) -> Option<Endpoint> {
    let plain = |operation| Some((operation, [None, None]));
    match (name, what, method) {
        ("_search", Some("scroll"), "GET" | "POST") => plain("scroll"),
        ("_search", Some("scroll"), "DELETE") => plain("clear_scroll"),
        ("_pit", None, "DELETE") => plain("close_point_in_time"),
        ("_reindex", None, "POST") => plain("reindex"),
        ("_sql", None, "GET" | "POST") => plain("sql.query"),
        ("_query", None, "POST") => plain("esql.query"),
        ("_aliases", None, "POST") => plain("indices.update_aliases"),
        ("_cluster", Some("health"), "GET") => plain("cluster.health"),
        ("_cluster", Some("settings"), "GET") => plain("cluster.get_settings"),
        ("_cluster", Some("settings"), "PUT") => plain("cluster.put_settings"),
        ("_cluster", Some("state"), "GET") => plain("cluster.state"),
        ("_cluster", Some("stats"), "GET") => plain("cluster.stats"),
        ("_nodes", None, "GET") => plain("nodes.info"),
        ("_nodes", Some("stats"), "GET") => plain("nodes.stats"),
        ("_tasks", None, "GET") => plain("tasks.list"),
        ("_index_template", Some(_), method) => {
            let operation = match method {
                "PUT" | "POST" => "indices.put_index_template",
                "GET" => "indices.get_index_template",
                "HEAD" => "indices.exists_index_template",
                "DELETE" => "indices.delete_index_template",
                _ => return None,
            };
            Some((operation, [Some("name"), None]))
        }
        ("_ingest", Some("pipeline"), method) => {
            let operation = match method {
                "PUT" => "ingest.put_pipeline",
                "GET" => "ingest.get_pipeline",
                "DELETE" => "ingest.delete_pipeline",
                _ => return None,
            };
            Some((operation, [None, Some("id")]))
        }
        (name, None, method) => plain(of_both(method, name)?),
        _ => None,
    }
}

/// `/_cat/what`.
fn cat(what: Option<&str>) -> Option<&'static str> {
    const ALL: [(&str, &str); 12] = [
        ("aliases", "cat.aliases"),
        ("allocation", "cat.allocation"),
        ("count", "cat.count"),
        ("health", "cat.health"),
        ("indices", "cat.indices"),
        ("master", "cat.master"),
        ("nodes", "cat.nodes"),
        ("plugins", "cat.plugins"),
        ("recovery", "cat.recovery"),
        ("segments", "cat.segments"),
        ("shards", "cat.shards"),
        ("templates", "cat.templates"),
    ];
    let Some(what) = what else {
        return Some("cat.help");
    };
    let is = |known: &&(&str, &str)| known.0 == what;
    ALL.iter().find(is).map(|known| known.1)
}

#[cfg(test)]
mod tests {
    use super::super::bench::{Fields, of_heads};
    use super::*;

    const ELASTIC: Fields<'_> = &[("x-elastic-product", "Elasticsearch")];
    const OPEN: Fields<'_> = &[("x-opensearch-version", "OpenSearch/3.3.0 (opensearch)")];
    const AGENT: (&str, &str) = ("user-agent", "elasticsearch-py/9.5.1");

    #[test]
    fn endpoints_have_their_names() {
        for (line, want) in [
            ("GET /", "info"),
            ("HEAD /", "ping"),
            ("POST /_search", "search"),
            ("POST /orders/_search?size=1", "search orders"),
            ("GET /a,b%2A/_count", "count a,b*"),
            ("PUT /orders/_doc/1", "index orders"),
            ("POST /orders/_doc", "index orders"),
            ("GET /orders/_doc/1", "get orders"),
            ("HEAD /orders/_doc/1", "exists orders"),
            ("DELETE /orders/_doc/1", "delete orders"),
            ("PUT /orders/_create/1", "create orders"),
            ("POST /orders/_update/1", "update orders"),
            ("PUT /_bulk", "bulk"),
            ("POST /orders/_bulk", "bulk orders"),
            ("PUT /orders", "indices.create orders"),
            ("DELETE /orders", "indices.delete orders"),
            ("HEAD /orders", "indices.exists orders"),
            ("POST /orders/_refresh", "indices.refresh orders"),
            ("PUT /orders/_mapping", "indices.put_mapping orders"),
            ("GET /_cat/indices", "cat.indices"),
            ("GET /_cat/indices/orders", "cat.indices"),
            ("GET /_cluster/health", "cluster.health"),
            ("DELETE /_search/scroll", "clear_scroll"),
            ("PUT /_ingest/pipeline/p", "ingest.put_pipeline"),
            ("GET /_nothing/known", "-"),
            ("PATCH /orders/_doc/1", "-"),
            ("GET /orders/_doc/1/2/3", "-"),
            ("GET /orders%ff/_search", "-"),
        ] {
            let said = of_heads(APPLICATION, line, &[AGENT], (200, ELASTIC));
            let name = said.and_then(|said| said.into_iter().next());
            let name = name
                .as_deref()
                .and_then(|name| name.strip_prefix("name = "));
            assert_eq!(name.unwrap_or("-"), want, "{line}");
        }
    }

    #[test]
    fn parts_of_a_path_have_names() {
        let said = of_heads(APPLICATION, "GET /orders/_doc/a%2Fb", &[], (404, OPEN));
        assert_eq!(
            said.expect("OpenSearch's"),
            [
                "name = get orders",
                "db.system.name = opensearch",
                "db.operation.name = get",
                "db.collection.name = orders",
                "db.operation.parameter.index = orders",
                "db.operation.parameter.id = a/b",
                "db.response.status_code = 404",
            ]
        );
        let answer: Fields<'_> = &[
            ("x-elastic-product", "Elasticsearch"),
            ("x-found-handling-cluster", "customers"),
            ("x-found-handling-instance", "instance-0000000001"),
        ];
        let said = of_heads(APPLICATION, "PUT /_ingest/pipeline/p", &[], (200, answer));
        let said = said.expect("Elasticsearch's");
        for line in [
            "db.system.name = elasticsearch",
            "db.operation.parameter.id = p",
            "db.namespace = customers",
            "elasticsearch.node.name = instance-0000000001",
        ] {
            assert!(said.iter().any(|told| told == line), "{line}: {said:?}");
        }
    }

    #[test]
    fn both_halves_must_be_theirs() {
        let is = |line, fields: Fields<'_>, answer: Fields<'_>| {
            of_heads(APPLICATION, line, fields, (200, answer)).is_some()
        };
        assert!(is("GET /_search", &[], ELASTIC));
        assert!(!is("GET /_search", &[AGENT], &[("server", "nginx")]));
        assert!(!is(
            "GET /_search",
            &[AGENT],
            &[("x-elastic-product", "Kibana")]
        ));
        // What has no endpoint's name could be anybody's.
        assert!(!is("GET /orders", &[], ELASTIC));
        assert!(is("GET /orders", &[AGENT], ELASTIC));
        assert!(is(
            "GET /",
            &[("x-elastic-client-meta", "es=9.5.1")],
            ELASTIC
        ));
    }
}
