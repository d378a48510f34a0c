//! Text to tokens and back, and conversations to tokens.
//!
//! What a message says may come from a stranger. Only the chat template writes
//! control tokens: inside a message, the text `<|im_end|>` is spelled with
//! ordinary tokens and ends nothing. A control token is any that the tokenizer
//! file marks as `special`, and any that looks like a mark of the format
//! (`<|...|>`) whatever the file says of it; tags that belong to the task, such
//! as `<answer>`, are to be added as not special, and stay single tokens
//! wherever they are written.

use crate::error::{Error, Result, guarded};
use crate::template::{CHATML, ChatTemplate, Piece};
use std::collections::{BTreeMap, BTreeSet};
use tokenizers::AddedToken;

/// One message of a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChatMessage {
    /// Who speaks: `system`, `user` or `assistant`.
    pub role: String,
    /// What is said; taken as text whatever it holds.
    pub content: String,
}

impl ChatMessage {
    /// A message of `role`.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Self {
            role: role.into(),
            content: content.into(),
        }
    }
}

/// What a tokenizer is tried with before it is believed.
const TRIAL: &str = "<|a|> b, 12 \u{e9}\n";

/// How many times longer a tokenizer's own replacements may make a text.
const MOST_SWELLING: usize = 1024;

/// The parts of a `tokenizer.json` that write text of their own.
#[derive(serde::Deserialize)]
struct Parts {
    normalizer: Option<serde_json::Value>,
    pre_tokenizer: Option<serde_json::Value>,
    decoder: Option<serde_json::Value>,
}

impl Parts {
    /// Refuses steps that make of one character a text without end.
    fn check(&self) -> Result<()> {
        let parts = [&self.normalizer, &self.pre_tokenizer, &self.decoder];
        match parts
            .into_iter()
            .flatten()
            .any(|part| swelling(part) > MOST_SWELLING)
        {
            true => Err(Error::Tokenizer(format!(
                "its replacements may make a text more than {MOST_SWELLING} times as long"
            ))),
            false => Ok(()),
        }
    }
}

/// How many times longer the replacements in a part may make a text, one after
/// another.
fn swelling(part: &serde_json::Value) -> usize {
    let within = |values: &mut dyn Iterator<Item = &serde_json::Value>| {
        values.map(swelling).fold(1, usize::saturating_mul)
    };
    match part {
        serde_json::Value::Object(keys) => {
            let written = ["content", "prepend"]
                .iter()
                .filter_map(|key| keys.get(*key));
            let longest = written
                .filter_map(|text| text.as_str())
                .map(|text| text.chars().count())
                .max();
            longest
                .unwrap_or(1)
                .max(1)
                .saturating_mul(within(&mut keys.values()))
        }
        serde_json::Value::Array(values) => within(&mut values.iter()),
        _ => 1,
    }
}

/// A tokenizer with a chat template.
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    template: ChatTemplate,
    control: BTreeSet<u32>,
    /// Control tokens by their spelling.
    spellings: Vec<(String, u32)>,
    /// What the template ends a message with.
    end: u32,
    /// All that end one, that among them.
    ends: BTreeSet<u32>,
}

impl Tokenizer {
    /// Reads a `tokenizer.json` that speaks ChatML: it must know
    /// `<|im_start|>` and `<|im_end|>`.
    ///
    /// # Errors
    /// It is not one, or lacks those tokens.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        Self::with_template(bytes, CHATML, BTreeMap::new())
    }

    /// Reads a `tokenizer.json` and a chat template in Jinja; `tokens` are what
    /// the template calls `bos_token` and the like.
    ///
    /// # Errors
    /// One of them is unreadable, or the template ends an assistant's message
    /// with nothing that is a control token of the tokenizer.
    pub(crate) fn with_template(
        bytes: &[u8],
        template: &str,
        tokens: BTreeMap<String, String>,
    ) -> Result<Self> {
        let not_one = |error: String| Error::Tokenizer(format!("not a tokenizer.json: {error}"));
        let parts: Parts = serde_json::from_slice(bytes).map_err(|why| not_one(why.to_string()))?;
        parts.check()?;
        // What it was last used for is no part of it: cut to a length, or filled up.
        let read = || {
            let mut inner = tokenizers::Tokenizer::from_bytes(bytes)?;
            inner.with_truncation(None)?;
            inner.with_padding(None);
            inner.encode(TRIAL, false)?;
            Ok::<_, tokenizers::Error>(inner)
        };
        let mut inner = guarded(read)
            .map_err(Error::Tokenizer)?
            .map_err(|error| not_one(error.to_string()))?;
        let is_mark = |text: &str| {
            (text.starts_with("<|") && text.ends_with("|>"))
                || tokens.values().any(|token| token == text)
        };
        // Whatever the file says of them, these are control tokens.
        let marks: Vec<AddedToken> = inner
            .get_added_tokens_decoder()
            .into_values()
            .filter(|token| !token.special && is_mark(&token.content))
            .map(|token| AddedToken {
                special: true,
                ..token
            })
            .collect();
        inner
            .add_special_tokens(marks)
            .map_err(|error| Error::Tokenizer(error.to_string()))?;
        inner.set_encode_special_tokens(true);
        let spellings: Vec<(String, u32)> = inner
            .get_added_tokens_decoder()
            .into_iter()
            .filter(|(_, token)| token.special && !token.content.is_empty())
            .map(|(id, token)| (token.content, id))
            .collect();
        let mut tokenizer = Self {
            control: spellings.iter().map(|&(_, id)| id).collect(),
            template: ChatTemplate::new(template, tokens)?,
            spellings,
            end: 0,
            ends: BTreeSet::new(),
            inner,
        };
        tokenizer.end = tokenizer.find_end()?;
        tokenizer.ends.insert(tokenizer.end);
        Ok(tokenizer)
    }

    /// With these tokens, too, ending a message: models are trained to say
    /// others than the one their template writes.
    pub(crate) fn with_ends(mut self, ends: impl IntoIterator<Item = u32>) -> Self {
        self.ends.extend(ends);
        self
    }

    /// The control token that the template writes after an assistant's message.
    fn find_end(&self) -> Result<u32> {
        let talk = [
            ChatMessage::new("user", "a"),
            ChatMessage::new("assistant", "b"),
        ];
        let pieces = self.template.pieces(&talk, false)?;
        for piece in &pieces {
            if let Piece::Format(text) = piece
                && let Some(mark) = self.unknown_mark(text)
            {
                return Err(Error::Tokenizer(format!(
                    "it does not know {mark}, which the chat template writes: they do not belong \
                     together"
                )));
            }
        }
        let Some(Piece::Format(after)) = pieces.last() else {
            return Err(Error::Template("it writes nothing".into()));
        };
        let after = after.trim_start();
        match self.control_at(after) {
            Some((_, end)) => Ok(end),
            None => {
                let shown: String = after.chars().take(40).collect();
                Err(Error::Tokenizer(format!(
                    "the chat template ends a message with {shown:?}, which is no control token \
                     of this tokenizer: they do not belong together"
                )))
            }
        }
    }

    /// A mark of the format that is no control token.
    fn unknown_mark<'a>(&self, text: &'a str) -> Option<&'a str> {
        text.match_indices("<|").find_map(|(start, _)| {
            let mark = &text[start..start + text[start..].find("|>")? + 2];
            let is_word = !mark.contains(char::is_whitespace);
            (is_word && self.control_at(mark).is_none()).then_some(mark)
        })
    }

    /// The longest control token that `text` begins with.
    fn control_at(&self, text: &str) -> Option<(&str, u32)> {
        self.spellings
            .iter()
            .filter(|(spelling, _)| text.starts_with(spelling.as_str()))
            .max_by_key(|(spelling, _)| spelling.len())
            .map(|(spelling, id)| (spelling.as_str(), *id))
    }

    /// One more than the highest token id.
    pub fn vocab_size(&self) -> usize {
        self.inner
            .get_vocab(true)
            .values()
            .max()
            .map_or(0, |&id| id as usize + 1)
    }

    /// The token that the template ends a message with; `<|im_end|>` in ChatML.
    pub fn eos(&self) -> u32 {
        self.end
    }

    /// Whether a token ends a message: the template's, or one that the
    /// checkpoint names besides.
    pub fn is_end(&self, token: u32) -> bool {
        self.ends.contains(&token)
    }

    /// Tokens that only the template may write.
    pub fn control_tokens(&self) -> &BTreeSet<u32> {
        &self.control
    }

    /// The tokens of `text`, none of which is a control token.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let encoding = self
            .inner
            .encode_fast(text, false)
            .map_err(|error| Error::Tokenizer(error.to_string()))?;
        let tokens = encoding.get_ids().to_vec();
        match tokens.iter().find(|token| self.control.contains(token)) {
            None => Ok(tokens),
            Some(token) => Err(Error::Tokenizer(format!(
                "text is spelled with control token {token}: the vocabulary is unsafe"
            ))),
        }
    }

    /// The text of `tokens`, control tokens spelled out.
    pub fn decode(&self, tokens: &[u32]) -> Result<String> {
        self.inner
            .decode(tokens, false)
            .map_err(|error| Error::Tokenizer(error.to_string()))
    }

    /// The tokens of a conversation and of the opening of the assistant's
    /// next message; in ChatML:
    ///
    /// ```text
    /// <|im_start|>user
    /// What is 2 + 2?<|im_end|>
    /// <|im_start|>assistant
    /// ```
    ///
    /// # Errors
    /// A role is no word, or the template refuses the conversation.
    pub fn prompt(&self, messages: &[ChatMessage]) -> Result<Vec<u32>> {
        for ChatMessage { role, .. } in messages {
            let plain = |c: char| c.is_ascii_lowercase() || c == '_';
            if role.is_empty() || !role.chars().all(plain) {
                return Err(Error::Input(format!("{role:?} is not a role")));
            }
        }
        let firsts: BTreeSet<u8> = self
            .spellings
            .iter()
            .map(|(text, _)| text.as_bytes()[0])
            .collect();
        let mut tokens = Vec::new();
        // What stands between two control tokens is encoded as one text,
        // whoever wrote which part of it.
        let mut plain = String::new();
        for piece in self.template.pieces(messages, true)? {
            let format = match piece {
                Piece::Content(content) => {
                    plain.push_str(&content);
                    continue;
                }
                Piece::Format(format) => format,
            };
            let mut rest = format.as_str();
            while let Some(c) = rest.chars().next() {
                let control = firsts
                    .contains(&rest.as_bytes()[0])
                    .then(|| self.control_at(rest))
                    .flatten();
                match control {
                    Some((spelling, id)) => {
                        tokens.extend(self.encode(&std::mem::take(&mut plain))?);
                        tokens.push(id);
                        rest = &rest[spelling.len()..];
                    }
                    None => {
                        plain.push(c);
                        rest = &rest[c.len_utf8()..];
                    }
                }
            }
        }
        tokens.extend(self.encode(&plain)?);
        Ok(tokens)
    }

    /// The tokens of a message that someone else wrote, as they would follow
    /// [`Tokenizer::prompt`]; with the end-of-message token if it `finished`.
    pub fn completion(&self, text: &str, finished: bool) -> Result<Vec<u32>> {
        let mut tokens = self.encode(text)?;
        if finished {
            tokens.push(self.end);
        }
        Ok(tokens)
    }
}
