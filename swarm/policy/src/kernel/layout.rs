//! Where the sequences of a piece lie: end to end, a shared prompt only once.

use super::Sequence;
use crate::config::Config;
use crate::rope::Rotary;
use std::ops::Range;

/// Tokens in a piece: its activations stay in the second-level cache, and a
/// training batch gives every thread several.
pub(crate) const PIECE_TOKENS: usize = 512;

/// A run of tokens that attend to each other and, whole, to a prefix.
pub(super) struct Span {
    /// Its first token.
    pub(super) start: usize,
    /// Its tokens.
    pub(super) length: usize,
    /// The tokens of the prompt that it continues, another span.
    pub(super) prefix: Range<usize>,
}

impl Span {
    /// Keys that its last token attends to.
    pub(super) fn keys(&self) -> usize {
        self.prefix.len() + self.length
    }
}

/// The tokens of a piece and what is to be predicted from them.
pub(super) struct Layout<'a> {
    pub(super) spans: Vec<Span>,
    /// All tokens, span after span.
    pub(super) tokens: Vec<u32>,
    /// Position of each token in its sequence.
    pub(super) positions: Vec<usize>,
    /// Which token's hidden state predicts, and what: sequence after sequence.
    pub(super) rows: Vec<(usize, u32)>,
    /// Which rows are a sequence's.
    pub(super) sequences: Vec<Range<usize>>,
    /// `[positions, head_width]`: cosines, then sines.
    pub(super) rotary: &'a [f32],
}

impl<'a> Layout<'a> {
    pub(super) fn new(sequences: &[Sequence], rotary: &'a [f32]) -> Self {
        let mut layout = Self {
            spans: Vec::new(),
            tokens: Vec::new(),
            positions: Vec::new(),
            rows: Vec::new(),
            sequences: Vec::new(),
            rotary,
        };
        for group in sequences.chunk_by(same_prompt) {
            let prompt = &group[0].tokens[..group[0].prompt];
            let prefix = match group.len() {
                1 => 0..0,
                _ => layout.push(prompt, 0..0),
            };
            for sequence in group {
                // The last token is predicted and predicts nothing.
                let inputs = sequence.tokens.len().saturating_sub(1).max(prefix.len());
                let own = layout.push(&sequence.tokens[prefix.len()..inputs], prefix.clone());
                let first = layout.rows.len();
                for position in sequence.prompt..sequence.tokens.len() {
                    let from = position - 1;
                    let row = match from.checked_sub(prefix.len()) {
                        Some(offset) => own.start + offset,
                        None => prefix.start + from,
                    };
                    layout.rows.push((row, sequence.tokens[position]));
                }
                layout.sequences.push(first..layout.rows.len());
            }
        }
        layout
    }

    fn push(&mut self, tokens: &[u32], prefix: Range<usize>) -> Range<usize> {
        let start = self.tokens.len();
        self.positions
            .extend(prefix.len()..prefix.len() + tokens.len());
        self.tokens.extend(tokens);
        if !tokens.is_empty() {
            self.spans.push(Span {
                start,
                length: tokens.len(),
                prefix,
            });
        }
        start..start + tokens.len()
    }
}

fn same_prompt(left: &Sequence, right: &Sequence) -> bool {
    left.tokens[..left.prompt] == right.tokens[..right.prompt]
}

/// Cuts at sequence borders, greedily; depends on the sequences alone.
pub(super) fn pieces(sequences: &[Sequence]) -> Vec<Range<usize>> {
    let mut pieces = Vec::new();
    let (mut start, mut tokens) = (0, 0);
    for (index, sequence) in sequences.iter().enumerate() {
        let shares = index > start && same_prompt(&sequences[index - 1], sequence);
        let added = match shares {
            true => sequence.predicted(),
            false => sequence.tokens.len(),
        };
        if index > start && tokens + added > PIECE_TOKENS {
            pieces.push(start..index);
            (start, tokens) = (index, sequence.tokens.len());
        } else {
            tokens += added;
        }
    }
    if start < sequences.len() {
        pieces.push(start..sequences.len());
    }
    pieces
}

/// `[positions, head_width]`: for each position its cosines, then its sines.
pub(super) fn rotary_table(config: &Config, sequences: &[Sequence]) -> Vec<f32> {
    let longest = sequences
        .iter()
        .map(|sequence| sequence.tokens.len())
        .max()
        .unwrap_or(0);
    let mut rotary = Rotary::new(config);
    rotary.reach(longest);
    let mut table = Vec::with_capacity(longest * config.head_dim());
    for position in 0..longest {
        let (cosines, sines) = rotary.at(position);
        table.extend(cosines);
        table.extend(sines);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sequence(tokens: &[u32], prompt: usize) -> Sequence {
        Sequence {
            tokens: tokens.to_vec(),
            prompt,
        }
    }

    #[test]
    fn neighbours_with_one_prompt_share_it() {
        let layout = Layout::new(
            &[
                sequence(&[1, 2, 3, 4], 2),
                sequence(&[1, 2, 5], 2),
                sequence(&[1, 2], 2),
                sequence(&[1, 3, 6], 2),
            ],
            &[],
        );
        assert_eq!(layout.tokens, [1, 2, 3, 1, 3]);
        assert_eq!(layout.positions, [0, 1, 2, 0, 1]);
        // Both first tokens are predicted from the shared prompt's last.
        assert_eq!(layout.rows, [(1, 3), (2, 4), (1, 5), (4, 6)]);
        assert_eq!(layout.sequences, [0..2, 2..3, 3..3, 3..4]);
        let spans: Vec<_> = layout
            .spans
            .iter()
            .map(|span| (span.start, span.length, span.prefix.clone()))
            .collect();
        assert_eq!(spans, [(0, 2, 0..0), (2, 1, 0..2), (3, 2, 0..0)]);
    }

    #[test]
    fn a_piece_is_full_when_what_is_computed_is() {
        let group: Vec<Sequence> = (0..100)
            .map(|member| sequence(&[vec![7; 300], vec![member; 50]].concat(), 300))
            .collect();
        // 300 + 4 * 50 fit into 512.
        let pieces = pieces(&group);
        assert_eq!(pieces.len(), 25);
        assert!(pieces.iter().all(|piece| piece.len() == 4));
        assert_eq!((pieces[0].start, pieces[24].end), (0, 100));
    }
}
