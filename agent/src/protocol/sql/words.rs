//! Words that tell what a statement does, and where its tables stand.

macro_rules! words {
    ($($name:ident $text:literal,)+) => {
        /// A keyword of any dialect.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Keyword {
            $(#[doc = $text] $name,)+
        }

        #[allow(non_upper_case_globals, reason = "named as the keywords are")]
        mod packed {
            $(pub const $name: u128 = super::packed($text.as_bytes());)+
        }

        impl Keyword {
            /// The keyword, in whatever case it is written.
            pub fn of(word: &[u8]) -> Option<Self> {
                let mut upper = [0; 16];
                upper.get_mut(..word.len())?.copy_from_slice(word);
                upper.make_ascii_uppercase();
                Some(match u128::from_le_bytes(upper) {
                    $(packed::$name => Self::$name,)+
                    _ => return None,
                })
            }

            /// In capital letters.
            pub fn text(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)+
                }
            }
        }
    };
}

/// A word as one number, so that finding it is a few comparisons.
const fn packed(word: &[u8]) -> u128 {
    let mut number = 0;
    let mut rest = word;
    while let Some((last, before)) = rest.split_last() {
        number = number << 8 | *last as u128;
        rest = before;
    }
    number
}

words! {
    Abort "ABORT", Algorithm "ALGORITHM", Alter "ALTER", Analyze "ANALYZE", And "AND", As "AS", Batch "BATCH",
    Begin "BEGIN", Between "BETWEEN", By "BY", Call "CALL", Case "CASE", Check "CHECK",
    Checkpoint "CHECKPOINT", Close "CLOSE", Cluster "CLUSTER", Comment "COMMENT", Commit "COMMIT",
    Concurrently "CONCURRENTLY", Constraint "CONSTRAINT", Copy "COPY", Create "CREATE", Custom "CUSTOM", Database "DATABASE",
    Deallocate "DEALLOCATE", Declare "DECLARE", Definer "DEFINER", Delete "DELETE", Desc "DESC", Describe "DESCRIBE",
    Discard "DISCARD", Distinct "DISTINCT", Do "DO", Drop "DROP", Else "ELSE", End "END",
    Event "EVENT", Except "EXCEPT", Execute "EXECUTE", Exists "EXISTS", Explain "EXPLAIN",
    Extension "EXTENSION", False "FALSE", Fetch "FETCH", Flush "FLUSH", For "FOR", Foreign "FOREIGN", From "FROM", Fulltext "FULLTEXT",
    Function "FUNCTION", Global "GLOBAL", Grant "GRANT", Group "GROUP", Handler "HANDLER", Having "HAVING",
    If "IF", Ignore "IGNORE", Import "IMPORT", In "IN", Index "INDEX",
    Insert "INSERT", Intersect "INTERSECT", Into "INTO", Invoker "INVOKER", Is "IS", Join "JOIN",
    Keyspace "KEYSPACE", Kill "KILL", Lateral "LATERAL", Like "LIKE", Limit "LIMIT",
    List "LIST", Listen "LISTEN", Load "LOAD", Local "LOCAL", Lock "LOCK", LowPriority "LOW_PRIORITY",
    Materialized "MATERIALIZED", Merge "MERGE", Move "MOVE", Not "NOT",
    Notify "NOTIFY", Offset "OFFSET", On "ON", Only "ONLY", Optimize "OPTIMIZE", Or "OR",
    Order "ORDER", Policy "POLICY", Prepare "PREPARE", Procedure "PROCEDURE",
    Reassign "REASSIGN", Recursive "RECURSIVE", Refresh "REFRESH", Reindex "REINDEX",
    Release "RELEASE", Rename "RENAME", Repair "REPAIR", Replace "REPLACE", Reset "RESET",
    Returning "RETURNING", Revoke "REVOKE", Role "ROLE", Rollback "ROLLBACK", Rule "RULE",
    Savepoint "SAVEPOINT", Schema "SCHEMA", Security "SECURITY", Select "SELECT",
    Sequence "SEQUENCE", Set "SET", Show "SHOW", Spatial "SPATIAL", Sql "SQL", Start "START", Straight "STRAIGHT_JOIN",
    Table "TABLE", Tables "TABLES", Tablespace "TABLESPACE", Temp "TEMP", Temporary "TEMPORARY", Temptable "TEMPTABLE",
    Then "THEN", Trigger "TRIGGER", True "TRUE", Truncate "TRUNCATE", Type "TYPE",
    Undefined "UNDEFINED", Union "UNION", Unique "UNIQUE", Unlisten "UNLISTEN", Unlock "UNLOCK", Unlogged "UNLOGGED", Update "UPDATE",
    Use "USE", User "USER", Using "USING", Vacuum "VACUUM", Value "VALUE", Values "VALUES",
    View "VIEW", When "WHEN", Where "WHERE", Window "WINDOW", With "WITH", Xa "XA",
}

/// What statements begin with.
const VERBS: &[Keyword] = {
    use Keyword as K;
    &[
        K::Abort,
        K::Alter,
        K::Analyze,
        K::Begin,
        K::Call,
        K::Check,
        K::Checkpoint,
        K::Close,
        K::Cluster,
        K::Comment,
        K::Commit,
        K::Copy,
        K::Create,
        K::Deallocate,
        K::Declare,
        K::Delete,
        K::Desc,
        K::Describe,
        K::Discard,
        K::Do,
        K::Drop,
        K::End,
        K::Execute,
        K::Explain,
        K::Fetch,
        K::Flush,
        K::Grant,
        K::Handler,
        K::Import,
        K::Insert,
        K::Kill,
        K::List,
        K::Listen,
        K::Load,
        K::Lock,
        K::Merge,
        K::Move,
        K::Notify,
        K::Optimize,
        K::Prepare,
        K::Reassign,
        K::Refresh,
        K::Reindex,
        K::Release,
        K::Rename,
        K::Repair,
        K::Replace,
        K::Reset,
        K::Revoke,
        K::Rollback,
        K::Savepoint,
        K::Security,
        K::Select,
        K::Set,
        K::Show,
        K::Start,
        K::Table,
        K::Truncate,
        K::Unlisten,
        K::Unlock,
        K::Update,
        K::Use,
        K::Vacuum,
        K::Values,
        K::With,
        K::Xa,
    ]
};

/// The operation that is done to a kind of object: `CREATE TABLE`. The closed list of them.
pub fn object(verb: Keyword, kind: Keyword) -> Option<&'static str> {
    use Keyword as K;
    macro_rules! operations {
        ($($kind:ident $text:literal,)+) => {
            match (verb, kind) {
                $(
                    (K::Create, K::$kind) => concat!("CREATE ", $text),
                    (K::Alter, K::$kind) => concat!("ALTER ", $text),
                    (K::Drop, K::$kind) => concat!("DROP ", $text),
                )+
                (K::Refresh, K::View) => "REFRESH MATERIALIZED VIEW",
                _ => return None,
            }
        };
    }
    Some(operations! {
        Table "TABLE", View "VIEW", Index "INDEX", Sequence "SEQUENCE", Schema "SCHEMA",
        Database "DATABASE", Keyspace "KEYSPACE", Function "FUNCTION", Procedure "PROCEDURE",
        Trigger "TRIGGER", Type "TYPE", Role "ROLE", User "USER", Extension "EXTENSION",
        Event "EVENT", Rule "RULE", Policy "POLICY", Tablespace "TABLESPACE",
    })
}

impl Keyword {
    /// Whether a statement may begin with it.
    pub fn is_verb(self) -> bool {
        VERBS.contains(&self)
    }

    /// Whether it may be the main verb behind common table expressions.
    pub fn is_main(self) -> bool {
        use Keyword as K;
        matches!(
            self,
            K::Select
                | K::Insert
                | K::Update
                | K::Delete
                | K::Merge
                | K::Replace
                | K::Values
                | K::Table
                | K::With
        )
    }

    /// Whether it may stand between CREATE and what is created.
    pub fn is_modifier(self) -> bool {
        use Keyword as K;
        matches!(
            self,
            K::Or
                | K::Replace
                | K::Temp
                | K::Temporary
                | K::Unlogged
                | K::Materialized
                | K::Recursive
                | K::Security
                | K::Unique
                | K::Global
                | K::Local
                | K::Fulltext
                | K::Spatial
                | K::Foreign
                | K::Constraint
                | K::Algorithm
                | K::Definer
                | K::Invoker
                | K::Sql
                | K::Undefined
                | K::Merge
                | K::Temptable
                | K::Custom
                | K::If
                | K::Not
                | K::Exists
        )
    }

    /// Whether what stands behind it belongs to no list of tables any more.
    pub fn ends_tables(self) -> bool {
        use Keyword as K;
        matches!(
            self,
            K::Where
                | K::Group
                | K::Order
                | K::Having
                | K::Limit
                | K::Offset
                | K::Fetch
                | K::Window
                | K::Union
                | K::Intersect
                | K::Except
                | K::Set
                | K::Values
                | K::Returning
                | K::For
        )
    }
}
