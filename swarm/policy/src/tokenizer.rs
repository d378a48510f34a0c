//! Text to tokens and back, and the ChatML template.
//!
//! What a message says may come from a stranger. Only the template writes
//! control tokens: inside a message, the text `<|im_end|>` is spelled with
//! ordinary tokens and ends nothing. A control token is any that the
//! tokenizer file marks as `special`; tags that belong to the task, such as
//! `<answer>`, are to be added as not special, and stay single tokens
//! wherever they are written.

use crate::error::{Error, Result};
use std::collections::BTreeSet;
use tokenizers::AddedToken;

const START: &str = "<|im_start|>";
const END: &str = "<|im_end|>";

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

/// A tokenizer with a ChatML template.
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    control: BTreeSet<u32>,
    start: u32,
    end: u32,
}

impl Tokenizer {
    /// Reads a `tokenizer.json`. It must know `<|im_start|>` and `<|im_end|>`.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let mut inner = tokenizers::Tokenizer::from_bytes(bytes)
            .map_err(|error| Error::Tokenizer(format!("not a tokenizer.json: {error}")))?;
        for name in [START, END] {
            if inner.token_to_id(name).is_none() {
                return Err(Error::Tokenizer(format!("it does not know {name}")));
            }
        }
        // Whatever the file says of them, these two are control tokens.
        inner
            .add_special_tokens([AddedToken::from(START, true), AddedToken::from(END, true)])
            .map_err(|error| Error::Tokenizer(error.to_string()))?;
        inner.set_encode_special_tokens(true);
        let control: BTreeSet<u32> = inner
            .get_added_tokens_decoder()
            .into_iter()
            .filter_map(|(id, token)| token.special.then_some(id))
            .collect();
        let id = |name: &str| {
            inner
                .token_to_id(name)
                .ok_or_else(|| Error::Tokenizer(format!("it does not know {name}")))
        };
        Ok(Self {
            start: id(START)?,
            end: id(END)?,
            control,
            inner,
        })
    }

    /// One more than the highest token id.
    pub fn vocab_size(&self) -> usize {
        self.inner
            .get_vocab(true)
            .values()
            .max()
            .map_or(0, |&id| id as usize + 1)
    }

    /// The token that ends a message, `<|im_end|>`.
    pub fn eos(&self) -> u32 {
        self.end
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
    /// next message:
    ///
    /// ```text
    /// <|im_start|>user
    /// What is 2 + 2?<|im_end|>
    /// <|im_start|>assistant
    /// ```
    pub fn prompt(&self, messages: &[ChatMessage]) -> Result<Vec<u32>> {
        let newline = self.encode("\n")?;
        let mut tokens = Vec::new();
        for message in messages {
            let plain = |c: char| c.is_ascii_lowercase() || c == '_';
            if message.role.is_empty() || !message.role.chars().all(plain) {
                return Err(Error::Input(format!("{:?} is not a role", message.role)));
            }
            tokens.push(self.start);
            tokens.extend(self.encode(&format!("{}\n{}", message.role, message.content))?);
            tokens.push(self.end);
            tokens.extend(&newline);
        }
        tokens.push(self.start);
        tokens.extend(self.encode("assistant\n")?);
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
