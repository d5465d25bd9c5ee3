//! What a statement does to which tables: its operation, its targets, its summary.
//!
//! Keywords are followed, no grammar is: each bracket has its own place in a statement, and places
//! are kept to a fixed depth. A table is what stands where only a table can.
//!
//! Never true here: that the name of a common table expression, a function or an alias is a target, or
//! that a name is one whose end was not seen.

use smallvec::SmallVec;

use super::Dialect;
use super::lex::{Kind, Token};
use super::summary::Found;
use super::words::{Keyword, object};

/// Deepest bracket that is looked into.
const DEEPEST: usize = 32;
/// Most common table expressions that are told from tables.
const MAX_EXPRESSIONS: usize = 64;
/// Most parts of a name: database, schema, table.
const MAX_PARTS: usize = 4;

/// Follows the tokens of one or more statements.
#[derive(Debug)]
pub struct Outline<'a> {
    dialect: Dialect,
    now: Level,
    /// The brackets around it.
    around: SmallVec<[Level; 8]>,
    /// Brackets beyond the deepest.
    deeper: u32,
    /// Names of common table expressions.
    expressions: SmallVec<[&'a [u8]; 4]>,
    name: Option<Name<'a>>,
    before: Option<Keyword>,
    /// Rows of values have begun: no table follows but in a subquery.
    values: bool,
    /// A value is given to a property of what is created.
    assigned: bool,
    /// Behind the name comes a body of other statements, which is not read.
    bodied: bool,
    body: bool,
    found: Found,
}

/// One bracket.
#[derive(Clone, Copy, Debug)]
struct Level {
    at: At,
    verb: Option<Keyword>,
    /// What a comma brings.
    list: Option<At>,
    /// The statement itself, not a part of it.
    main: bool,
}

/// What may stand next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// A statement's verb.
    Start,
    /// A verb, or anything: behind AS and EXPLAIN.
    Perhaps,
    /// Anything.
    Idle,
    /// Nothing that says anything, up to the statement's end.
    Ignore,
    /// A table that is read; a function may stand there.
    Read,
    /// A table that is written; its columns may stand behind it.
    Written,
    /// The name of a common table expression.
    Expression,
    /// Its columns, AS, its statement, a comma or the main verb.
    Expressed,
    /// What is created, altered or dropped.
    Object,
    /// Its name; whether it is a table.
    Named(bool),
    /// A procedure.
    Procedure,
}

/// A name that may go on.
#[derive(Debug)]
struct Name<'a> {
    parts: SmallVec<[Token<'a>; MAX_PARTS]>,
    /// Another part follows.
    dotted: bool,
    at: At,
}

impl Level {
    const fn new(at: At) -> Self {
        Self {
            at,
            verb: None,
            list: None,
            main: false,
        }
    }

    const fn main(at: At) -> Self {
        Self {
            main: true,
            ..Self::new(at)
        }
    }
}

impl<'a> Outline<'a> {
    /// Before the first token.
    pub fn new(dialect: Dialect) -> Self {
        Self {
            dialect,
            now: Level::main(At::Start),
            around: SmallVec::new(),
            deeper: 0,
            expressions: SmallVec::new(),
            name: None,
            before: None,
            values: false,
            assigned: false,
            bodied: false,
            body: false,
            found: Found::default(),
        }
    }

    /// Takes the next token.
    pub fn take(&mut self, token: &Token<'a>, keyword: Option<Keyword>) {
        if self.goes_on(token) || self.body {
            return;
        }
        match token.kind {
            Kind::Open => self.open(),
            Kind::Close => self.close(),
            _ if self.deeper > 0 => {}
            Kind::Comma => match (self.now.at, self.now.list) {
                (At::Expressed, _) => self.now.at = At::Expression,
                (At::Ignore, _) => {}
                (_, Some(at)) => self.now.at = at,
                _ => {}
            },
            Kind::Semicolon => self.end_statement(),
            Kind::Word => self.word(token, keyword),
            Kind::Quoted => self.begin_name(token),
            // A table's place, and nothing that tells which.
            Kind::Literal | Kind::Parameter => {
                if matches!(self.now.at, At::Read | At::Written | At::Named(true)) {
                    self.now.at = At::Idle;
                    self.found.several = true;
                }
            }
            Kind::Other => self.assigned = token.text == b"=",
            Kind::Dot => {}
        }
        self.before = keyword;
    }

    /// What was found, at the end: `whole` where that was the statement's.
    pub fn found(mut self, whole: bool) -> Found {
        if whole {
            self.resolve(false);
            self.end_object();
        }
        self.found.several |= !whole && !self.values;
        self.found.merge();
        self.found
    }

    fn open(&mut self) {
        if self.deeper > 0 || self.around.len() >= DEEPEST {
            self.deeper = self.deeper.saturating_add(1);
            self.found.several = true;
            return;
        }
        let inside = match self.now.at {
            At::Ignore => Level::new(At::Ignore),
            At::Start => Level {
                main: self.now.main,
                ..Level::new(At::Start)
            },
            At::Expressed => match self.before {
                Some(Keyword::As | Keyword::Materialized) => Level::new(At::Start),
                _ => Level::new(At::Idle),
            },
            // More tables, or a query that stands for one.
            At::Read | At::Written if self.before != Some(Keyword::Using) => Level {
                list: Some(At::Read),
                main: false,
                ..self.now
            },
            _ => Level::new(At::Perhaps),
        };
        if matches!(self.now.at, At::Start | At::Read | At::Written) {
            self.now.at = At::Idle;
        }
        self.around.push(std::mem::replace(&mut self.now, inside));
    }

    fn close(&mut self) {
        if self.deeper > 0 {
            self.deeper = self.deeper.saturating_sub(1);
        } else if let Some(around) = self.around.pop() {
            self.now = around;
        }
    }

    fn end_statement(&mut self) {
        self.end_object();
        self.around.clear();
        self.expressions.clear();
        self.values = false;
        self.now = Level::main(At::Start);
        self.found.end_statement();
    }

    /// A kind of object was looked for, and was none that is known.
    fn end_object(&mut self) {
        if self.now.at == At::Object
            && let Some(verb) = self.now.verb
        {
            self.found.operation(verb.text());
        }
    }

    /// Whether the token belongs to a name that is under way; else that is over.
    fn goes_on(&mut self, token: &Token<'a>) -> bool {
        let Some(name) = &mut self.name else {
            return false;
        };
        match token.kind {
            Kind::Dot if !name.dotted => name.dotted = true,
            Kind::Word | Kind::Quoted if name.dotted => {
                name.dotted = false;
                if name.parts.len() < MAX_PARTS {
                    name.parts.push(*token);
                }
            }
            _ => {
                self.resolve(token.kind == Kind::Open);
                return false;
            }
        }
        true
    }

    /// A name is whole; `called`: a bracket follows.
    fn resolve(&mut self, called: bool) {
        let Some(name) = self.name.take() else {
            return;
        };
        let is_expression = |name: &Name<'_>| match name.parts.as_slice() {
            [only] => self
                .expressions
                .iter()
                .any(|known| known.eq_ignore_ascii_case(only.text)),
            _ => false,
        };
        self.body = self.bodied;
        match name.at {
            At::Read if called => {}
            At::Read | At::Written if is_expression(&name) => {}
            At::Read | At::Written | At::Named(true) => self.found.table(&name.parts),
            At::Procedure => self.found.procedure(&name.parts),
            _ => self.found.target(&name.parts),
        }
    }

    /// A name, if one may stand here.
    fn begin_name(&mut self, token: &Token<'a>) {
        match self.now.at {
            At::Read | At::Written | At::Named(_) | At::Procedure => {
                self.name = Some(Name {
                    parts: SmallVec::from_slice(&[*token]),
                    dotted: false,
                    at: self.now.at,
                });
                self.now.at = match self.now.verb {
                    Some(Keyword::Alter | Keyword::Call) => At::Ignore,
                    _ => At::Idle,
                };
            }
            At::Expression => {
                match self.expressions.len() < MAX_EXPRESSIONS {
                    true => self.expressions.push(token.text),
                    // It could be taken for a table.
                    false => self.found.several = true,
                }
                self.now.at = At::Expressed;
            }
            At::Start => self.now.at = At::Ignore,
            At::Perhaps => self.now.at = At::Idle,
            _ => {}
        }
    }

    fn word(&mut self, token: &Token<'a>, keyword: Option<Keyword>) {
        use Keyword as K;
        let Some(word) = keyword else {
            // `EXPLAIN VERBOSE`: anything may stand before the verb.
            let explained = self.now.verb == Some(K::Explain);
            match self.now.at {
                At::Perhaps if explained => {}
                At::Object if std::mem::take(&mut self.assigned) => {}
                At::Object => self.no_object(),
                _ => self.begin_name(token),
            }
            return;
        };
        match self.now.at {
            At::Ignore => {}
            At::Start if word.is_verb() => self.verb(word),
            At::Start => self.now.at = At::Ignore,
            At::Perhaps if self.may_begin(word) => self.verb(word),
            At::Perhaps if self.now.verb == Some(K::Explain) => {}
            At::Expressed if word.is_main() => self.verb(word),
            At::Expressed => {}
            At::Expression if word == K::Recursive => {}
            At::Object => self.object(word),
            At::Named(_) => match word {
                K::If | K::Not | K::Exists | K::Concurrently | K::Only | K::On => {}
                _ => self.begin_name(token),
            },
            At::Read | At::Written if self.passes(word) => {}
            At::Read | At::Written if matches!(word, K::Select | K::With) => self.verb(word),
            At::Read if word == K::Values => {
                (self.now.at, self.now.list) = (At::Idle, None);
            }
            At::Read | At::Written if word.ends_tables() => {
                self.now.at = At::Idle;
                self.clause(word);
            }
            At::Read | At::Written | At::Expression | At::Procedure => self.begin_name(token),
            At::Perhaps | At::Idle => {
                self.now.at = At::Idle;
                self.clause(word);
            }
        }
    }

    /// Whether a word before a table's name is no part of it.
    fn passes(&self, word: Keyword) -> bool {
        use Keyword as K;
        match word {
            K::Only | K::Lateral => true,
            K::Into
            | K::Ignore
            | K::LowPriority
            | K::Temp
            | K::Temporary
            | K::Unlogged
            | K::Tables => self.now.at == At::Written,
            // After FROM it can but be a name.
            K::Table => self.now.at == At::Written && self.now.verb != Some(K::Update),
            _ => false,
        }
    }

    /// Whether a verb stands here, where anything may.
    fn may_begin(&self, word: Keyword) -> bool {
        use Keyword as K;
        match self.now.verb {
            Some(K::Explain) => word.is_verb() && word != K::Analyze,
            Some(K::Prepare) => word.is_verb(),
            _ => matches!(word, K::Select | K::With),
        }
    }

    /// A statement's verb, or a query's within it.
    fn verb(&mut self, word: Keyword) {
        use Keyword as K;
        let batch = word == K::Begin && self.dialect == Dialect::Cql;
        let main = self.now.main;
        self.now = Level {
            at: At::Idle,
            verb: Some(word),
            list: None,
            main,
        };
        match word {
            K::With => {
                self.now.at = At::Expression;
                return;
            }
            K::Create | K::Alter | K::Drop | K::Refresh => {
                self.now.at = At::Object;
                return;
            }
            // BEGIN BATCH: the batch is what is done.
            _ if batch => return,
            _ => {}
        }
        self.found.verb(word.text(), main);
        (self.now.at, self.now.list) = match word {
            K::Insert | K::Merge | K::Copy | K::Table => (At::Written, None),
            // In MySQL; it is nothing else at a statement's beginning.
            K::Replace => (At::Written, None),
            K::Update | K::Truncate | K::Lock => (At::Written, Some(At::Written)),
            K::Call => (At::Procedure, None),
            K::Explain => (At::Perhaps, None),
            K::Select
            | K::Delete
            | K::Set
            | K::Declare
            | K::Prepare
            | K::Values
            | K::Do
            | K::Load => (At::Idle, None),
            _ => (At::Ignore, None),
        };
        self.values |= word == K::Values;
    }

    /// CREATE, ALTER, DROP: of what.
    fn object(&mut self, word: Keyword) {
        use Keyword as K;
        let Some(verb) = self.now.verb else {
            return;
        };
        let Some(operation) = object(verb, word) else {
            if !(word.is_modifier() || std::mem::take(&mut self.assigned)) {
                self.no_object();
            }
            return;
        };
        self.found.operation(operation);
        let table = matches!(word, K::Table | K::View);
        self.now.at = match word {
            // Their names may be made by a machine, for an hour.
            K::Role | K::User => At::Ignore,
            _ => At::Named(table),
        };
        self.now.list = (verb == K::Drop).then_some(self.now.at);
        let bodied = matches!(word, K::Function | K::Procedure | K::Trigger | K::Event);
        self.bodied = verb == K::Create && bodied;
    }

    /// What is created is nothing that is known.
    fn no_object(&mut self) {
        self.end_object();
        self.now.at = At::Ignore;
    }

    /// A keyword amid a statement.
    fn clause(&mut self, word: Keyword) {
        use Keyword as K;
        let verb = self.now.verb;
        match word {
            K::Select => self.verb(K::Select),
            K::From => {
                let reads = matches!(verb, Some(K::Select | K::Delete | K::Update));
                if reads && self.before != Some(K::Distinct) {
                    (self.now.at, self.now.list) = (At::Read, Some(At::Read));
                }
            }
            K::Join | K::Straight if self.now.list.is_some() => self.now.at = At::Read,
            K::Into => match verb {
                Some(K::Select) if self.dialect == Dialect::Postgres => self.now.at = At::Written,
                Some(K::Load) => self.now.at = At::Written,
                _ => {}
            },
            K::Using => match verb {
                // CQL gives a time with it.
                Some(K::Delete) if self.dialect == Dialect::Cql => {}
                Some(K::Delete | K::Merge) => self.now.at = At::Read,
                _ => {}
            },
            K::As if matches!(verb, Some(K::Create | K::Prepare)) => self.now.at = At::Perhaps,
            K::Batch if verb == Some(K::Begin) => self.found.batch(),
            K::Insert | K::Update | K::Delete if self.dialect == Dialect::Cql => {
                self.found.end_statement();
                self.verb(word);
            }
            _ if word.ends_tables() => {
                self.values |= word == K::Values && self.now.main;
                self.now.list = None;
            }
            _ => {}
        }
    }
}
