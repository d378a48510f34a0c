//! What goes into the machine and what comes out of it.

use std::collections::BTreeSet;

use tasks::dialogue::Message;
use tasks::{EnvId, Game, Registry};

use crate::body::{Completion, Slot};
use crate::curriculum::Amendment;
use crate::event::Event;
use crate::ids::{Address, Beacon, Hash, PeerId, TxHash};
use crate::manifest::Manifest;
use crate::message::{Announcement, BodyKind, Card, EvmSignature, Plea, Seal};
use crate::plan::SettledSet;
use crate::refusal::RejectReason;
use crate::transcript::Transcript;

/// Who a machine is and what it runs.
#[derive(Clone)]
pub struct Config {
    /// This peer.
    pub me: PeerId,
    /// Who owns its reputation.
    pub address: Address,
    /// Its name, a label for people.
    pub name: String,
    /// For its Hello, if it cannot register itself.
    pub plea: Option<Box<Plea>>,
    /// Known to nobody else; commitments hide behind what follows from it.
    pub secret: [u8; 32],
    /// Peers that run in this process; only shown.
    pub local: BTreeSet<PeerId>,
    /// The swarm.
    pub manifest: Manifest,
    /// Its environments.
    pub registry: Registry,
}

/// What happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Input {
    /// Begin. Once, first.
    Start {
        /// The first round this peer may take part in: past every round it
        /// was in before it was stopped, since a round is answered once, and
        /// past every round the chain has opened. 1 in a new swarm.
        first_round: u64,
        /// How many others to hear from before beginning; without them the
        /// round begins after `join_ms`. Those of this process, or, with a
        /// ticket, at least one.
        expect: u16,
        /// The last round to take part in; rest afterwards.
        last_round: Option<u64>,
    },
    /// The timer went off.
    Tick,
    /// A verified announcement of a peer arrived.
    Announcement(Announcement),
    /// The transport gave a peer up: nothing came from it for seconds, not even
    /// an acknowledgement. It is not waited for until it speaks again.
    Lost {
        /// Whom.
        peer: PeerId,
    },
    /// Something was refused before it became an announcement.
    Refused {
        /// Whose it was, where that is certain.
        from: Option<PeerId>,
        /// Why.
        reason: RejectReason,
    },
    /// A body that was fetched; its bytes hash to `hash`.
    Body {
        /// Its hash.
        hash: Hash,
        /// All of it.
        bytes: Vec<u8>,
    },
    /// Nobody gave the body. It is asked for again while it matters.
    FetchFailed {
        /// Its hash.
        hash: Hash,
    },
    /// The chain opened a round.
    RoundOpened {
        /// The round.
        round: u64,
        /// Its beacon.
        beacon: Beacon,
        /// Its witnesses, as the chain drew them: peer and signing address.
        committee: Vec<(PeerId, Address)>,
        /// What the chain had settled when it opened this round, from the
        /// opening of the newest settled round on and in the chain's order:
        /// what is asked in this round follows from it.
        settled: Vec<SettledSet>,
    },
    /// A change of the curriculum, from this machine: signed by the author
    /// here, or kept from an earlier run.
    Amendment(Box<Amendment>),
    /// The policy sampled what was asked.
    Sampled {
        /// The round.
        round: u64,
        /// Which stage.
        kind: BodyKind,
        /// One group a request, in the order of requests; fewer at the end if
        /// time ran out.
        groups: Vec<Vec<Completion>>,
    },
    /// The scorecard that was asked for is signed.
    CardSigned {
        /// The round.
        round: u64,
        /// The included set it speaks of, as asked.
        included: Hash,
        /// EIP-712, by this peer's address.
        signature: EvmSignature,
        /// The card's seal, in a swarm that seals them.
        seal: Option<Seal>,
    },
    /// The chain holds the seals of a round's cards, whoever brought them: what these
    /// witnesses sealed can be shown, and nothing else counts.
    CardsSealed {
        /// The round.
        round: u64,
        /// Whose.
        witnesses: BTreeSet<Address>,
    },
    /// Training after a round is over.
    Trained {
        /// The round.
        round: u64,
        /// The weights' hash and step, where a checkpoint was made.
        checkpoint: Option<(Hash, u64)>,
    },
    /// The chain has a settlement of the round, whoever sent it.
    Settled {
        /// The round.
        round: u64,
        /// The transaction.
        tx: TxHash,
    },
    /// Leave in good order. Nothing but settled rounds matters afterwards.
    Stop,
}

/// What to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Ask the chain to open this round, or for its beacon if it is open
    /// already. Idempotent; comes back as [`Input::RoundOpened`].
    OpenRound {
        /// The round.
        round: u64,
    },
    /// Sign this and gossip it.
    Publish(Announcement),
    /// Keep this body and give it to whoever asks.
    Serve {
        /// Its hash.
        hash: Hash,
        /// All of it.
        bytes: Vec<u8>,
    },
    /// Get this body; refuse it if it is larger than said. Comes back as
    /// [`Input::Body`] or [`Input::FetchFailed`].
    Fetch {
        /// Its hash.
        hash: Hash,
        /// Its size, within the manifest's limit.
        bytes: u32,
        /// Who has it, the author first.
        from: Vec<PeerId>,
    },
    /// Bodies of this round and of those before it are no longer needed.
    Retire {
        /// The round.
        round: u64,
    },
    /// Have the policy write completions. Comes back as [`Input::Sampled`].
    Sample {
        /// The round.
        round: u64,
        /// Which stage.
        kind: BodyKind,
        /// After this the stage is over; groups that are done by then count.
        deadline_ms: u64,
        /// One a group.
        requests: Vec<SampleRequest>,
    },
    /// Register this peer on the ledger and have it join, if this one can pay and
    /// nobody else has: it asks for it, and cannot itself. Again each round in
    /// which it asks.
    Sponsor {
        /// Whom.
        peer: PeerId,
        /// Who owns its reputation.
        address: Address,
        /// Its name, as it signed it.
        name: String,
        /// Its signatures.
        plea: Box<Plea>,
        /// When it is this peer's turn, counted from now.
        after_ms: u64,
    },
    /// Sign this as a witness. Comes back as [`Input::CardSigned`].
    SignScorecard(ScorecardRequest),
    /// Commit these seals on the ledger, before any of the cards is shown. Idempotent by
    /// round; comes back as [`Input::CardsSealed`], from whomever.
    CommitSeals {
        /// The round.
        round: u64,
        /// The witnesses' seals.
        seals: Vec<(Address, Seal)>,
    },
    /// Send this to the ledger. Idempotent by round; comes back as
    /// [`Input::Settled`] once the ledger has it, from whomever.
    Settle(Settlement),
    /// Keep what the round's scores follow from, in place of what was kept of
    /// this round before: a later quorum may include another set.
    Record {
        /// The round.
        round: u64,
        /// Its included bodies.
        transcript: Transcript,
    },
    /// Keep this change of the curriculum for the next start.
    Keep {
        /// Signed by the author.
        amendment: Box<Amendment>,
    },
    /// Get this environment from peers, and have it repeat its golden vectors.
    /// Comes back as [`Machine::add_environment`](super::Machine) or
    /// `environment_failed`.
    Obtain {
        /// Its hash.
        env: EnvId,
        /// Who may have it.
        from: Vec<PeerId>,
    },
    /// Train. Comes back as [`Input::Trained`], also if there is nothing to
    /// train on or training failed.
    Train {
        /// The round.
        round: u64,
        /// Optimizer steps to take.
        steps: u16,
        /// Groups left out because every completion earned the same.
        dropped: u32,
        /// What to train on.
        groups: Vec<TrainGroup>,
    },
    /// Send [`Input::Tick`] at this time; forget the time asked for before.
    SetTimer {
        /// Milliseconds since the Unix epoch.
        at_ms: u64,
    },
    /// Tell whoever listens.
    Emit(Event),
}

/// A group of completions to sample.
#[derive(Debug, Clone, PartialEq)]
pub struct SampleRequest {
    /// What it is, for people: `own 3`, `common 0 of amber-finch`.
    pub label: String,
    /// The prompt.
    pub messages: Vec<Message>,
    /// Of an item of several turns: what to play, to which the prompt leads.
    pub game: Option<Game>,
    /// How many completions.
    pub completions: u16,
    /// The seed of their draws.
    pub seed: u64,
}

/// A scorecard to sign.
#[derive(Debug, Clone, PartialEq)]
pub struct ScorecardRequest {
    /// The round.
    pub round: u64,
    /// The hash of the included set.
    pub included: Hash,
    /// Scores in ppm by address, sorted; all witnesses name the same addresses,
    /// each with [`UNSCORED`](crate::score::UNSCORED) for its own.
    pub scores: Vec<(Address, u32)>,
}

/// A round that gathered its quorum.
#[derive(Debug, Clone, PartialEq)]
pub struct Settlement {
    /// The round.
    pub round: u64,
    /// The hash of the included set.
    pub included: Hash,
    /// The witnesses' cards, all of the same included set and addresses,
    /// sorted by witness.
    pub cards: Vec<(Address, Card)>,
    /// The witnesses' seals, where cards are sealed.
    pub seals: Vec<(Address, Seal)>,
}

/// A group to train on.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainGroup {
    /// Who wrote the completions.
    pub owner: PeerId,
    /// In which round.
    pub round: u64,
    /// In which stage.
    pub kind: BodyKind,
    /// Of which of the owner's items; for a critique, of the target's.
    pub slot: Slot,
    /// The prompt.
    pub messages: Vec<Message>,
    /// Of an item of several turns: what the completions are episodes of.
    pub game: Option<Game>,
    /// The completions.
    pub completions: Vec<Completion>,
    /// What each earned, in ppm.
    pub rewards: Vec<u32>,
}
