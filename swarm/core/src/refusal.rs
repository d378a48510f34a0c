//! What becomes of a peer's message. A bad one is data, not an error: it is
//! refused for a reason, counted under that reason's key, and shown.

/// Why something from a peer was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RejectReason {
    /// Larger than the limit.
    #[error("{bytes} bytes, at most {limit} are taken")]
    Oversize {
        /// How large it is, or says it is.
        bytes: usize,
        /// What is taken.
        limit: usize,
    },
    /// Not an encoding of anything.
    #[error("does not decode: {0}")]
    Malformed(String),
    /// Decodes, but is not what an honest encoder writes.
    #[error("not in canonical encoding")]
    NotCanonical,
    /// A format of another version.
    #[error("format version {0}")]
    Version(u8),
    /// Not signed by the peer it names.
    #[error("the signature is not the named peer's")]
    Signature,
    /// A body that is not the one its hash or signer announced.
    #[error("not what was announced: {0}")]
    Mismatch(&'static str),
    /// Two different messages where one may have one.
    #[error("said two things: {0}")]
    Equivocation(&'static str),
    /// Not what the beacon draws.
    #[error("not what the beacon draws: {0}")]
    Draw(String),
    /// Against the manifest's numbers.
    #[error("against the manifest: {0}")]
    Manifest(String),
    /// A change of the curriculum, or a plan, that does not hold.
    #[error("not the swarm's curriculum: {0}")]
    Amendment(String),
    /// From somebody who has no say in this.
    #[error("not entitled: {0}")]
    NotEntitled(&'static str),
    /// More messages than a peer may send in a round.
    #[error("more than {0} messages in a round")]
    Budget(u32),
    /// More messages at once than a neighbour may pass on.
    #[error("{0} messages dropped, more than a neighbour may send")]
    Flood(u64),
    /// A body that came, or was to come, too slowly: again and again.
    #[error("a body came too slowly")]
    Slow,
    /// Turned away at the door.
    #[error("{0} connections were turned away: too many from one peer or address, or cut off")]
    Crowd(u64),
    /// Not an announcement at all.
    #[error("not a message: {0}")]
    Frame(&'static str),
}

impl RejectReason {
    /// The short key under which refusals are counted.
    pub fn key(&self) -> &'static str {
        match self {
            Self::Oversize { .. } => "oversize",
            Self::Malformed(_) => "malformed",
            Self::NotCanonical => "not canonical",
            Self::Version(_) => "version",
            Self::Signature => "bad signature",
            Self::Mismatch(_) => "not as announced",
            Self::Equivocation(_) => "equivocation",
            Self::Draw(_) => "wrong draw",
            Self::Manifest(_) => "against manifest",
            Self::Amendment(_) => "bad curriculum",
            Self::NotEntitled(_) => "not entitled",
            Self::Budget(_) | Self::Flood(_) => "over budget",
            Self::Slow => "too slow",
            Self::Crowd(_) => "turned away",
            Self::Frame(_) => "not a message",
        }
    }
}

/// What became of a peer's message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It changed something.
    Applied,
    /// Honest, and of no use: a repetition, a late arrival, another round.
    Ignored(&'static str),
    /// Refused.
    Rejected(RejectReason),
}

impl From<RejectReason> for Outcome {
    fn from(reason: RejectReason) -> Self {
        Self::Rejected(reason)
    }
}
