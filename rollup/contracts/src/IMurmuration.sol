// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

/// What the two contracts of a swarm say to the world: their types, their
/// events (complete: an explorer needs no other source) and their errors
/// (each says what to do, through its arguments and its comment).

/// Who a peer is: its iroh key, bound to the Ethereum address that owns it.
interface IPeerRegistry {
    struct Peer {
        /// ed25519 public key (the iroh endpoint id). Zero: not registered.
        bytes32 node;
        /// ed25519 signature by `node` over `registrationMessage(owner)`, in two
        /// halves. The EVM has no ed25519: readers verify it, the contract cannot.
        bytes32 nodeSignatureR;
        bytes32 nodeSignatureS;
        uint64 registeredAt;
        string name;
    }

    event PeerRegistered(
        address indexed owner, bytes32 indexed node, bytes nodeSignature, string name, address relayer
    );

    /// A node key is 32 bytes, not all of them zero.
    error EmptyNodeKey();
    /// An ed25519 signature is 64 bytes.
    error NodeSignatureLength(uint256 length);
    /// Choose a name of at most `limit` bytes.
    error NameTooLong(uint256 length, uint256 limit);
    /// Sign again with a later deadline (seconds since 1970).
    error SignatureExpired(uint256 deadline);
    /// The signature is not `owner`'s over these values and its present nonce.
    error NotSignedByOwner(address owner);

    function register(bytes32 node, bytes calldata nodeSignature, string calldata name) external;

    function registerFor(
        address owner,
        bytes32 node,
        bytes calldata nodeSignature,
        string calldata name,
        uint256 deadline,
        bytes calldata signature
    ) external;

    function isRegistered(address owner) external view returns (bool);

    function peer(address owner) external view returns (Peer memory);

    function peers(address[] calldata owners) external view returns (Peer[] memory);

    function registrationMessage(address owner) external view returns (bytes memory);
}

/// Which swarm, which witnesses a round has, which scores they signed, and what
/// reputation follows.
interface IReputationLedger {
    enum Status {
        Unopened,
        Opened,
        Settled,
        /// Nobody brought a quorum in time. A quorum that comes later still settles.
        Voided
    }

    /// What a swarm is run by. Part of its id, so nobody can create somebody
    /// else's swarm with other terms.
    struct Terms {
        /// When round 0 began (seconds since 1970), for a clocked swarm.
        uint64 genesis;
        /// Seconds of a round: round r cannot be opened before genesis + r * roundLength.
        /// 0: rounds are counted, not clocked (a devnet).
        uint32 roundLength;
        /// Fewest seconds between two openings. 0 on a devnet.
        uint32 minInterval;
        /// Seconds after its opening from which an unsettled round can be voided.
        uint32 settleTimeout;
    }

    struct Swarm {
        bytes32 manifest;
        Terms terms;
        /// The lowest round that can still be opened.
        uint64 nextRound;
        uint64 lastOpenedAt;
        uint64 createdAt;
        uint32 settledRounds;
        /// Running hash over everything settled, in order.
        bytes32 root;
    }

    struct RoundView {
        Status status;
        uint64 openedAt;
        uint64 openedBlock;
        bytes32 beacon;
        bytes32 included;
        address[] committee;
    }

    struct Standing {
        address peer;
        bool member;
        /// Can be drawn into a committee. If false: check in.
        bool active;
        uint8 missed;
        /// Parts per million, decayed to now.
        uint32 reputation;
        /// Settled rounds that included this peer.
        uint32 rounds;
    }

    /// One witness's word on a round: scores parallel to the round's peers, in parts
    /// per million, or UNSCORED. What it says of itself is ignored.
    struct Scorecard {
        address witness;
        uint32[] scores;
        bytes signature;
    }

    /// The same word by hashes only: enough to prove that the witness was there.
    struct Ballot {
        address witness;
        bytes32 included;
        bytes32 peersHash;
        bytes32 scoresHash;
        bytes signature;
    }

    event SwarmCreated(bytes32 indexed swarm, bytes32 indexed manifest, Terms terms);
    event PeerJoined(bytes32 indexed swarm, address indexed peer, address relayer);
    event PeerCheckedIn(bytes32 indexed swarm, address indexed peer, address relayer);
    event RoundOpened(bytes32 indexed swarm, uint64 indexed round, bytes32 beacon, address[] committee);
    event RoundSettled(
        bytes32 indexed swarm,
        uint64 indexed round,
        bytes32 included,
        address relayer,
        address[] witnesses,
        bytes32 root
    );
    /// `judges`: how many scores by others the median was taken of; 0: nobody else
    /// scored this peer, its score is recorded as 0 and its reputation left alone.
    event PeerScored(
        bytes32 indexed swarm,
        uint64 indexed round,
        address indexed peer,
        uint32 score,
        uint32 judges,
        uint32 reputation
    );
    event RoundVoided(bytes32 indexed swarm, uint64 indexed round, address relayer);
    event WitnessMissed(bytes32 indexed swarm, uint64 indexed round, address indexed witness, uint8 missed);

    /// A manifest's hash is not zero.
    error EmptyManifest();
    /// Create it first: createSwarm(manifest, terms).
    error UnknownSwarm(bytes32 swarm);
    /// Register first: PeerRegistry.register or registerFor.
    error NotRegistered(address peer);
    /// Join first: joinSwarm or joinSwarmFor.
    error NotAMember(address peer);
    /// Somebody has to join before a round can have a committee.
    error NoMembers(bytes32 swarm);
    /// Nothing to do: read it with getRound.
    error RoundAlreadyOpened(uint64 round);
    /// A later round was opened; the lowest that can still be is `nextRound`.
    error RoundPassed(uint64 round, uint64 nextRound);
    /// Wait until `startsAt` (seconds since 1970).
    error RoundNotStarted(uint64 round, uint256 startsAt);
    /// A swarm without a clock may skip no further than `latest`.
    error RoundTooFar(uint64 round, uint64 latest);
    /// Wait until `opensAt` (seconds since 1970).
    error OpenedTooSoon(uint64 round, uint256 opensAt);
    /// Open it first: openRound.
    error RoundNotOpened(uint64 round);
    /// Nothing to do: this round's scores are recorded.
    error AlreadySettled(uint64 round);
    /// Nothing to do, unless with signatures that were not counted yet.
    error AlreadyVoided(uint64 round);
    /// Settle it, or wait until `voidableAt` (seconds since 1970).
    error VoidedTooSoon(uint64 round, uint256 voidableAt);
    /// Sort the peers by address, each once.
    error PeersNotSorted(uint256 index);
    /// A card has one score for each peer.
    error ScoreCount(address witness, uint256 scores, uint256 peers);
    /// A score is at most 1,000,000 parts per million, or UNSCORED.
    error ScoreOutOfRange(address witness, uint32 score);
    /// The signature is not `witness`'s over these very values.
    error BadSignature(address witness);
    /// Only the round's committee signs: see getRound.
    error NotInCommittee(address witness);
    /// One card a witness.
    error DuplicateWitness(address witness);
    /// Gather more: strictly more than two thirds of the committee must sign.
    error NoQuorum(uint256 signatures, uint256 committee);
    /// Sign a check-in for a round among the last few opened.
    error StaleCheckIn(uint64 round, uint64 nextRound);
}
