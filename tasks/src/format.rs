//! The gate every completion passes: tags, each once, in order, and nothing
//! outside them.

use std::borrow::Cow;

/// The tags that carry meaning. A tokenizer makes each a single token.
pub const SPECIAL_TOKENS: [&str; 6] = [
    "<think>",
    "</think>",
    "<answer>",
    "</answer>",
    "<verdict>",
    "</verdict>",
];

/// The marks of the chat format, which no completion may contain as text.
pub const CHAT_TOKENS: [&str; 3] = ["<|im_start|>", "<|im_end|>", "<|endoftext|>"];

/// How text is cut before a tokenizer merges anything (after the special
/// tokens): words of small letters, with the space before them, hold together;
/// every other character stands alone. Digits, capitals and signs are the
/// elements that traces align, so none of them may ever be merged.
pub const TOKEN_PATTERN: &str = " ?[a-z]+|[^a-z]";

/// The longest candidate that is reported from an ill-formed text, in characters.
const CANDIDATE_CHARS: usize = 64;

/// What stands between the tags of a well-formed text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tagged<'a> {
    /// The steps, where there are any.
    pub(crate) think: Option<&'a str>,
    /// The content of the last pair of tags, trimmed, never empty.
    pub(crate) body: &'a str,
}

/// Why a text is not well-formed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Malformed {
    /// For people.
    pub(crate) why: Cow<'static, str>,
    /// Whether nothing was answered, as opposed to answered badly.
    pub(crate) missing: bool,
    /// What would have been the body, where there is one candidate only.
    pub(crate) candidate: Option<String>,
}

/// Which pair of tags holds the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tag {
    /// `<answer>`
    Answer,
    /// `<verdict>`
    Verdict,
}

impl Tag {
    fn pair(self) -> (&'static str, &'static str) {
        match self {
            Tag::Answer => ("<answer>", "</answer>"),
            Tag::Verdict => ("<verdict>", "</verdict>"),
        }
    }

    /// As people call it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Tag::Answer => "answer",
            Tag::Verdict => "verdict",
        }
    }
}

/// A special token, and where in a text it begins.
type Mark = (usize, &'static str);

/// Every special token in the text, with its place.
fn marks(text: &str) -> impl Iterator<Item = Mark> {
    text.match_indices('<').filter_map(|(at, _)| {
        SPECIAL_TOKENS
            .iter()
            .chain(&CHAT_TOKENS)
            .find(|token| text[at..].starts_with(**token))
            .map(|token| (at, *token))
    })
}

/// Reads `[<think>…</think>]<tag>…</tag>`, with white space allowed around
/// each element and nothing else outside them.
pub(crate) fn parse(text: &str, tag: Tag) -> Result<Tagged<'_>, Malformed> {
    let (open, close) = tag.pair();
    // One more than a well-formed text has; the rest are looked at only to say
    // what is wrong with it.
    let mut first: [Mark; 5] = [(0, ""); 5];
    let mut count = 0;
    for (place, mark) in first.iter_mut().zip(marks(text)) {
        *place = mark;
        count += 1;
    }
    let first = &first[..count];
    let is = |tokens: &[&str]| first.iter().map(|(_, token)| token).eq(tokens);
    let name = tag.name();
    let refuse = |why: Cow<'static, str>, missing: bool| Malformed {
        why,
        missing,
        candidate: candidate(text, &marks(text).collect::<Vec<_>>(), open, close),
    };
    let after = |mark: Mark| mark.0 + mark.1.len();
    let between = |from: usize, to: usize| &text[after(first[from])..first[to].0];
    let (pair, think) = if is(&[open, close]) {
        (0, None)
    } else if is(&["<think>", "</think>", open, close]) {
        if !between(1, 2).trim().is_empty() {
            let why = format!("text between the steps and the {name}");
            return Err(refuse(why.into(), false));
        }
        (2, Some(between(0, 1)))
    } else if !marks(text).any(|(_, token)| token == open) {
        return Err(refuse(format!("no {open} tag").into(), true));
    } else {
        let found: Vec<&str> = marks(text).map(|(_, token)| token).collect();
        let why = format!("tags out of place: {}", list(&found));
        return Err(refuse(why.into(), false));
    };
    if !text[..first[0].0].trim().is_empty() {
        return Err(refuse("text before the first tag".into(), false));
    }
    if !text[after(first[pair + 1])..].trim().is_empty() {
        return Err(refuse(format!("text after the {name}").into(), false));
    }
    let body = between(pair, pair + 1).trim();
    if body.is_empty() {
        return Err(refuse(format!("the {name} is empty").into(), true));
    }
    Ok(Tagged { think, body })
}

/// The tags found, shortened where somebody stuffed them.
fn list(found: &[&str]) -> String {
    const SHOWN: usize = 6;
    let mut text = found[..found.len().min(SHOWN)].join(" ");
    if found.len() > SHOWN {
        text.push_str(&format!(" and {} more", found.len() - SHOWN));
    }
    text
}

/// The content of the only pair of these tags, if they are next to each other.
fn candidate(text: &str, marks: &[Mark], open: &str, close: &str) -> Option<String> {
    let places = |token: &str| -> Vec<usize> {
        (0..marks.len())
            .filter(|&index| marks[index].1 == token)
            .collect()
    };
    let (opened, closed) = (places(open), places(close));
    if opened.len() != 1 || closed.len() != 1 || opened[0] + 1 != closed[0] {
        return None;
    }
    let body = text[marks[opened[0]].0 + open.len()..marks[closed[0]].0].trim();
    let short = body.chars().take(CANDIDATE_CHARS).collect::<String>();
    (!short.is_empty()).then(|| printable(&short))
}

/// The text with everything that could steer a terminal replaced: control
/// characters, marks of direction, characters of no width. A line break becomes
/// a space, so that an answer of several lines is still that answer.
pub(crate) fn printable(text: &str) -> String {
    if text.bytes().all(|byte| matches!(byte, b' '..=b'~' | b'\n')) {
        return text.replace('\n', " ");
    }
    text.chars()
        .map(|c| match c {
            '\n' => ' ',
            c if steers(c) => '_',
            c => c,
        })
        .collect()
}

fn steers(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{00ad}' | '\u{061c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}'
            | '\u{fff0}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn why(text: &str) -> String {
        parse(text, Tag::Answer).unwrap_err().why.into_owned()
    }

    #[test]
    fn the_two_shapes_are_read() {
        let direct = parse(" <answer> 7 </answer>\n", Tag::Answer).unwrap();
        assert_eq!((direct.think, direct.body), (None, "7"));
        let text = "<think>1 < 2</think> <answer>7</answer>";
        let think = parse(text, Tag::Answer).unwrap();
        assert_eq!((think.think, think.body), (Some("1 < 2"), "7"));
    }

    #[test]
    fn everything_else_is_refused_with_a_reason() {
        assert_eq!(why(""), "no <answer> tag");
        assert_eq!(why("7"), "no <answer> tag");
        assert_eq!(why("<answer> </answer>"), "the answer is empty");
        assert_eq!(why("so <answer>7</answer>"), "text before the first tag");
        assert_eq!(why("<answer>7</answer>."), "text after the answer");
        assert_eq!(
            why("<think>a</think>b<answer>7</answer>"),
            "text between the steps and the answer"
        );
        for text in [
            "<answer>7",
            "</answer><answer>",
            "<answer>7</answer><answer>7</answer>",
            "<answer>7</answer><think>a</think>",
            "<think><answer>7</answer></think>",
            "<answer>7<|im_end|></answer>",
            "<answer>7</answer><verdict>right</verdict>",
        ] {
            assert!(why(text).starts_with("tags out of place"), "{text}");
        }
        assert!(why(&"<answer>".repeat(400)).len() < 100);
    }

    #[test]
    fn a_single_candidate_is_reported_and_made_printable() {
        let refused = parse("so <answer>\u{1b}[2J7</answer>", Tag::Answer).unwrap_err();
        assert_eq!(refused.candidate.as_deref(), Some("_[2J7"));
        let twice = "<answer>7</answer><answer>7</answer>";
        assert_eq!(parse(twice, Tag::Answer).unwrap_err().candidate, None);
    }
}
