//! What spans of stores have in common, whatever the protocol: OpenTelemetry's database conventions
//! (semantic-conventions 1.42.0, `docs/db/database-spans.md`).
//!
//! Never true here: that a value is redacted (`sql` leaves the literals of statements out; policy looks
//! for secrets in all texts).

use std::borrow::Cow;

use super::{Attribute, Attributes, Request, Response, Value};

/// What a store was asked. What is not known is left out of the span.
#[derive(Clone, Debug, Default)]
pub struct Query<'a> {
    /// `db.system.name`: `postgresql`, `redis`.
    pub system: &'static str,
    /// `db.namespace`: the database, the index, the keyspace.
    pub namespace: Option<&'a str>,
    /// `db.operation.name`: `SELECT`, `HGETALL`, `findAndModify`.
    pub operation: Option<Cow<'static, str>>,
    /// `db.collection.name`: the table, where there is exactly one.
    pub collection: Option<Cow<'a, str>>,
    /// `db.stored_procedure.name`.
    pub procedure: Option<Cow<'a, str>>,
    /// `db.query.summary`: `SELECT orders`; low in cardinality.
    pub summary: Option<Cow<'a, str>>,
    /// `db.query.text`, as it may be shown.
    pub text: Option<Cow<'a, str>>,
    /// `db.operation.batch.size`: how many operations it is, where it is a batch (two or more).
    pub batch: Option<usize>,
}

/// How a store answered.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// `db.response.status_code`: SQLSTATE, an error's number, an error's first word.
    pub status_code: Option<Cow<'static, str>>,
    /// Whether that is an error, to the one who asked and to the one who answered.
    pub is_error: bool,
    /// `db.response.returned_rows`.
    pub rows: Option<u64>,
}

impl Query<'_> {
    /// The request of a protocol of the registry, further attributes behind those of the conventions.
    pub fn request(self, protocol: &'static str, further: Attributes) -> Request {
        let name = self.name();
        let Self {
            system,
            namespace,
            operation,
            collection,
            procedure,
            summary,
            text,
            batch,
        } = self;
        let mut attributes = Vec::with_capacity(further.len().saturating_add(8));
        attributes.push(Attribute::fixed("db.system.name", system));
        if let Some(value) = namespace {
            attributes.push(Attribute::text("db.namespace", value.to_owned()));
        }
        if let Some(value) = operation {
            // Names that are known beforehand cost nothing.
            attributes.push(Attribute {
                key: Cow::Borrowed("db.operation.name"),
                value: Value::Str(value),
            });
        }
        let mut put = |key: &'static str, value: Option<Cow<'_, str>>| {
            if let Some(value) = value {
                attributes.push(Attribute::text(key, value.into_owned()));
            }
        };
        put("db.collection.name", collection);
        put("db.stored_procedure.name", procedure);
        put("db.query.summary", summary);
        put("db.query.text", text);
        if let Some(batch) = batch.filter(|n| *n > 1) {
            let batch = i64::try_from(batch).unwrap_or(i64::MAX);
            attributes.push(Attribute::int("db.operation.batch.size", batch));
        }
        attributes.extend(further);
        Request::call(protocol, name, attributes)
    }

    /// "Name": the summary; else the operation and what it is done to; else the system.
    fn name(&self) -> Cow<'static, str> {
        if let Some(summary) = &self.summary {
            return Cow::Owned(summary.clone().into_owned());
        }
        let target = self.collection.as_deref().or(self.procedure.as_deref());
        match (&self.operation, target) {
            (Some(operation), Some(target)) => Cow::Owned(format!("{operation} {target}")),
            (Some(operation), None) => operation.clone(),
            (None, Some(target)) => Cow::Owned(target.to_owned()),
            (None, None) => Cow::Borrowed(self.system),
        }
    }
}

impl Outcome {
    /// The response; `error.type` is the store's own code, or `_OTHER` where it gave none.
    pub fn response(self, further: Attributes) -> Response {
        let mut attributes = Vec::new();
        let error = self.is_error.then(|| {
            let code = self.status_code.clone();
            code.unwrap_or(Cow::Borrowed("_OTHER"))
        });
        if let Some(code) = self.status_code {
            attributes.push(Attribute {
                key: Cow::Borrowed("db.response.status_code"),
                value: Value::Str(code),
            });
        }
        if let Some(rows) = self.rows {
            let rows = i64::try_from(rows).unwrap_or(i64::MAX);
            attributes.push(Attribute::int("db.response.returned_rows", rows));
        }
        attributes.extend(further);
        Response {
            attributes,
            client_error: error.clone(),
            server_error: error,
            messages: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let query = Query {
            system: "postgresql",
            ..Query::default()
        };
        for (query, name) in [
            (query.clone(), "postgresql"),
            (
                Query {
                    operation: Some("GET".into()),
                    ..query.clone()
                },
                "GET",
            ),
            (
                Query {
                    operation: Some("find".into()),
                    collection: Some("orders".into()),
                    ..query.clone()
                },
                "find orders",
            ),
            (
                Query {
                    operation: Some("SELECT".into()),
                    summary: Some("SELECT orders items".into()),
                    ..query
                },
                "SELECT orders items",
            ),
        ] {
            assert_eq!(query.request("postgres", Vec::new()).operation, name);
        }
    }

    #[test]
    fn an_error_has_a_type() {
        let plain = Outcome::default().response(Vec::new());
        assert_eq!(plain.client_error, None);
        let unnamed = Outcome {
            is_error: true,
            ..Outcome::default()
        };
        assert_eq!(
            unnamed.response(Vec::new()).client_error,
            Some("_OTHER".into())
        );
        let named = Outcome {
            status_code: Some("42P01".into()),
            is_error: true,
            rows: None,
        };
        assert_eq!(
            named.response(Vec::new()).server_error,
            Some("42P01".into())
        );
    }
}
