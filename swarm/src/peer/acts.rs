//! Effects: one thing each.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use swarm_core::event::{Event, LogLevel};
use swarm_core::ids::{Address, Hash, PeerId};
use swarm_core::message::{Card, Phase, Seal};
use swarm_core::refusal::RejectReason;
use swarm_core::round::{Effect, Input};
use swarm_core::transcript::Transcript;

use super::{Finished, Peer, WATCHED_ROUNDS};
use crate::chain::{Candidate, Chain, Opened, SettledTx};
use crate::curriculum::Asked;
use crate::net::{FetchError, PeerAddr, ProviderFailure};

/// How long before a settlement that failed is sent again.
const SETTLE_RETRY: Duration = Duration::from_secs(5);
/// How long before a round that could not be opened is tried again.
const OPEN_RETRY: Duration = Duration::from_secs(1);
/// How many strangers a peer pays for while it runs: a small swarm's worth.
const SPONSORSHIPS: usize = 16;
const POLLING: &str = "asking the chain";

impl Peer {
    /// Carry out an effect; what it came to at once goes back to the machine.
    pub(super) async fn act(&mut self, effect: Effect) -> Result<Option<Input>> {
        match effect {
            Effect::OpenRound { round } => self.open_round(round),
            Effect::Publish(announcement) => match announcement.sign(&self.key) {
                Ok(bytes) => {
                    if let Err(error) = self.net.broadcast(bytes).await {
                        self.setup
                            .hub
                            .log(LogLevel::Warn, "network", error.to_string());
                    }
                }
                Err(reason) => {
                    let text = format!("an announcement of our own was not sent: {reason}");
                    self.setup.hub.log(LogLevel::Error, "protocol", text);
                }
            },
            Effect::Serve { hash, bytes } => {
                self.keep_body(hash);
                let served = self.net.serve(bytes).await.context("keeping a body")?;
                debug_assert_eq!(served, hash.0, "the machine and the store hash alike");
            }
            Effect::Fetch { hash, bytes, from } => self.fetch(hash, bytes, &from),
            Effect::Retire { round } => self.retire(round),
            Effect::Sample {
                round,
                kind,
                deadline_ms,
                requests,
            } => self.sample(round, kind, deadline_ms, &requests)?,
            Effect::SignScorecard(request) => {
                return Ok(self.setup.chain.as_ref().map(|chain| {
                    let (signature, seal) = chain.sign(&request);
                    Input::CardSigned {
                        round: request.round,
                        included: request.included,
                        signature,
                        seal,
                    }
                }));
            }
            Effect::Sponsor {
                peer,
                address,
                name,
                plea,
                after_ms,
            } => self.sponsor(
                Candidate {
                    peer,
                    address,
                    name,
                    plea,
                },
                after_ms,
            ),
            Effect::CommitSeals { round, seals } => self.commit_seals(round, seals),
            Effect::Settle(settlement) => {
                // Who can't pay leaves it to those whose turn is next.
                if let Some(chain) = &self.setup.chain
                    && chain.pays()
                {
                    self.setup.outbox.put(&chain.signed(&settlement))?;
                    self.flush_outbox(Duration::ZERO);
                }
            }
            Effect::Record { transcript, .. } => self.record(transcript).await,
            Effect::Keep { amendment } => self.keep_amendment(&amendment).await,
            Effect::Obtain { env, from } => self.obtain(env, &from),
            Effect::Train {
                round,
                steps,
                dropped,
                groups,
            } => {
                self.train(round, steps, dropped, groups)?;
            }
            Effect::SetTimer { at_ms } => self.timer = Some(at_ms),
            Effect::Emit(event) => self.emit(event)?,
        }
        Ok(None)
    }

    pub(super) fn spawn(
        &mut self,
        kind: &'static str,
        work: impl Future<Output = Finished> + Send + 'static,
    ) {
        self.tasks.spawn(async move {
            let start = Instant::now();
            let finished = work.await;
            (kind, start.elapsed(), finished)
        });
    }

    fn open_round(&mut self, round: u64) {
        // Offline the machine goes on by itself after a while.
        let Some(chain) = self.setup.chain.clone() else {
            return;
        };
        self.try_to_open(chain, round, Duration::ZERO);
    }

    fn try_to_open(&mut self, chain: Chain, round: u64, after: Duration) {
        self.spawn("chain", async move {
            tokio::time::sleep(after).await;
            match chain.open(round).await {
                Ok(Some(opened)) => Finished::Inputs(vec![round_opened(opened)]),
                Ok(None) => Finished::NotOpen { round, why: None },
                Err(error) => Finished::NotOpen {
                    round,
                    why: Some(error),
                },
            }
        });
    }

    /// Tries again while the machine waits for it.
    fn not_open(&mut self, round: u64, why: Option<anyhow::Error>) {
        if let Some(error) = why {
            let text = format!("opening round {round}: {error:#}");
            self.setup.hub.log(LogLevel::Warn, "chain", text);
        }
        let at = self.machine.position();
        if (at.round, at.phase) == (round, Phase::Open)
            && let Some(chain) = self.setup.chain.clone()
        {
            self.try_to_open(chain, round, OPEN_RETRY);
        }
    }

    /// Pays for a stranger's way onto the ledger, when it is this peer's turn and
    /// nobody has: so many times and no more, since strangers are free to make.
    fn sponsor(&mut self, candidate: Candidate, after_ms: u64) {
        let Some(chain) = self.setup.chain.clone() else {
            return;
        };
        if !chain.pays() || self.sponsored >= SPONSORSHIPS {
            return;
        }
        self.spawn("chain", async move {
            tokio::time::sleep(Duration::from_millis(after_ms)).await;
            match chain.sponsor(&candidate).await {
                Ok(true) => Finished::Sponsored(candidate.peer),
                Ok(false) => Finished::Nothing,
                Err(error) => Finished::Failed {
                    what: "registering a peer that asked for it",
                    error,
                },
            }
        });
    }

    /// Notes that a body is in the store, until its round is long over.
    fn keep_body(&mut self, hash: Hash) {
        let round = self.machine.position().round;
        self.bodies.entry(round).or_default().push(hash);
    }

    fn fetch(&mut self, hash: Hash, bytes: u32, from: &[PeerId]) {
        self.keep_body(hash);
        let net = self.net.clone();
        let from: Vec<PeerAddr> = from.iter().map(|peer| PeerAddr::of(peer.0)).collect();
        self.spawn("talking", async move {
            match net.fetch(hash.0, bytes.into(), &from).await {
                Ok(bytes) => Finished::Inputs(vec![Input::Body { hash, bytes }]),
                Err(error) => {
                    tracing::debug!(%hash, %error, "a body could not be fetched");
                    let mut inputs = blamed(&error);
                    inputs.push(Input::FetchFailed { hash });
                    Finished::Inputs(inputs)
                }
            }
        });
    }

    /// Keep what a round can be checked by, before its scorecard is signed: what settles
    /// can be checked, whatever happens to this process.
    async fn record(&self, transcript: Transcript) {
        let (store, manifest) = (self.setup.transcripts.clone(), self.setup.manifest.clone());
        let kept = tokio::task::spawn_blocking(move || store.keep(&manifest, &transcript)).await;
        if let Err(error) = kept.map_err(anyhow::Error::from).flatten() {
            // A full disk keeps nobody from taking part.
            let text = format!("{error:#}; this round can't be checked from here later");
            self.setup.hub.log(LogLevel::Warn, "home", text);
        }
    }

    fn retire(&mut self, round: u64) {
        self.cards.retain(|kept, _| *kept > round);
        self.sealed.retain(|kept| *kept > round);
        let kept = self.bodies.split_off(&round.saturating_add(1));
        let old: Vec<Hash> = std::mem::replace(&mut self.bodies, kept)
            .into_values()
            .flatten()
            // One plan may serve for many rounds.
            .filter(|hash| !self.bodies.values().any(|kept| kept.contains(hash)))
            .collect();
        let net = self.net.clone();
        self.spawn("talking", async move {
            for hash in old {
                if let Err(error) = net.forget(hash.0).await {
                    tracing::debug!(%hash, %error, "an old body could not be let go");
                }
            }
            Finished::Nothing
        });
    }

    /// Gives the chain the seals of a round's cards. They are in no outbox: a card that
    /// nobody is left to show needs none.
    fn commit_seals(&mut self, round: u64, seals: Vec<(Address, Seal)>) {
        let Some(chain) = self.setup.chain.clone().filter(Chain::pays) else {
            return;
        };
        self.spawn("chain", async move {
            match chain.commit_seals(round, &seals).await {
                Ok(sealed) => Finished::Inputs(
                    sealed
                        .map(|by| cards_sealed(round, by))
                        .into_iter()
                        .collect(),
                ),
                Err(error) => Finished::Failed {
                    what: "sealing a round's scorecards",
                    error,
                },
            }
        });
    }

    /// Send what waits; the outbox has it until the chain does.
    pub(super) fn flush_outbox(&mut self, after: Duration) {
        let Some(chain) = self.setup.chain.clone() else {
            return;
        };
        if std::mem::replace(&mut self.flushing, true) {
            self.flush_again = true;
            return;
        }
        let outbox = self.setup.outbox.clone();
        self.spawn("chain", async move {
            tokio::time::sleep(after).await;
            Finished::Flushed(chain.flush(&outbox).await)
        });
    }

    pub(super) fn keep_card(&mut self, round: u64, witness: Address, card: Card) {
        self.cards.entry(round).or_default().insert(witness, card);
    }

    /// Ask the chain what others did.
    pub(super) fn poll_chain(&mut self) {
        let Some(chain) = self.setup.chain.clone() else {
            return;
        };
        if std::mem::replace(&mut self.polling, true) {
            return;
        }
        let (known, unsettled) = (self.progress.round, self.unsettled.clone());
        let sealed = self.sealed.clone();
        self.spawn("chain", async move {
            poll(&chain, known, &unsettled, &sealed)
                .await
                .unwrap_or_else(|error| Finished::Failed {
                    what: POLLING,
                    error,
                })
        });
    }

    fn emit(&mut self, event: Event) -> Result<()> {
        match &event {
            Event::RoundOpened { round, .. } => {
                self.outcome.first_round.get_or_insert_with(Instant::now);
                self.progress.round = self.progress.round.max(*round);
                self.save_progress()?;
                self.unsettled.insert(*round);
                while self.unsettled.len() > WATCHED_ROUNDS {
                    self.unsettled.pop_first();
                }
            }
            Event::Unsettled { round, .. } => self.void(*round),
            Event::Curriculum {
                round,
                amendment,
                courses,
                ..
            } => self.asked(Asked {
                round: *round,
                amendment: *amendment,
                courses: courses.clone(),
            }),
            Event::RoundEnded(summary) => {
                self.outcome.rounds.push(summary.clone());
            }
            _ => {}
        }
        self.setup.hub.emit(event);
        Ok(())
    }

    /// Show the chain who was there, so that the silent are not drawn again.
    fn void(&mut self, round: u64) {
        let Some(chain) = self.setup.chain.clone() else {
            return;
        };
        let cards: Vec<_> = self
            .cards
            .get(&round)
            .cloned()
            .unwrap_or_default()
            .into_iter()
            .collect();
        self.spawn("chain", async move {
            match chain.void(round, &cards).await {
                Ok(()) => Finished::Nothing,
                Err(error) => Finished::Failed {
                    what: "voiding an unsettled round",
                    error,
                },
            }
        });
    }

    /// A spawned piece of work ended.
    pub(super) fn finished(
        &mut self,
        result: Result<(&'static str, Duration, Finished), tokio::task::JoinError>,
    ) -> Vec<Input> {
        let (kind, took, finished) = match result {
            Ok(done) => done,
            Err(error) => {
                self.setup
                    .hub
                    .log(LogLevel::Error, "node", format!("a task failed: {error}"));
                return Vec::new();
            }
        };
        self.spend(kind, took);
        match finished {
            Finished::Inputs(inputs) => inputs,
            Finished::Polled { news, settled } => {
                self.polling = false;
                for input in &news {
                    if let Input::CardsSealed { round, .. } = input {
                        self.sealed.insert(*round);
                    }
                }
                let mut inputs = news;
                for by in settled {
                    // Whoever sent it tells; of a stranger's the first peer does.
                    if self.unsettled.remove(&by.round) && self.setup.index == 0 {
                        if !self.is_local(by.relayer) {
                            self.tell_settled(&by, 0);
                        }
                        self.tell_standings(by.round);
                    }
                    inputs.push(Input::Settled {
                        round: by.round,
                        tx: by.tx,
                    });
                }
                inputs
            }
            Finished::NotOpen { round, why } => {
                self.not_open(round, why);
                Vec::new()
            }
            Finished::Sponsored(peer) => {
                self.sponsored += 1;
                let text = format!("paid for {}'s way onto the ledger", peer.nickname());
                self.setup.hub.log(LogLevel::Info, "chain", text);
                Vec::new()
            }
            Finished::Environment { env, result } => {
                self.obtained(env, result);
                Vec::new()
            }
            Finished::Flushed(result) => self.flushed(result),
            Finished::Failed { what, error } => {
                self.polling &= what != POLLING;
                self.setup
                    .hub
                    .log(LogLevel::Warn, "chain", format!("{what}: {error:#}"));
                Vec::new()
            }
            Finished::Nothing => Vec::new(),
        }
    }

    fn flushed(&mut self, result: Result<Vec<(SettledTx, u64)>>) -> Vec<Input> {
        self.flushing = false;
        let sent = match result {
            Ok(sent) => sent,
            Err(error) => {
                self.setup
                    .hub
                    .log(LogLevel::Warn, "chain", format!("{error:#}; trying again"));
                self.flush_outbox(SETTLE_RETRY);
                return Vec::new();
            }
        };
        if std::mem::take(&mut self.flush_again) {
            self.flush_outbox(Duration::ZERO);
        }
        for (by, gas) in &sent {
            self.tell_settled(by, *gas);
        }
        sent.iter()
            .map(|(by, _)| Input::Settled {
                round: by.round,
                tx: by.tx,
            })
            .collect()
    }

    fn is_local(&self, address: Address) -> bool {
        self.setup.local_addresses.contains(&address)
    }

    fn tell_settled(&self, by: &SettledTx, gas: u64) {
        self.setup.hub.emit(Event::Settled {
            round: by.round,
            tx: by.tx,
            block: by.block,
            gas,
            relayer: by.relayer,
        });
    }

    fn tell_standings(&mut self, round: u64) {
        let Some(chain) = self.setup.chain.clone() else {
            return;
        };
        let hub = self.setup.hub.clone();
        self.spawn("chain", async move {
            match chain.standings().await {
                Ok(all) => {
                    for standing in all {
                        hub.emit(Event::Reputation {
                            who: standing.peer,
                            score_ppm: standing.score_ppm,
                            rounds: standing.rounds,
                            round,
                        });
                    }
                    Finished::Nothing
                }
                Err(error) => Finished::Failed {
                    what: "reading reputations",
                    error,
                },
            }
        });
    }
}

/// What a fetch that failed says of those who were asked.
fn blamed(error: &FetchError) -> Vec<Input> {
    let FetchError::NoneDelivered(failures) = error else {
        return Vec::new();
    };
    let refused = failures.iter().filter_map(|(peer, failure)| {
        let reason = match failure {
            ProviderFailure::Corrupt => RejectReason::Mismatch("a body that is something else"),
            ProviderFailure::TooSlow => RejectReason::Slow,
            // A peer that is away or busy is not dishonest.
            _ => return None,
        };
        let from = Some(PeerId(*peer));
        Some(Input::Refused { from, reason })
    });
    refused.collect()
}

fn round_opened(opened: Opened) -> Input {
    Input::RoundOpened {
        round: opened.round,
        beacon: opened.beacon,
        committee: opened.committee,
        settled: opened.settled,
    }
}

fn cards_sealed(round: u64, witnesses: BTreeSet<Address>) -> Input {
    Input::CardsSealed { round, witnesses }
}

async fn poll(
    chain: &Chain,
    known: u64,
    unsettled: &BTreeSet<u64>,
    sealed: &BTreeSet<u64>,
) -> Result<Finished> {
    let mut news = Vec::new();
    let last = chain.next_round().await?.saturating_sub(1);
    if last > known
        && let Some(round) = chain.opened(last).await?
    {
        news.push(round_opened(round));
    }
    for round in unsettled.difference(sealed) {
        let by = chain.sealed_by(*round).await?;
        news.extend(by.map(|by| cards_sealed(*round, by)));
    }
    let mut settled = Vec::new();
    for round in unsettled {
        if let Some(by) = chain.settlement_of(*round).await? {
            settled.push(by);
        }
    }
    Ok(Finished::Polled { news, settled })
}
