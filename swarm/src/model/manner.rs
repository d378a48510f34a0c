//! How a model is spoken to: one that was taught the tasks' format, as the
//! embedded one was, gets the bare question; any other is told, and shown.

use anyhow::{Result, bail};
use policy::{ChatMessage, Pretrained, Tokenizer};
use tasks::SPECIAL_TOKENS;
use tasks::dialogue::{EXAMPLES, INSTRUCTIONS, Message, Role};

/// The longest completion of a model that was made for the tasks, in tokens.
const BASE_TOKENS: usize = 64;
/// A token of a model that comes trained is seldom shorter, in bytes of English.
const BYTES_PER_TOKEN: usize = 2;
/// The longest completion of any, in tokens.
const MOST_TOKENS: usize = 512;

/// How a model is spoken to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manner {
    is_told: bool,
    max_tokens: usize,
}

impl Manner {
    /// As a model that was made for the tasks.
    pub fn taught() -> Self {
        Self {
            is_told: false,
            max_tokens: BASE_TOKENS,
        }
    }

    /// As a model that never saw the tasks: told of the tags, shown how they are
    /// used, and left room for words where completions have at most so many bytes.
    pub fn instructed(completion_bytes: u32) -> Self {
        Self {
            is_told: true,
            max_tokens: (completion_bytes as usize / BYTES_PER_TOKEN)
                .clamp(BASE_TOKENS, MOST_TOKENS),
        }
    }

    /// The longest completion, in tokens.
    pub fn max_tokens(&self) -> usize {
        self.max_tokens
    }

    /// Chat messages as the policy takes them.
    pub fn chat(&self, messages: &[Message]) -> Vec<ChatMessage> {
        let mut chat = if self.is_told { opening() } else { Vec::new() };
        chat.extend(self.said(messages));
        chat
    }

    /// What is said later in a conversation that [`chat`](Self::chat) began.
    pub fn said(&self, messages: &[Message]) -> Vec<ChatMessage> {
        messages
            .iter()
            .map(|message| ChatMessage::new(message.role.as_str(), message.content.clone()))
            .collect()
    }
}

/// What comes before the first question to a model that was not taught.
fn opening() -> Vec<ChatMessage> {
    let mut opening = vec![ChatMessage::new(Role::System.as_str(), INSTRUCTIONS)];
    for (asked, answer) in EXAMPLES {
        opening.push(ChatMessage::new(Role::User.as_str(), asked));
        opening.push(ChatMessage::new(Role::Assistant.as_str(), answer));
    }
    opening
}

/// Whether a tokenizer has every tag of the tasks as a token: who made it so
/// taught the model what they mean.
pub(super) fn knows_tags(tokenizer: &Tokenizer) -> Result<bool> {
    for tag in SPECIAL_TOKENS {
        if tokenizer.encode(tag)?.len() != 1 {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Refuses a model whose context has no room for instructions, what peers
/// wrote, and an answer.
pub(super) fn check(model: &Pretrained) -> Result<()> {
    let told = model.tokenizer().prompt(&opening())?.len();
    let (needed, context) = (
        told + 2 * BASE_TOKENS,
        model.config().max_position_embeddings,
    );
    if context >= needed {
        return Ok(());
    }
    bail!(
        "the tasks' instructions and an answer take {needed} tokens, and the model sees {context}: \
         take one with a longer context"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_model_that_does_not_know_the_format_is_told() {
        let asked = [Message {
            role: Role::User,
            content: "add 1+2".into(),
        }];
        let plain = vec![ChatMessage::new("user", "add 1+2")];
        assert_eq!(Manner::taught().chat(&asked), plain);
        let told = Manner::instructed(512).chat(&asked);
        let roles: Vec<&str> = told.iter().map(|message| message.role.as_str()).collect();
        let shown = ["user", "assistant"].repeat(EXAMPLES.len());
        assert_eq!(roles, [&["system"], &shown[..], &["user"]].concat());
        assert_eq!(told.last(), plain.last());
        assert_eq!(Manner::instructed(512).max_tokens(), 256);
        assert_eq!(Manner::instructed(65_536).max_tokens(), MOST_TOKENS);
    }
}
