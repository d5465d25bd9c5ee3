//! Calls of language models over HTTP, as OpenAI's API has them and those that are compatible: which
//! model was asked, how many tokens that took, and why it stopped. Sources:
//! <https://platform.openai.com/docs/api-reference>; attributes and the span's name:
//! <https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-spans/> and
//! <https://opentelemetry.io/docs/specs/semconv/gen-ai/openai/> (1.42.0).
//!
//! Never true here: that a prompt or an answer is told, or kept for longer than it takes to pass it
//! over; that a number is told which did not come; that a span is named by a model that was refused.

use std::borrow::Cow;

use super::document::{Documents, name};
use super::{Application, Head, Look, Said, Tap};
use crate::protocol::json::{EACH, Path, Reader, Value};
use crate::protocol::{self, Attribute, Attributes, Flow};

/// The registry's entry.
pub const APPLICATION: &dyn Application = &GenAi;

#[derive(Debug)]
struct GenAi;

impl Application for GenAi {
    fn asked(&self, head: &Head<'_>) -> Option<Box<dyn Tap>> {
        if head.method != "POST" || !head.is_json() {
            return None;
        }
        let path = head.path();
        let (_, operation) = OPERATIONS.iter().find(|(end, _)| path.ends_with(end))?;
        let host = head.field("host").unwrap_or_default();
        Some(Box::new(Call::new(operation, provider(host))))
    }
}

/// How paths end, and what is done there; the longer ends first.
const OPERATIONS: [(&str, &str); 4] = [
    ("/chat/completions", "chat"),
    ("/completions", "text_completion"),
    ("/embeddings", "embeddings"),
    ("/responses", "chat"),
];

/// Who answers at a host, where its name says that (`gen_ai.provider.name`).
const PROVIDERS: [(&str, &str); 11] = [
    ("api.openai.com", "openai"),
    (".openai.azure.com", "azure.ai.openai"),
    (".inference.ai.azure.com", "azure.ai.inference"),
    ("api.deepseek.com", "deepseek"),
    ("api.groq.com", "groq"),
    ("api.mistral.ai", "mistral_ai"),
    ("api.perplexity.ai", "perplexity"),
    ("api.x.ai", "x_ai"),
    ("api.anthropic.com", "anthropic"),
    ("api.cohere.com", "cohere"),
    ("generativelanguage.googleapis.com", "gcp.gemini"),
];

fn provider(host: &[u8]) -> Option<&'static str> {
    let host = host.split(|b| *b == b':').next().unwrap_or_default();
    let is = |name: &str| match name.starts_with('.') {
        true => {
            let from = host.len().saturating_sub(name.len());
            let end = host.get(from..).unwrap_or_default();
            end.eq_ignore_ascii_case(name.as_bytes())
        }
        false => host.eq_ignore_ascii_case(name.as_bytes()),
    };
    let known = PROVIDERS.iter().find(|(name, _)| is(name));
    known.map(|(_, provider)| *provider)
}

const ASKED: &[Path] = &[
    &["model"],
    &["messages"],
    &["input"],
    &["prompt"],
    &["max_tokens"],
    &["max_completion_tokens"],
    &["max_output_tokens"],
    &["temperature"],
    &["top_p"],
    &["stream"],
];
/// Of a response, of a piece of one, and of an event that has one in it.
const ANSWERED: &[Path] = &[
    &["object"],
    &["id"],
    &["model"],
    &["usage", "prompt_tokens"],
    &["usage", "input_tokens"],
    &["usage", "completion_tokens"],
    &["usage", "output_tokens"],
    &["choices", EACH, "finish_reason"],
    &["error"],
    &["error", "type"],
    &["error", "code"],
    &["response", "object"],
    &["response", "id"],
    &["response", "model"],
    &["response", "usage", "input_tokens"],
    &["response", "usage", "output_tokens"],
];
/// Bytes of a request that are looked at: a model may be named behind all that it is asked.
const REQUEST: u64 = 256 * 1024;
/// Bytes of a response that are: the usage stands at the end.
const RESPONSE: u64 = 1024 * 1024;
/// What responses call themselves.
const OBJECTS: [&str; 4] = [
    "chat.completion",
    "chat.completion.chunk",
    "text_completion",
    "response",
];

/// One call.
#[derive(Debug)]
struct Call {
    operation: &'static str,
    provider: Option<&'static str>,
    question: Reader,
    model: Option<String>,
    /// Whether there is something to be answered.
    asks: bool,
    stream: bool,
    most: Option<i64>,
    temperature: Option<f64>,
    share: Option<f64>,
    answer: Documents,
    status: u16,
    answered: Answered,
}

/// What the response has.
#[derive(Debug, Default)]
struct Answered {
    /// Whether it is such a response, for sure or, with such a request, likely.
    sure: bool,
    likely: bool,
    id: Option<String>,
    model: Option<String>,
    input: Option<i64>,
    output: Option<i64>,
    reasons: Vec<String>,
    error: bool,
    error_type: Option<String>,
    error_code: Option<String>,
}

impl Call {
    fn new(operation: &'static str, provider: Option<&'static str>) -> Self {
        Self {
            operation,
            provider,
            question: Reader::new(ASKED, MAX_TEXT),
            model: None,
            asks: false,
            stream: false,
            most: None,
            temperature: None,
            share: None,
            answer: Documents::new(|| Reader::new(ANSWERED, MAX_TEXT)),
            status: 0,
            answered: Answered::default(),
        }
    }

    fn ask(&mut self, bytes: &[u8]) -> Look {
        self.question.read(bytes, |index, value| match index {
            0 => self.model = name(value),
            1..=3 => self.asks |= value != Value::Null,
            4..=6 => self.most = value.int().or(self.most),
            7 => self.temperature = value.double(),
            8 => self.share = value.double(),
            9 => self.stream = value == Value::Bool(true),
            _ => {}
        });
        if self.question.is_broken() {
            return Look::Not;
        }
        match self.question.is_whole() && (self.model.is_none() || !self.asks) {
            true => Look::Not,
            false => Look::More,
        }
    }

    fn answer(&mut self, bytes: &[u8]) -> Look {
        let answered = &mut self.answered;
        match self
            .answer
            .read(bytes, |index, value| answered.take(index, value))
        {
            true => Look::More,
            false => Look::Enough,
        }
    }

    fn tell(&mut self, said: &mut Said) {
        let answered = std::mem::take(&mut self.answered);
        let asked = self.asks && self.model.is_some();
        let failed = answered.error && self.status >= 400;
        if !(answered.sure || asked && (answered.likely || failed)) {
            return;
        }
        // A model that was refused may be any text, and names no span. Limits are those of a model:
        // it is known.
        let refused = (400..500).contains(&self.status) && self.status != 429;
        said.name = Some(match &self.model {
            Some(model) if !refused => format!("{} {model}", self.operation).into(),
            _ => Cow::Borrowed(self.operation),
        });
        let list = &mut said.asked;
        list.push(Attribute::fixed("gen_ai.operation.name", self.operation));
        if let Some(provider) = self.provider {
            list.push(Attribute::fixed("gen_ai.provider.name", provider));
        }
        let model = self.model.take();
        list.extend(model.map(|model| Attribute::text("gen_ai.request.model", model)));
        list.extend(
            self.most
                .map(|n| Attribute::int("gen_ai.request.max_tokens", n)),
        );
        for (key, number) in [
            ("gen_ai.request.temperature", self.temperature),
            ("gen_ai.request.top_p", self.share),
        ] {
            list.extend(number.map(|number| attribute(key, protocol::Value::Double(number))));
        }
        if self.stream {
            list.push(attribute(
                "gen_ai.request.stream",
                protocol::Value::Bool(true),
            ));
        }
        let response = said.answered.get_or_insert_default();
        if answered.error {
            let code = answered
                .error_code
                .as_ref()
                .or(answered.error_type.as_ref());
            // An error of HTTP that nothing is known of besides goes by its status.
            let other = || (self.status < 400).then_some(Cow::Borrowed("_OTHER"));
            let error = code.map(|code| Cow::Owned(code.clone())).or_else(other);
            let own = !(400..500).contains(&self.status);
            response.server_error = error.clone().filter(|_| own);
            response.client_error = error;
        }
        answered.tell(&mut response.attributes);
    }
}

impl Answered {
    fn take(&mut self, index: usize, value: Value<'_>) {
        match index {
            0 | 11 => self.sure |= value.text().is_some_and(|text| OBJECTS.contains(&text)),
            1 | 12 => self.id = name(value).or(self.id.take()),
            2 | 13 => {
                self.likely = true;
                self.model = name(value).or(self.model.take());
            }
            3 | 4 | 14 => {
                self.likely = true;
                self.input = value.int().or(self.input);
            }
            5 | 6 | 15 => self.output = value.int().or(self.output),
            7 if self.reasons.len() < MAX_REASONS => {
                self.reasons
                    .extend(name(value).filter(|text| is_word(text)));
            }
            8 => self.error |= !matches!(value, Value::Null),
            9 => self.error_type = name(value).filter(|text| is_word(text)),
            10 => self.error_code = name(value).filter(|text| is_word(text)),
            _ => {}
        }
    }

    fn tell(self, list: &mut Attributes) {
        for (key, text) in [
            ("gen_ai.response.id", self.id),
            ("gen_ai.response.model", self.model),
        ] {
            list.extend(text.map(|text| Attribute::text(key, text)));
        }
        for (key, number) in [
            ("gen_ai.usage.input_tokens", self.input),
            ("gen_ai.usage.output_tokens", self.output),
        ] {
            list.extend(number.map(|number| Attribute::int(key, number)));
        }
        if !self.reasons.is_empty() {
            let reasons = protocol::Value::List(self.reasons);
            list.push(attribute("gen_ai.response.finish_reasons", reasons));
        }
    }

    fn weight(&self) -> usize {
        let texts = [&self.id, &self.model, &self.error_type, &self.error_code];
        let texts = texts.into_iter().flatten().chain(&self.reasons);
        texts
            .map(|text| text.capacity().saturating_add(size_of::<String>()))
            .fold(0, usize::saturating_add)
    }
}

impl Tap for Call {
    fn answered(&mut self, head: &Head<'_>, _said: &mut Said) -> bool {
        self.status = head.code.unwrap_or(0);
        self.answer.begin(head)
    }

    fn budget(&self, flow: Flow) -> u64 {
        match flow {
            Flow::Request => REQUEST,
            Flow::Response if self.answer.is_stream() => u64::MAX,
            Flow::Response => RESPONSE,
        }
    }

    // A model takes its time: the kernel side knows before the answer comes.
    fn needs_whole(&self) -> bool {
        true
    }

    fn read(&mut self, flow: Flow, bytes: &[u8]) -> Look {
        match flow {
            Flow::Request => self.ask(bytes),
            Flow::Response => self.answer(bytes),
        }
    }

    fn end(&mut self, flow: Flow, whole: bool, said: &mut Said) {
        match (flow, whole) {
            (Flow::Request, _) => {}
            (Flow::Response, true) => self.tell(said),
            // What comes last counts: numbers of a stream of which something is missing may be others.
            (Flow::Response, false) => {
                self.answered.input = None;
                self.answered.output = None;
                self.answered.reasons.clear();
                self.tell(said);
            }
        }
    }

    fn weight(&self) -> usize {
        self.answered
            .weight()
            .saturating_add(self.model.as_ref().map_or(0, String::capacity))
            .saturating_add(self.question.weight())
            .saturating_add(self.answer.weight())
    }
}

fn attribute(key: &'static str, value: protocol::Value) -> Attribute {
    Attribute {
        key: Cow::Borrowed(key),
        value,
    }
}

/// Whether a text is a word, as reasons and codes are.
fn is_word(text: &str) -> bool {
    let part = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.' | b'/');
    text.len() <= MAX_WORD && text.bytes().all(part)
}

/// Longest text that is looked at, and longest word.
const MAX_TEXT: usize = 256;
const MAX_WORD: usize = 64;
/// Most answers to one prompt whose ends are told.
const MAX_REASONS: usize = 8;

#[cfg(test)]
mod tests;
