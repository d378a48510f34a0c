//! What can be asked of sampling, and what it answers.
//!
//! A completion is a function of the weights, the prompt, the seed and its
//! number in its group, and of nothing else: not of what is drawn beside it,
//! of when it was admitted, or of threads; nor of the machine's vectors, but for
//! prompts of large models ([`SampleLimits::prompts`]).

use crate::config::Config;
use crate::decoder::Decoder;
use crate::error::{Error, Result};
use crate::inference::Inference;
use crate::kernel::Precision;
use crate::rows::{Batch, Drawn};
use crate::storage::with_weights;
use crate::tokenizer::{ChatMessage, Tokenizer};
use std::time::Instant;

/// A prompt, and how to complete it.
#[derive(Debug, Clone)]
pub struct Request {
    /// The conversation so far.
    pub messages: Vec<ChatMessage>,
    /// How many completions to draw.
    pub group: usize,
    /// Names the draws: the same seed and weights give the same completions.
    pub seed: u64,
    /// The most tokens of one completion; less if the model's positions end.
    pub max_tokens: usize,
    /// Divides the logits; zero takes the likeliest token.
    pub temperature: f32,
    /// Draw from so many of the likeliest tokens; none keeps all.
    pub top_k: Option<usize>,
    /// Of those, draw from the likeliest that hold this share; one keeps all.
    pub top_p: f32,
    /// Texts that end a completion once it holds one of them.
    pub stop: Vec<String>,
}

impl Default for Request {
    /// One completion of nothing, of at most 256 tokens, at temperature one.
    fn default() -> Self {
        Self {
            messages: Vec::new(),
            group: 1,
            seed: 0,
            max_tokens: 256,
            temperature: 1.0,
            top_k: None,
            top_p: 1.0,
            stop: Vec::new(),
        }
    }
}

/// What the policy answered.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Completion {
    /// The text, without the end-of-message token. It is the text of the
    /// tokens, so a stop text at its end is part of it.
    pub text: String,
    /// The tokens drawn; the last is one that ends a message if `finished`.
    pub tokens: Vec<u32>,
    /// Whether the policy ended the message itself; not so if a stop text did.
    pub finished: bool,
    /// Of each token, under the policy itself: neither tempered nor cut.
    pub log_probs: Vec<f32>,
}

/// Bounds on what sampling may use.
#[derive(Debug, Clone)]
pub struct SampleLimits {
    /// The most rows that are decoded together. For models that fit the cache
    /// fewer are faster: past about 32 their keys and values no longer fit it.
    pub rows: usize,
    /// The most prompt tokens that are computed together.
    pub prefill: usize,
    /// What the rows of prompts are rounded to in products with matrices that
    /// are kept in bf16, with which they are then twice as fast; when not said,
    /// bf16 in models of ten million weights or more, where the machine has
    /// AVX512-BF16. Completions are drawn by products in f32 in any case.
    pub prompts: Option<Precision>,
    /// The most bytes of keys and values. Rows that would need more wait until
    /// others end; one row is drawn whatever it needs.
    pub cache: usize,
    /// The most threads of the current rayon pool; zero is all of them. What
    /// is too small to gain from a second thread uses one.
    pub threads: usize,
    /// When sampling stops. Groups that are not whole by then are empty, and one
    /// that would not be whole, by what was seen so far, is not begun.
    pub until: Option<Instant>,
}

impl Default for SampleLimits {
    fn default() -> Self {
        Self {
            rows: 32,
            prefill: 512,
            prompts: None,
            cache: 1 << 30,
            threads: 0,
            until: None,
        }
    }
}

impl SampleLimits {
    /// What prompts are rounded to.
    pub(crate) fn precision(&self, config: &Config) -> Precision {
        self.prompts
            .unwrap_or(Precision::usual(config.parameters()))
    }
}

/// Draws each request's group of completions, in the order of the requests.
///
/// A prompt may hold what strangers wrote, so one that is too long must not
/// cost the others theirs: a request whose prompt leaves no room in the
/// model's positions gets an empty group, as does one that time is over for.
///
/// # Errors
/// A request that can't be met, or logits that are not finite.
pub fn sample(
    decoder: &Decoder,
    tokenizer: &Tokenizer,
    requests: &[Request],
    limits: &SampleLimits,
) -> Result<Vec<Vec<Completion>>> {
    for request in requests {
        check(request)?;
    }
    let mut groups = vec![Vec::new(); requests.len()];
    let mut waiting = requests.iter().cloned();
    let next = || waiting.next();
    let done = |index: usize, group| groups[index] = group;
    sample_as_it_comes(decoder, tokenizer, limits, next, done)?;
    Ok(groups)
}

/// Draws requests as they come and gives each group away as it ends.
///
/// Whenever there is room, `next` is asked for a request; it joins those that
/// are being drawn. When it has none and nothing is being drawn any more, or
/// once time is over, this returns. `done` gets each whole group with the
/// number of its request, counted from zero in the order they came.
///
/// # Errors
/// As [`sample`]. Groups that were not yet given away are lost.
pub fn sample_as_it_comes(
    decoder: &Decoder,
    tokenizer: &Tokenizer,
    limits: &SampleLimits,
    mut next: impl FnMut() -> Option<Request> + Send,
    mut done: impl FnMut(usize, Vec<Completion>) + Send,
) -> Result<()> {
    let threads = match limits.threads {
        0 => rayon::current_num_threads(),
        threads => threads.min(rayon::current_num_threads()),
    };
    // Work inside the pool hands its parts on faster than from outside; work
    // of one thread stays where it is.
    let shared = threads > 1 && decoder.config().parameters() > SHARED_PARAMETERS;
    let mut run = || {
        with_weights(decoder, |weights| {
            let inference = Inference::new(decoder.config(), weights, threads)?;
            let mut batch = Batch::new(inference, decoder.config(), tokenizer, limits);
            batch.run(
                &mut || next().map(|request| check(&request).map(|()| request)),
                &mut |index, group| {
                    let group = group
                        .into_iter()
                        .map(|Drawn { tokens, log_probs }| {
                            let finished =
                                tokens.last().is_some_and(|&last| tokenizer.is_end(last));
                            let spoken = &tokens[..tokens.len() - usize::from(finished)];
                            Ok(Completion {
                                text: tokenizer.decode(spoken)?,
                                finished,
                                tokens,
                                log_probs,
                            })
                        })
                        .collect::<Result<_>>()?;
                    done(index, group);
                    Ok(())
                },
            )
        })
    };
    match shared {
        true => rayon::scope(|_| run()),
        false => run(),
    }
}

/// Models of fewer weights have no product that is worth a second thread.
const SHARED_PARAMETERS: u64 = 4_000_000;

fn check(request: &Request) -> Result<()> {
    let (temperature, top_p) = (request.temperature, request.top_p);
    if !(temperature.is_finite() && temperature >= 0.0) {
        return Err(Error::Input(format!(
            "temperature is {temperature}, expected 0 or more"
        )));
    }
    if request.top_k == Some(0) {
        return Err(Error::Input("top_k is 0, expected 1 or more".into()));
    }
    if !(top_p > 0.0 && top_p <= 1.0) {
        return Err(Error::Input(format!(
            "top_p is {top_p}, expected more than 0 and at most 1"
        )));
    }
    if request.stop.iter().any(String::is_empty) {
        return Err(Error::Input(
            "a stop text is empty: it would end every completion".into(),
        ));
    }
    Ok(())
}
