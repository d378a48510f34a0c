//! The rows that are drawn together: admitted, stepped, ended.
//!
//! Each prompt is computed once and its keys and values are shared by its
//! group. A row that ends leaves the batch at once, and one that waits takes
//! its place, of the same group, of the next, or of a request that has only
//! just come. Rows know nothing of each other.

use crate::attention::{Row, Span};
use crate::config::Config;
use crate::draw::{Choice, Drawer};
use crate::error::{Error, Result};
use crate::inference::Inference;
use crate::kernel::Precision;
use crate::pace::{Candidate, Pace};
use crate::sample::{Request, SampleLimits};
use crate::tokenizer::Tokenizer;
use rayon::prelude::*;
use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

/// The tokens of one completion.
#[derive(Default, Clone)]
pub(crate) struct Drawn {
    pub(crate) tokens: Vec<u32>,
    pub(crate) log_probs: Vec<f32>,
}

/// A request that is being drawn.
struct Group {
    request: Request,
    prompt: Vec<u32>,
    drawn: Vec<Drawn>,
    ended: usize,
    opened: Option<Opened>,
}

/// A prompt that was computed.
struct Opened {
    span: usize,
    logits: Vec<f32>, // after the prompt's last token
}

/// A row in the batch.
struct Active {
    group: usize,
    member: usize,
    span: usize,
}

/// Logits of fewer numbers are drawn from by one thread.
const SHARED_LOGITS: usize = 1 << 17;

/// Tokens in which a stop text of `n` bytes is looked for: `n` and a few more,
/// since the text may begin in the middle of a token's.
const STOP_MARGIN: usize = 4;

pub(crate) struct Batch<'a> {
    inference: Inference<'a>,
    config: &'a Config,
    tokenizer: &'a Tokenizer,
    limits: &'a SampleLimits,
    groups: BTreeMap<usize, Group>, // by the number of their request
    came: usize,                    // requests
    pace: Option<Pace>,             // where there is an end to the time
    held_back: Option<Group>,       // the last that came, until there is time for it
    waiting: VecDeque<(usize, usize)>, // members of groups, not yet in the batch
    active: Vec<Active>,
    spans: Vec<Span>,
    idle: Vec<usize>,   // spans that nobody uses
    vacant: Vec<usize>, // places of spans that were freed
    held: usize,        // bytes of spans
    drawer: Drawer,
}

/// A source of requests, and where groups go.
type Next<'a> = &'a mut dyn FnMut() -> Option<Result<Request>>;
type Done<'a> = &'a mut dyn FnMut(usize, Vec<Drawn>) -> Result<()>;

impl<'a> Batch<'a> {
    pub(crate) fn new(
        inference: Inference<'a>,
        config: &'a Config,
        tokenizer: &'a Tokenizer,
        limits: &'a SampleLimits,
    ) -> Self {
        Self {
            inference,
            config,
            tokenizer,
            limits,
            groups: BTreeMap::new(),
            came: 0,
            pace: limits.until.map(Pace::new),
            held_back: None,
            waiting: VecDeque::new(),
            active: Vec::new(),
            spans: Vec::new(),
            idle: Vec::new(),
            vacant: Vec::new(),
            held: 0,
            drawer: Drawer::default(),
        }
    }

    /// Draws until nothing comes and nothing is left.
    pub(crate) fn run(&mut self, next: Next<'_>, done: Done<'_>) -> Result<()> {
        let (mut rows, mut logits) = (Vec::new(), Vec::new());
        loop {
            let over = |pace: &Pace| pace.is_over(Instant::now());
            if self.pace.as_ref().is_some_and(over) {
                return Ok(());
            }
            let admitted = self.admit(next, done)?;
            if self.active.is_empty() {
                if admitted {
                    continue; // everyone admitted ended with their first token
                }
                return Ok(());
            }
            rows.clear();
            for row in &self.active {
                let group = &self.groups[&row.group];
                let tokens = &group.drawn[row.member].tokens;
                rows.push(Row {
                    token: tokens[tokens.len() - 1],
                    position: group.prompt.len() + tokens.len() - 1,
                    span: row.span,
                    prefix: group.opened.as_ref().map(|opened| opened.span),
                });
            }
            let began = Instant::now();
            self.inference
                .forward(&rows, &mut self.spans, Precision::F32);
            let indices: Vec<usize> = (0..rows.len()).collect();
            self.inference.logits(&indices, &mut logits);
            self.step(&logits, done)?;
            if let Some(pace) = &mut self.pace {
                pace.stepped(rows.len(), began.elapsed());
            }
        }
    }

    /// Draws each row's next token from its logits.
    fn step(&mut self, logits: &[f32], done: Done<'_>) -> Result<()> {
        let vocab = self.config.vocab_size;
        let (groups, drawer) = (&self.groups, &mut self.drawer);
        let draw = |drawer: &mut Drawer, (row, logits): (&Active, &[f32])| {
            draw(&groups[&row.group], row.member, logits, drawer)
        };
        let drawn: Vec<Result<(u32, f32)>> = match logits.len() >= SHARED_LOGITS {
            true => self
                .active
                .par_iter()
                .zip(logits.par_chunks(vocab))
                .map_init(Drawer::default, draw)
                .collect(),
            false => self
                .active
                .iter()
                .zip(logits.chunks(vocab))
                .map(|row| draw(drawer, row))
                .collect(),
        };
        // Backwards, so that a row that leaves moves only rows already seen.
        for (index, drawn) in drawn.into_iter().enumerate().rev() {
            let row = &self.active[index];
            let (group, member) = (row.group, row.member);
            if self.add(group, member, drawn?)? {
                let row = self.active.swap_remove(index);
                self.idle.push(row.span);
                self.leave(group, done)?;
            }
        }
        Ok(())
    }

    /// Fills the batch, computing the prompts it needs. Returns whether anyone
    /// was admitted.
    fn admit(&mut self, next: Next<'_>, done: Done<'_>) -> Result<bool> {
        let mut admitted = Vec::new();
        let mut fresh = Vec::new();
        while self.active.len() + admitted.len() < self.limits.rows.max(1) {
            if self.waiting.is_empty() && !self.receive(admitted.len(), next, done)? {
                break;
            }
            let Some(&(index, member)) = self.waiting.front() else {
                continue; // the request asked for nothing
            };
            let group = &self.groups[&index];
            let (prompt, room) = (group.prompt.len(), self.most(group) - 1);
            let opens = group.opened.is_none() && fresh.last() != Some(&index);
            let needs = match opens {
                true => Span::bytes(self.config, prompt),
                false => 0,
            } + Span::bytes(self.config, room);
            let alone = self.active.is_empty() && admitted.is_empty();
            if !self.make_room(needs) && !alone {
                break;
            }
            self.waiting.pop_front();
            if opens {
                let span = self.span(0, prompt);
                self.groups.entry(index).and_modify(|group| {
                    group.opened = Some(Opened {
                        span,
                        logits: Vec::new(),
                    });
                });
                fresh.push(index);
            }
            let span = self.span(prompt, room);
            admitted.push(Active {
                group: index,
                member,
                span,
            });
        }
        self.open(&fresh);
        let any = !admitted.is_empty();
        for row in admitted {
            let group = &self.groups[&row.group];
            let opened = group.opened.as_ref().expect("its prompt was computed");
            let drawn = draw(group, row.member, &opened.logits, &mut self.drawer)?;
            if self.add(row.group, row.member, drawn)? {
                self.idle.push(row.span);
                self.leave(row.group, done)?;
            } else {
                self.active.push(row);
            }
        }
        Ok(any)
    }

    /// Takes in one more request. Returns false if there is none, or no time for
    /// it beside those in the batch and so many more that were `admitted`.
    fn receive(&mut self, admitted: usize, next: Next<'_>, done: Done<'_>) -> Result<bool> {
        let group = match self.held_back.take() {
            Some(group) => group,
            None => {
                let Some(request) = next().transpose()? else {
                    return Ok(false);
                };
                self.came += 1;
                self.group(request)?
            }
        };
        let index = self.came - 1;
        if group.drawn.is_empty() || group.request.max_tokens == 0 {
            done(index, group.drawn)?;
            return Ok(true);
        }
        let beside = self.active.len() + admitted;
        let candidate = Candidate {
            prompt: group.prompt.len(),
            group: group.drawn.len(),
            tokens: self.most(&group),
            beside,
            waits: beside > 0 && beside + group.drawn.len() > self.limits.rows,
        };
        let allows = |pace: &Pace| pace.allows(&candidate, Instant::now());
        if !self.pace.as_ref().is_none_or(allows) {
            self.held_back = Some(group);
            return Ok(false);
        }
        self.waiting
            .extend((0..group.drawn.len()).map(|member| (index, member)));
        self.groups.insert(index, group);
        Ok(true)
    }

    /// A request, its prompt in tokens; of nobody where that leaves no room.
    fn group(&self, request: Request) -> Result<Group> {
        let prompt = self.tokenizer.prompt(&request.messages)?;
        if let Some(token) = prompt
            .iter()
            .find(|&&token| token as usize >= self.config.vocab_size)
        {
            return Err(Error::Input(format!(
                "the tokenizer's token {token} is outside the model's vocabulary of {}",
                self.config.vocab_size
            )));
        }
        let fits = prompt.len() < self.config.max_position_embeddings;
        Ok(Group {
            drawn: vec![Drawn::default(); if fits { request.group } else { 0 }],
            request,
            prompt,
            ended: 0,
            opened: None,
        })
    }

    /// The most tokens of a completion. Its last needs no position: nothing
    /// follows it.
    fn most(&self, group: &Group) -> usize {
        let positions = self.config.max_position_embeddings - group.prompt.len() + 1;
        group.request.max_tokens.min(positions)
    }

    /// Computes prompts whose spans are ready, many at a time.
    fn open(&mut self, fresh: &[usize]) {
        let began = Instant::now();
        let (mut rows, mut last) = (Vec::new(), Vec::new());
        for index in fresh {
            let group = &self.groups[index];
            let span = group.opened.as_ref().expect("it has a span").span;
            rows.extend(
                group
                    .prompt
                    .iter()
                    .enumerate()
                    .map(|(position, &token)| Row {
                        token,
                        position,
                        span,
                        prefix: None,
                    }),
            );
            last.push((*index, rows.len() - 1));
        }
        let size = self.limits.prefill.max(1);
        let precision = self.limits.precision(self.config);
        let mut last = last.into_iter().peekable();
        let mut logits = Vec::new();
        for (number, chunk) in rows.chunks(size).enumerate() {
            self.inference.forward(chunk, &mut self.spans, precision);
            let (mut ends, mut rows) = (Vec::new(), Vec::new());
            while let Some((index, row)) = last.next_if(|&(_, row)| row < (number + 1) * size) {
                ends.push(index);
                rows.push(row - number * size);
            }
            self.inference.logits(&rows, &mut logits);
            for (index, logits) in ends.iter().zip(logits.chunks(self.config.vocab_size)) {
                let group = self.groups.get_mut(index).expect("it is being opened");
                let opened = group.opened.as_mut().expect("it has a span");
                opened.logits = logits.to_vec();
            }
        }
        if let Some(pace) = &mut self.pace {
            pace.opened(rows.len(), began.elapsed());
        }
    }

    /// Whether `bytes` more of spans may be held, once idle ones are freed if
    /// need be. Those that are idle may be enough: then nothing is freed.
    fn make_room(&mut self, bytes: usize) -> bool {
        let idle = |batch: &Self| -> usize {
            let spans = batch.idle.iter().map(|&index| &batch.spans[index]);
            spans
                .map(|span| Span::bytes(batch.config, span.capacity()))
                .sum()
        };
        while (self.held - idle(self)).saturating_add(bytes) <= self.limits.cache {
            if self.held + bytes <= self.limits.cache {
                return true;
            }
            let Some(index) = self.idle.pop() else { break };
            self.held -= Span::bytes(self.config, self.spans[index].capacity());
            self.spans[index] = Span::default();
            self.vacant.push(index);
        }
        false
    }

    /// An empty span for positions from `first`, reused if one is large enough.
    fn span(&mut self, first: usize, capacity: usize) -> usize {
        let size = |index: &usize| self.spans[*index].capacity();
        let fits = self
            .idle
            .iter()
            .copied()
            .filter(|index| size(index) >= capacity);
        if let Some(index) = fits.min_by_key(|index| size(index)) {
            self.idle.retain(|&other| other != index);
            self.spans[index].restart(first);
            return index;
        }
        self.held += Span::bytes(self.config, capacity);
        let span = Span::new(self.config, first, capacity);
        match self.vacant.pop() {
            Some(index) => {
                self.spans[index] = span;
                index
            }
            None => {
                self.spans.push(span);
                self.spans.len() - 1
            }
        }
    }

    /// Adds a drawn token to its row. Returns whether that ended the row.
    fn add(&mut self, index: usize, member: usize, (token, log_prob): (u32, f32)) -> Result<bool> {
        let most = self.most(&self.groups[&index]);
        let group = self.groups.get_mut(&index).expect("its rows are drawn");
        let drawn = &mut group.drawn[member];
        drawn.tokens.push(token);
        drawn.log_probs.push(log_prob);
        if self.tokenizer.is_end(token) || drawn.tokens.len() >= most {
            return Ok(true);
        }
        let Some(longest) = group.request.stop.iter().map(String::len).max() else {
            return Ok(false);
        };
        // Every token is at least a byte.
        let tail = drawn.tokens.len().saturating_sub(longest + STOP_MARGIN);
        let text = self.tokenizer.decode(&drawn.tokens[tail..])?;
        Ok(group.request.stop.iter().any(|stop| text.contains(stop)))
    }

    /// Counts a row of a group as ended; with the last the group goes.
    fn leave(&mut self, index: usize, done: Done<'_>) -> Result<()> {
        let group = self.groups.get_mut(&index).expect("its rows are drawn");
        group.ended += 1;
        if group.ended < group.drawn.len() {
            return Ok(());
        }
        let group = self.groups.remove(&index).expect("it was just there");
        self.idle.extend(group.opened.map(|opened| opened.span));
        if let Some(pace) = &mut self.pace {
            let longest = group.drawn.iter().map(|drawn| drawn.tokens.len()).max();
            pace.ended(longest.unwrap_or(0));
        }
        done(index, group.drawn)
    }
}

/// A member's next token and its log-probability.
fn draw(group: &Group, member: usize, logits: &[f32], drawer: &mut Drawer) -> Result<(u32, f32)> {
    let request = &group.request;
    let choice = Choice {
        temperature: request.temperature,
        top_k: request.top_k,
        top_p: request.top_p,
    };
    let step = group.drawn[member].tokens.len() as u64;
    drawer
        .draw(logits, choice, &[request.seed, member as u64, step])
        .ok_or_else(|| Error::Weights("the model's logits are not finite".into()))
}
