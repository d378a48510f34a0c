//! Batched sampling: many prompts, a group of completions of each.
//!
//! Each prompt is computed once and its keys and values are shared by its
//! group. Rows are independent: a row that ends leaves the batch at once and
//! one that waits takes its place. A draw is keyed by the request's seed, the
//! row's number in its group and the step, and the arithmetic of a row does
//! not depend on its neighbours, so a completion is a function of the
//! weights, the prompt and the seed, and of nothing else.

use crate::decoder::Decoder;
use crate::draw::{Choice, Drawer};
use crate::error::{Error, Result};
use crate::inference::{Inference, Row, Span};
use crate::tokenizer::{ChatMessage, Tokenizer};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

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
    /// Draw from the likeliest tokens that hold this share; one keeps all.
    pub top_p: f32,
}

/// What the policy answered.
#[derive(Debug, Clone, PartialEq)]
pub struct Completion {
    /// The text, without the end-of-message token.
    pub text: String,
    /// The tokens drawn; the last is the end-of-message token if `finished`.
    pub tokens: Vec<u32>,
    /// Whether the policy ended the message itself.
    pub finished: bool,
    /// Of each token, under the policy itself: neither tempered nor cut.
    pub log_probs: Vec<f32>,
}

/// Bounds on what sampling may use.
#[derive(Debug, Clone)]
pub struct SampleLimits {
    /// The most rows that are decoded together. For small models fewer are
    /// faster: past about 32 rows their keys and values no longer fit the cache.
    pub rows: usize,
    /// The most prompt tokens that are computed together.
    pub prefill: usize,
    /// Threads of a matrix product. One for small models, whose products are
    /// over before a second thread wakes up.
    pub threads: usize,
    /// Once true, sampling stops and returns what it has, unfinished.
    pub cancel: Option<Arc<AtomicBool>>,
}

impl Default for SampleLimits {
    fn default() -> Self {
        Self {
            rows: 32,
            prefill: 512,
            threads: 1,
            cancel: None,
        }
    }
}

/// Draws each request's group of completions, in the order of the requests.
///
/// A prompt may hold what strangers wrote, so one that is too long must not
/// cost the others theirs: a request whose prompt leaves no room in the
/// model's positions gets an empty group.
pub fn sample(
    decoder: &Decoder,
    tokenizer: &Tokenizer,
    requests: &[Request],
    limits: &SampleLimits,
) -> Result<Vec<Vec<Completion>>> {
    let mut prompts = Vec::with_capacity(requests.len());
    for request in requests {
        check(request)?;
        prompts.push(tokenizer.prompt(&request.messages)?);
    }
    let eos = tokenizer.eos();
    let drawn = sample_tokens(decoder, eos, &prompts, requests, limits)?;
    drawn
        .into_iter()
        .map(|group| {
            group
                .into_iter()
                .map(|Drawn { tokens, log_probs }| {
                    let finished = tokens.last() == Some(&eos);
                    let spoken = &tokens[..tokens.len() - usize::from(finished)];
                    Ok(Completion {
                        text: tokenizer.decode(spoken)?,
                        finished,
                        tokens,
                        log_probs,
                    })
                })
                .collect()
        })
        .collect()
}

fn check(request: &Request) -> Result<()> {
    let (temperature, top_p) = (request.temperature, request.top_p);
    if !(temperature.is_finite() && temperature >= 0.0) {
        return Err(Error::Input(format!(
            "temperature is {temperature}, expected 0 or more"
        )));
    }
    if !(top_p > 0.0 && top_p <= 1.0) {
        return Err(Error::Input(format!(
            "top_p is {top_p}, expected more than 0 and at most 1"
        )));
    }
    Ok(())
}

/// The tokens of one completion.
#[derive(Default, Clone)]
struct Drawn {
    tokens: Vec<u32>,
    log_probs: Vec<f32>,
}

/// A prompt whose group is being drawn.
struct Opened {
    span: usize,
    logits: Vec<f32>, // after the prompt's last token
    waiting: usize,   // rows of the group that have not ended
}

/// A row in the batch.
struct Active {
    request: usize,
    member: usize,
    span: usize,
    most: usize, // tokens it may have
}

fn sample_tokens(
    decoder: &Decoder,
    eos: u32,
    prompts: &[Vec<u32>],
    requests: &[Request],
    limits: &SampleLimits,
) -> Result<Vec<Vec<Drawn>>> {
    let config = decoder.config();
    for prompt in prompts {
        if let Some(token) = prompt
            .iter()
            .find(|&&token| token as usize >= config.vocab_size)
        {
            return Err(Error::Input(format!(
                "the tokenizer's token {token} is outside the model's vocabulary of {}",
                config.vocab_size
            )));
        }
    }
    let mut batch = Batch {
        inference: Inference::new(decoder, limits.threads)?,
        decoder,
        eos,
        prompts,
        requests,
        limits,
        drawn: prompts
            .iter()
            .zip(requests)
            .map(|(prompt, request)| {
                let fits = prompt.len() < config.max_position_embeddings;
                vec![Drawn::default(); if fits { request.group } else { 0 }]
            })
            .collect(),
        opened: requests.iter().map(|_| None).collect(),
        spans: Vec::new(),
        idle: Vec::new(),
        active: Vec::new(),
        drawer: Drawer::default(),
    };
    batch.run()?;
    Ok(batch.drawn)
}

struct Batch<'a> {
    inference: Inference,
    decoder: &'a Decoder,
    eos: u32,
    prompts: &'a [Vec<u32>],
    requests: &'a [Request],
    limits: &'a SampleLimits,
    drawn: Vec<Vec<Drawn>>,
    opened: Vec<Option<Opened>>,
    spans: Vec<Span>,
    idle: Vec<usize>, // spans that nobody uses
    active: Vec<Active>,
    drawer: Drawer,
}

impl Batch<'_> {
    fn run(&mut self) -> Result<()> {
        let mut queue: VecDeque<(usize, usize)> = self
            .drawn
            .iter()
            .enumerate()
            .filter(|&(index, _)| self.requests[index].max_tokens > 0)
            .flat_map(|(index, group)| (0..group.len()).map(move |member| (index, member)))
            .collect();
        let (mut rows, mut indices, mut logits) = (Vec::new(), Vec::new(), Vec::new());
        loop {
            let cancelled = |flag: &Arc<AtomicBool>| flag.load(Ordering::Relaxed);
            if self.limits.cancel.as_ref().is_some_and(cancelled) {
                return Ok(());
            }
            self.admit(&mut queue)?;
            if self.active.is_empty() {
                if queue.is_empty() {
                    return Ok(());
                }
                continue; // everyone admitted ended with their first token
            }
            rows.clear();
            for row in &self.active {
                let tokens = &self.drawn[row.request][row.member].tokens;
                rows.push(Row {
                    token: tokens[tokens.len() - 1],
                    position: self.prompts[row.request].len() + tokens.len() - 1,
                    span: row.span,
                    prefix: self.opened[row.request].as_ref().map(|opened| opened.span),
                });
            }
            self.inference.forward(&rows, &mut self.spans);
            indices.clear();
            indices.extend(0..rows.len());
            self.inference.logits(&indices, &mut logits);
            let vocab = self.decoder.config().vocab_size;
            // Backwards, so that a row that leaves moves only rows already drawn.
            for index in (0..self.active.len()).rev() {
                let row = &self.active[index];
                let (request, member, most) = (row.request, row.member, row.most);
                if self.draw(request, member, most, &logits[index * vocab..][..vocab])? {
                    let row = self.active.swap_remove(index);
                    self.idle.push(row.span);
                    self.leave(request);
                }
            }
        }
    }

    /// Fills the batch from the queue, computing the prompts it needs.
    fn admit(&mut self, queue: &mut VecDeque<(usize, usize)>) -> Result<()> {
        let room = self.limits.rows.max(1).saturating_sub(self.active.len());
        let admitted: Vec<_> = queue.drain(..room.min(queue.len())).collect();
        let mut fresh: Vec<usize> = admitted
            .iter()
            .map(|&(request, _)| request)
            .filter(|&request| self.opened[request].is_none())
            .collect();
        fresh.dedup();
        self.open(&fresh);
        let config = self.decoder.config();
        for (request, member) in admitted {
            let prompt = self.prompts[request].len();
            // A completion's last token needs no position: nothing follows it.
            let most = self.requests[request]
                .max_tokens
                .min(config.max_position_embeddings - prompt + 1);
            let opened = self.opened[request]
                .as_mut()
                .expect("its prompt was just opened");
            let logits = std::mem::take(&mut opened.logits);
            let ended = self.draw(request, member, most, &logits)?;
            if let Some(opened) = &mut self.opened[request] {
                opened.logits = logits;
            }
            if ended {
                self.leave(request);
            } else {
                let span = self.span(prompt, most - 1);
                self.active.push(Active {
                    request,
                    member,
                    span,
                    most,
                });
            }
        }
        Ok(())
    }

    /// Computes prompts, many at a time.
    fn open(&mut self, requests: &[usize]) {
        let (mut rows, mut last) = (Vec::new(), Vec::new());
        for &request in requests {
            let prompt = &self.prompts[request];
            let span = self.span(0, prompt.len());
            rows.extend(prompt.iter().enumerate().map(|(position, &token)| Row {
                token,
                position,
                span,
                prefix: None,
            }));
            last.push((request, rows.len() - 1));
            let waiting = self.requests[request].group;
            self.opened[request] = Some(Opened {
                span,
                logits: Vec::new(),
                waiting,
            });
        }
        let size = self.limits.prefill.max(1);
        let mut last = last.into_iter().peekable();
        for (index, chunk) in rows.chunks(size).enumerate() {
            self.inference.forward(chunk, &mut self.spans);
            while let Some((request, row)) = last.next_if(|&(_, row)| row < (index + 1) * size) {
                let opened = self.opened[request].as_mut().expect("opened above");
                self.inference
                    .logits(&[row - index * size], &mut opened.logits);
            }
        }
    }

    /// An empty span for positions from `first`, reused if one is large enough.
    fn span(&mut self, first: usize, capacity: usize) -> usize {
        let fits = |&index: &usize| self.spans[index].capacity() >= capacity;
        let idle = self
            .idle
            .iter()
            .copied()
            .filter(fits)
            .min_by_key(|&index| self.spans[index].capacity());
        if let Some(index) = idle {
            self.idle.retain(|&other| other != index);
            self.spans[index].restart(first);
            return index;
        }
        self.spans
            .push(Span::new(self.decoder.config(), first, capacity));
        self.spans.len() - 1
    }

    /// Draws a row's next token. Returns whether the row has ended.
    fn draw(&mut self, request: usize, member: usize, most: usize, logits: &[f32]) -> Result<bool> {
        let asked = &self.requests[request];
        let drawn = &mut self.drawn[request][member];
        let choice = Choice {
            temperature: asked.temperature,
            top_p: asked.top_p,
        };
        let key = [asked.seed, member as u64, drawn.tokens.len() as u64];
        let Some((token, log_prob)) = self.drawer.draw(logits, choice, &key) else {
            return Err(Error::Weights("the model's logits are not finite".into()));
        };
        drawn.tokens.push(token);
        drawn.log_probs.push(log_prob);
        Ok(token == self.eos || drawn.tokens.len() >= most)
    }

    /// Counts a row of a group as ended; the last one frees the prompt.
    fn leave(&mut self, request: usize) {
        let Some(opened) = &mut self.opened[request] else {
            return;
        };
        opened.waiting -= 1;
        if opened.waiting == 0 {
            self.idle.push(opened.span);
            self.opened[request] = None;
        }
    }
}
