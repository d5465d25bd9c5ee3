//! Statements, and what is said of them.

use proptest::prelude::*;

use super::*;

fn told(statement: &str, dialect: Dialect) -> Described {
    describe(statement.as_bytes(), dialect, &Database::default(), true)
}

fn summary(statement: &str, dialect: Dialect) -> String {
    told(statement, dialect).summary.unwrap_or_default()
}

fn text(statement: &str, dialect: Dialect) -> String {
    told(statement, dialect).text.unwrap_or_default()
}

use Dialect::{Cql, MySql, Postgres};

#[test]
fn summaries() {
    for (statement, expected) in SUMMARIES {
        assert_eq!(summary(statement, Postgres), *expected, "{statement}");
    }
}

#[test]
fn summaries_of_other_dialects() {
    for (statement, dialect, expected) in [
        (
            "SELECT * FROM `a b`.`c` STRAIGHT_JOIN d",
            MySql,
            "SELECT `a b`.c d",
        ),
        (
            "UPDATE a JOIN b ON a.i = b.i, c SET a.x = 1",
            MySql,
            "UPDATE a b c",
        ),
        (
            "INSERT IGNORE INTO t SET a = 1 ON DUPLICATE KEY UPDATE a = VALUES(a)",
            MySql,
            "INSERT t",
        ),
        ("REPLACE t VALUES (1)", MySql, "REPLACE t"),
        ("DELETE a FROM a JOIN b USING (id)", MySql, "DELETE a b"),
        ("SELECT a FROM t INTO OUTFILE 'x'", MySql, "SELECT t"),
        ("/*!40101 SET NAMES utf8 */", MySql, "SET"),
        (
            "SELECT /*+ NO_INDEX(t) */ a FROM t # FROM u",
            MySql,
            "SELECT t",
        ),
        ("LOAD DATA INFILE 'f' INTO TABLE t", MySql, "LOAD t"),
        (
            "CREATE DEFINER=root@localhost SQL SECURITY INVOKER VIEW v AS SELECT 1",
            MySql,
            "CREATE VIEW v SELECT",
        ),
        ("SELECT \"FROM x\" FROM t", MySql, "SELECT t"),
        ("SHOW FULL TABLES FROM db", MySql, "SHOW"),
        (
            "INSERT INTO ks.t (a) VALUES (?) IF NOT EXISTS USING TTL 3",
            Cql,
            "INSERT ks.t",
        ),
        (
            "DELETE a FROM t USING TIMESTAMP 5 WHERE k = 1",
            Cql,
            "DELETE t",
        ),
        (
            "BEGIN UNLOGGED BATCH INSERT INTO a (b) VALUES (1); INSERT INTO a (b) VALUES (2); APPLY BATCH",
            Cql,
            "BATCH INSERT a",
        ),
        (
            "BEGIN BATCH INSERT INTO a (b) VALUES (1) UPDATE c SET d = 1 APPLY BATCH",
            Cql,
            "BATCH INSERT a; UPDATE c",
        ),
        (
            "CREATE KEYSPACE k WITH replication = {'class': 'x'}",
            Cql,
            "CREATE KEYSPACE k",
        ),
        ("SELECT a FROM t // FROM u", Cql, "SELECT t"),
    ] {
        assert_eq!(summary(statement, dialect), expected, "{statement}");
    }
}

#[test]
fn texts() {
    for (statement, dialect, expected) in TEXTS {
        assert_eq!(text(statement, *dialect), *expected, "{statement}");
    }
}

#[test]
fn one_table_is_the_collection() {
    for (statement, expected) in [
        ("SELECT * FROM a", Some("a")),
        ("SELECT * FROM a x JOIN a y USING (i)", Some("a")),
        ("SELECT * FROM a, b", None),
        ("SELECT * FROM a; DELETE FROM b", None),
        ("WITH x AS (SELECT * FROM a) SELECT * FROM x", Some("a")),
        ("CREATE INDEX i ON t (a)", None),
        ("SELECT 1", None),
    ] {
        assert_eq!(
            told(statement, Postgres).collection.as_deref(),
            expected,
            "{statement}"
        );
    }
    assert_eq!(told("SELECT * FROM \"a\"", MySql).collection, None);
    assert_eq!(told("CALL s.p(1)", MySql).procedure.as_deref(), Some("s.p"));
}

#[test]
fn what_was_cut_is_not_guessed() {
    let cut = |statement: &str| {
        let config = Database::default();
        describe(statement.as_bytes(), Postgres, &config, false)
    };
    let told = cut("SELECT * FROM orders, ite");
    assert_eq!(told.summary.as_deref(), Some("SELECT orders"));
    assert_eq!(told.collection, None);
    assert_eq!(told.operation.as_deref(), Some("SELECT"));
    assert_eq!(cut("SELECT * FROM ord").summary.as_deref(), Some("SELECT"));
    assert_eq!(cut("SELECT * FROM ord ").summary.as_deref(), Some("SELECT"));
    assert_eq!(cut("SEL").summary, None);
    let rows = cut("INSERT INTO orders VALUES (1, 'a'), (2, 'b");
    assert_eq!(rows.collection.as_deref(), Some("orders"));
    assert_eq!(
        rows.text.as_deref(),
        Some("INSERT INTO orders VALUES (?, ?)")
    );
}

#[test]
fn the_text_is_as_configured() {
    let with = |query_text, query_length| {
        let config = Database {
            query_text,
            query_length,
        };
        describe("SELECT  'ä' FROM äöü".as_bytes(), Postgres, &config, true)
    };
    let full = with(QueryText::Full, 2048);
    assert_eq!(full.text.as_deref(), Some("SELECT  'ä' FROM äöü"));
    assert_eq!(with(QueryText::Full, 10).text.as_deref(), Some("SELECT  '"));
    assert_eq!(with(QueryText::Off, 2048).text, None);
    let short = with(QueryText::Redacted, 17);
    assert_eq!(short.text.as_deref(), Some("SELECT ? FROM ä"));
    assert_eq!(short.collection.as_deref(), Some("äöü"));
}

#[test]
fn a_summary_ends_with_a_whole_name() {
    let tables: Vec<_> = (0..100).map(|n| format!("table_{n}")).collect();
    let told = told(&format!("SELECT * FROM {}", tables.join(", ")), Postgres);
    let summary = told.summary.expect("a summary");
    assert!(
        summary.len() <= 255 && summary.ends_with(" table_27"),
        "{summary}"
    );
}

#[test]
fn long_statements_take_linear_time() {
    for piece in [
        "'",
        "\"",
        "/*",
        "$a",
        "$a$",
        "(",
        "[",
        "E'\n",
        ",(",
        "a.",
        "WITH a AS (",
        "FROM a,",
        ";",
        "-",
        "{guid ",
        "IN (1,",
        "VALUES (1),",
        "/*!",
        "`",
        "\\'",
        "0e+",
        "U&'",
        "P1",
        "abcdef01-",
    ] {
        let statement = piece.repeat(1 << 16);
        for dialect in [Postgres, MySql, Cql] {
            let _ = told(&statement, dialect);
        }
    }
}

/// A literal of each kind that says MARK, in a dialect's ways of writing it.
fn literal(dialect: Dialect) -> impl Strategy<Value = String> {
    let all: &[&str] = match dialect {
        Postgres => &[
            "'MARK'",
            "'a''MARK'",
            "E'\\'MARK'",
            "E'a'\n'\\'MARK'",
            "$$MARK$$",
            "$t$ ' $$ MARK$t$",
            "U&'MARK'",
            "B'MARK'",
            "x'MARK'",
            "N'MARK'",
            "'\"MARK'",
            "'/*MARK*/'",
            "'--MARK'",
            "1MARK",
            "-1.5eMARK",
            "'MARK\\'",
            "$_$;MARK;$_$",
            "'\n\0MARK'",
        ],
        MySql => &[
            "'MARK'",
            "\"MARK\"",
            "'\\'MARK'",
            "\"a\"\"MARK\"",
            "'a''MARK'",
            "_utf8'MARK'",
            "N'MARK'",
            "'`MARK'",
            "'# MARK'",
            "\"-- MARK\"",
            "'/*MARK'",
            "1MARK",
            "'MARK\\\\'",
        ],
        Cql => &[
            "'MARK'",
            "'a''MARK'",
            "$$ ' MARK$$",
            "'//MARK'",
            "0xMARK",
            "PT1MARK",
            "a3bb189e-8bf9-3888-9912-ace4e654300f",
        ],
    };
    proptest::sample::select(all).prop_map(str::to_owned)
}

fn statement(dialect: Dialect) -> impl Strategy<Value = String> {
    let joints = proptest::sample::select(vec![
        ", ",
        " ",
        "=",
        " IN (",
        ")",
        " VALUES (",
        "), (",
        "; SELECT ",
        " /* c */ ",
        " -- c\n",
        "[",
        "]",
        "||",
        "::text",
        " FROM t ",
        " AND a.b ",
        "(",
        " WITH x AS (",
        "?",
        "$1",
        "\n",
    ]);
    let pairs = proptest::collection::vec((joints, literal(dialect)), 1..12);
    pairs.prop_map(|pairs| {
        let mut continued = false;
        let part = |(joint, literal): (&str, String)| {
            // Another line's string goes on with the escapes of one that has them.
            let apart = if continued && joint.ends_with('\n') {
                ","
            } else {
                ""
            };
            continued = literal.starts_with(['e', 'E']);
            format!("{apart}{joint} {literal} ")
        };
        let parts = pairs.into_iter().map(part);
        format!("SELECT {}", parts.collect::<String>())
    })
}

fn dialect() -> impl Strategy<Value = Dialect> {
    proptest::sample::select(vec![Postgres, MySql, Cql])
}

proptest! {
    #[test]
    fn no_literal_is_shown((dialect, statement) in dialect().prop_flat_map(|d| (Just(d), statement(d)))) {
        let shown = told(&statement, dialect);
        let leaks = |text: &str| ["MA", "AR", "RK"].iter().any(|part| text.contains(part)) || text.contains("8bf9") || text.contains("e654");
        for at in 0..=statement.len() {
            let config = Database::default();
            let cut = describe(&statement.as_bytes()[..at], dialect, &config, false);
            for text in [cut.text, cut.summary, cut.collection].into_iter().flatten() {
                prop_assert!(!leaks(&text), "{statement}: {text}");
            }
        }
        for text in [shown.text, shown.summary, shown.collection].into_iter().flatten() {
            prop_assert!(!leaks(&text), "{statement}: {text}");
        }
    }

    #[test]
    fn any_bytes_end(bytes: Vec<u8>, dialect in dialect(), whole: bool, length in 16_usize..100) {
        for query_text in [QueryText::Redacted, QueryText::Full, QueryText::Off] {
            let config = Database { query_text, query_length: length };
            let told = describe(&bytes, dialect, &config, whole);
            prop_assert!(told.text.is_none_or(|text| text.len() <= length));
            prop_assert!(told.summary.is_none_or(|summary| summary.len() <= 255));
        }
    }

    #[test]
    fn any_tokens_end(tokens in proptest::collection::vec(proptest::sample::select(vec![
        "SELECT", "FROM", "JOIN", "(", ")", ",", ".", ";", "a", "\"b\"", "'c'", "WITH", "AS", "CREATE",
        "TABLE", "VALUES", "IN", "UPDATE", "DELETE", "USING", "EXPLAIN", "/*", "*/", "$", "1", "-", "=",
        "BEGIN", "BATCH", "INTO", "CALL", "{", "]",
    ]), 0..60), dialect in dialect(), whole: bool) {
        let statement = tokens.join(" ");
        let _ = describe(statement.as_bytes(), dialect, &Database::default(), whole);
    }
}

const SUMMARIES: &[(&str, &str)] = &[
    (
        "SELECT * FROM wuser_table WHERE username = 'x'",
        "SELECT wuser_table",
    ),
    (
        "INSERT INTO shipping_details (order_id, address) SELECT order_id, address FROM orders \
             WHERE order_id = 1",
        "INSERT shipping_details SELECT orders",
    ),
    (
        "SELECT * FROM songs, artists WHERE songs.id == artists.id",
        "SELECT songs artists",
    ),
    (
        "SELECT order_date FROM (SELECT * FROM orders o JOIN customers c ON o.c = c.id)",
        "SELECT SELECT orders customers",
    ),
    (
        r#"SELECT * FROM "song list", "artists""#,
        r#"SELECT "song list" artists"#,
    ),
    (
        "SELECT a FROM dbo.Table JOIN dbo.AnotherTable",
        "SELECT dbo.Table dbo.AnotherTable",
    ),
    (
        "INSERT INTO X VALUES(1, 23456, 123.456, 99+100)",
        "INSERT X",
    ),
    (
        "SELECT column -- end\nFROM /* a \n b */ table",
        "SELECT table",
    ),
    ("SELEcT order_date\nFROM ORders", "SELECT ORders"),
    (
        "SELECT * FROM Orders o CROSS JOIN OrderDetails od",
        "SELECT Orders OrderDetails",
    ),
    (
        "CREATE  TABLE MyTable (ID NOT NULL IDENTITY(1,1) PRIMARY KEY)",
        "CREATE TABLE MyTable",
    ),
    (
        "ALTER  TABLE MyTable ADD Name varchar(255)",
        "ALTER TABLE MyTable",
    ),
    (
        "DROP TABLE IF EXISTS a, public.b CASCADE",
        "DROP TABLE a public.b",
    ),
    (
        "CREATE UNIQUE INDEX CONCURRENTLY i ON t (a)",
        "CREATE INDEX i",
    ),
    ("CREATE INDEX ON t (a)", "CREATE INDEX t"),
    (
        "CREATE OR REPLACE FUNCTION f(a int) RETURNS int AS $$ SELECT 1 FROM t $$",
        "CREATE FUNCTION f",
    ),
    (
        "CREATE TRIGGER g AFTER INSERT ON t BEGIN UPDATE a SET b = 1; SELECT 1; END",
        "CREATE TRIGGER g",
    ),
    ("CREATE USER bob PASSWORD 'x'", "CREATE USER"),
    ("CREATE PUBLICATION p FOR TABLE t", "CREATE"),
    (
        "ALTER DEFAULT PRIVILEGES IN SCHEMA s GRANT SELECT ON TABLES TO r",
        "ALTER",
    ),
    (
        "CREATE TEMP TABLE t AS WITH x AS (SELECT * FROM a) SELECT * FROM x",
        "CREATE TABLE t SELECT a SELECT",
    ),
    (
        "REFRESH MATERIALIZED VIEW CONCURRENTLY v",
        "REFRESH MATERIALIZED VIEW v",
    ),
    (
        "WITH r AS (SELECT * FROM orders), s (a, b) AS MATERIALIZED (DELETE FROM old RETURNING *) \
             INSERT INTO fresh SELECT * FROM r JOIN s USING (id)",
        "SELECT orders DELETE old INSERT fresh SELECT",
    ),
    (
        "WITH RECURSIVE t(n) AS (VALUES (1) UNION ALL SELECT n+1 FROM t) SELECT sum(n) FROM t",
        "VALUES SELECT SELECT",
    ),
    (
        "UPDATE ONLY a.b SET x = (SELECT max(y) FROM c) FROM d WHERE d.i = a.i",
        "UPDATE a.b SELECT c d",
    ),
    (
        "DELETE FROM a USING b JOIN c USING (id) WHERE a.x = b.x",
        "DELETE a b c",
    ),
    (
        "SELECT extract(year FROM at), trim(both 'x' FROM n) FROM t WHERE a IS DISTINCT FROM b",
        "SELECT t",
    ),
    (
        "SELECT * FROM generate_series(1, 10) g, LATERAL f(g) h, t",
        "SELECT t",
    ),
    (
        "SELECT * FROM (a JOIN b ON a.i = b.i), c ORDER BY d, e",
        "SELECT a b c",
    ),
    (
        "SELECT 1 FROM a, b WHERE f(x, y) IN (SELECT z FROM c) GROUP BY p, q",
        "SELECT a b SELECT c",
    ),
    (
        "INSERT INTO t (a) VALUES (1) ON CONFLICT (a) DO UPDATE SET a = excluded.a",
        "INSERT t",
    ),
    ("SELECT * FROM jobs FOR UPDATE SKIP LOCKED", "SELECT jobs"),
    (
        "SELECT a INTO TEMP TABLE fresh FROM old",
        "SELECT fresh old",
    ),
    (
        "(SELECT a FROM b) UNION ALL (SELECT a FROM c)",
        "SELECT b SELECT c",
    ),
    (
        "MERGE INTO t USING s ON t.i = s.i WHEN MATCHED THEN UPDATE SET a = 1",
        "MERGE t s",
    ),
    ("COPY public.t (a, b) FROM STDIN", "COPY public.t"),
    ("COPY (SELECT * FROM t) TO STDOUT", "COPY SELECT t"),
    ("CALL p(1, 2)", "CALL p"),
    (
        "EXPLAIN (ANALYZE, FORMAT JSON) SELECT * FROM t",
        "EXPLAIN SELECT t",
    ),
    (
        "EXPLAIN ANALYZE VERBOSE UPDATE t SET a = 1",
        "EXPLAIN UPDATE t",
    ),
    (
        "PREPARE p (int) AS INSERT INTO t VALUES ($1)",
        "PREPARE INSERT t",
    ),
    ("DECLARE c CURSOR FOR SELECT * FROM t", "DECLARE SELECT t"),
    ("FETCH FORWARD 10 FROM c", "FETCH"),
    ("TRUNCATE a, b", "TRUNCATE a b"),
    ("LOCK TABLE t IN EXCLUSIVE MODE", "LOCK t"),
    ("SET search_path TO a, b", "SET"),
    ("GRANT SELECT, INSERT ON t TO r", "GRANT"),
    (
        "BEGIN; INSERT INTO a VALUES (1); INSERT INTO a VALUES (2); COMMIT;",
        "BEGIN; INSERT a; COMMIT",
    ),
    ("SELECT 1;; SELECT 2; ", "SELECT"),
    ("SAVEPOINT s_1", "SAVEPOINT"),
    ("TABLE t", "TABLE t"),
    ("nonsense FROM t", ""),
    ("'x' SELECT", "SELECT"),
    (")))) SELECT a FROM b (((", "SELECT"),
    ("", ""),
];

const TEXTS: &[(&str, Dialect, &str)] = &[
    (
        "SELECT 12, -12, +12, 12.34e-56, .01, -.01",
        Postgres,
        "SELECT ?, ?, ?, ?, ?, ?",
    ),
    ("SELECT 99+100, a-1", Postgres, "SELECT ?+?, a-?"),
    ("SELECT 0xDEADBEEF, 1_000, 0b01", Postgres, "SELECT ?, ?, ?"),
    ("SELECT 'My name''s \n not'", Postgres, "SELECT ?"),
    (
        "SELECT c3po, r2d2 FROM covid19 WHERE n1h1=1234",
        Postgres,
        "SELECT c3po, r2d2 FROM covid19 WHERE n1h1=?",
    ),
    (
        "SELECT * FROM t WHERE v IN (123, 456, 'abc')",
        Postgres,
        "SELECT * FROM t WHERE v IN (?)",
    ),
    (
        "SELECT a IN (f(1), 2, 3, b), ARRAY[1, 2]",
        Postgres,
        "SELECT a IN (f(?), ?, b), ARRAY[?]",
    ),
    (
        "SELECT  column -- end\n\tFROM /* b /* n */ */ table;",
        Postgres,
        "SELECT column FROM table;",
    ),
    (
        "INSERT INTO t VALUES (1, now()), (2, 'x'), (3, NULL) RETURNING id",
        Postgres,
        "INSERT INTO t VALUES (?, now()) RETURNING id",
    ),
    (
        "INSERT INTO t VALUES ($1, $2), ($3, $4)",
        Postgres,
        "INSERT INTO t VALUES ($1, $2)",
    ),
    (
        r#"SELECT E'it\'s', 'a\', U&'d\0061', U&"\0061", $1, $$a$$, $t$ $$ $t$, x'1F'"#,
        Postgres,
        r#"SELECT ?, ?, ?, U&"\0061", $1, ?, ?, ?"#,
    ),
    ("SELECT E'a'\n 'b\\' c', d", Postgres, "SELECT ?, d"),
    (
        "SELECT E'a' -- b\n -- 'c'\n 'b\\' c', d",
        Postgres,
        "SELECT ?, d",
    ),
    (
        "SELECT a::int, '1'::text, b ? 'k', c @> '{}'",
        Postgres,
        "SELECT a::int, ?::text, b ? ?, c @> ?",
    ),
    (
        "SELECT TRUE, a IS TRUE, b IS NOT FALSE, false, NULL",
        Postgres,
        "SELECT ?, a IS TRUE, b IS NOT FALSE, ?, NULL",
    ),
    ("SELECT 'open", Postgres, "SELECT ?"),
    ("SELECT \"open", Postgres, "SELECT ?"),
    ("DO $$ BEGIN PERFORM 'secret'; END $$", Postgres, "DO ?"),
    (
        "SELECT 'a\\'b', \"c\\\"d\", `e` -- x\n, @v, @@s.v, 1 --2",
        MySql,
        "SELECT ?, ?, `e` , @v, @@s.v, ? -?",
    ),
    (
        "SELECT _utf8'x', N'y', 0x1F, b'1' # c",
        MySql,
        "SELECT _utf8?, ?, ?, ?",
    ),
    (
        "INSERT INTO t VALUES (1),(2) ON DUPLICATE KEY UPDATE a=VALUES(a), b=VALUES(b)",
        MySql,
        "INSERT INTO t VALUES (?) ON DUPLICATE KEY UPDATE a=VALUES(a), b=VALUES(b)",
    ),
    (
        "CREATE USER 'bob'@'%' IDENTIFIED BY 'x'",
        MySql,
        "CREATE USER ?@? IDENTIFIED BY ?",
    ),
    (
        "SELECT * FROM t WHERE u = a3bb189e-8bf9-3888-9912-ace4e654300f AND d = PT12H AND e = 12h30m",
        Cql,
        "SELECT * FROM t WHERE u = ? AND d = ? AND e = ?",
    ),
    (
        "UPDATE t SET m = {'a': 1}, l = [1, 2], s = $$x$$ WHERE k = :k",
        Cql,
        "UPDATE t SET m = {?: ?}, l = [?], s = ? WHERE k = :k",
    ),
];
