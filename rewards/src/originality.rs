//! Whose text is a later copy of somebody else's.
//!
//! Only for long text in judged environments. Two honest peers both answer
//! 42 to a sum: an exact answer cannot be told from a copy of it, its reward
//! comes from the verifier, and copying it is kept from paying by seeds that
//! differ from peer to peer and answers that are committed before they are
//! revealed. So exact environments are left alone.
//!
//! A copy needs an order, and clocks of peers are no order: only the ranks
//! that the inclusion set fixes are used ([`Included::arrival`]). Without a
//! rank, or with the same rank, nobody is a copy of anybody. The earlier text
//! is never touched.
//!
//! [`Included::arrival`]: crate::Included::arrival

use std::collections::BTreeMap;

/// A text that may be a copy: when it came, and what it is about.
#[derive(Clone, Copy, Debug)]
pub struct Text<'a, I> {
    /// The rank at which its owner's answers arrived, lower first.
    pub rank: Option<u32>,
    /// What it is about; texts about different things are never compared.
    pub item: I,
    /// The text.
    pub text: &'a str,
}

/// For each text, whether it equals, up to white space, one on the same item
/// of lower rank. Texts under `least` characters never do, and a peer's own
/// repetition, of equal rank, is no copy.
#[must_use]
pub fn later_copies<I: Ord + Copy>(texts: &[Text<'_, I>], least: u32) -> Vec<bool> {
    let ranked: Vec<Option<(u32, String)>> = texts
        .iter()
        .map(|text| text.rank.zip(long(text.text, least)))
        .collect();
    let mut first: BTreeMap<(I, &str), u32> = BTreeMap::new();
    for (text, ranked) in texts.iter().zip(&ranked) {
        if let Some((rank, normal)) = ranked {
            let earliest = first.entry((text.item, normal)).or_insert(*rank);
            *earliest = (*earliest).min(*rank);
        }
    }
    texts
        .iter()
        .zip(&ranked)
        .map(|(text, ranked)| {
            ranked.as_ref().is_some_and(|(rank, normal)| {
                first
                    .get(&(text.item, normal.as_str()))
                    .is_some_and(|earliest| earliest < rank)
            })
        })
        .collect()
}

/// The text with each run of white space as one space, if it is long enough.
fn long(text: &str, least: u32) -> Option<String> {
    let mut normal = String::with_capacity(text.len());
    for word in text.split_whitespace() {
        if !normal.is_empty() {
            normal.push(' ');
        }
        normal.push_str(word);
    }
    (normal.chars().count() as u64 >= u64::from(least)).then_some(normal)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(rank: Option<u32>, item: u8, text: &str) -> Text<'_, u8> {
        Text { rank, item, text }
    }

    #[test]
    fn only_the_later_of_two_equal_texts_is_a_copy() {
        let texts = [
            text(Some(1), 0, "the  same\nlong text"),
            text(Some(0), 0, "the same long text "),
            text(Some(2), 0, "another long text"),
            text(Some(3), 1, "the same long text"),
        ];
        assert_eq!(later_copies(&texts, 8), [true, false, false, false]);
    }

    #[test]
    fn short_unranked_and_tied_texts_are_no_copies() {
        let copies = |texts: &[Text<'_, u8>]| later_copies(texts, 8).contains(&true);
        let long = "a text that is long enough";
        assert!(!copies(&[text(Some(0), 0, "42"), text(Some(1), 0, "42")]));
        assert!(!copies(&[text(Some(0), 0, long), text(None, 0, long)]));
        assert!(!copies(&[text(Some(0), 0, long), text(Some(0), 0, long)]));
        assert!(copies(&[text(Some(0), 0, long), text(Some(1), 0, long)]));
    }
}
