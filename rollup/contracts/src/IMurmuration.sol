// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

/// What the contracts of a swarm say to the world: their types, their events
/// (complete: an explorer needs no other source) and their errors (each says what
/// to do, through its arguments and its comment).

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
    event PeerRotated(
        address indexed owner, bytes32 indexed oldNode, bytes32 indexed node, bytes nodeSignature, address relayer
    );
    event PeerRetired(address indexed owner, bytes32 indexed node, address relayer);
    event BondPosted(address indexed owner, uint256 amount, uint256 total, address payer);
    /// From now on the bond counts for nothing.
    event BondReleased(address indexed owner, uint256 amount, uint256 withdrawableAt);
    event BondWithdrawn(address indexed owner, uint256 amount, address to);

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
    /// Register first: register or registerFor.
    error NoSuchPeer(address owner);
    /// Send some ether along, and no more than 2^128 wei in all.
    error BondAmount(uint256 total);
    /// Post a bond first, or, if it is being released already, wait.
    error NothingToRelease(address owner);
    /// Release it first, and wait until `withdrawableAt` (seconds since 1970; 0: not released).
    error BondHeld(uint256 withdrawableAt);
    /// The receiver did not take the ether: name another.
    error NotPaid(address to);

    function register(bytes32 node, bytes calldata nodeSignature, string calldata name) external;

    function registerFor(
        address owner,
        bytes32 node,
        bytes calldata nodeSignature,
        string calldata name,
        uint256 deadline,
        bytes calldata signature
    ) external;

    function rotate(bytes32 node, bytes calldata nodeSignature) external;

    function rotateFor(
        address owner,
        bytes32 node,
        bytes calldata nodeSignature,
        uint256 deadline,
        bytes calldata signature
    ) external;

    function retire() external;

    function retireFor(address owner, uint256 deadline, bytes calldata signature) external;

    function postBond(address owner) external payable;

    function releaseBond() external;

    function withdrawBond(address to) external;

    function isRegistered(address owner) external view returns (bool);

    function bondOf(address owner) external view returns (uint256);

    function peer(address owner) external view returns (Peer memory);

    function peers(address[] calldata owners) external view returns (Peer[] memory);

    function registrationMessage(address owner) external view returns (bytes memory);
}

/// Which swarms there are and whom they admit. Nothing here can touch a score.
interface ISwarmRegistry {
    enum Admission {
        /// Everybody who is registered.
        Open,
        /// Whom the author has admitted.
        Allowlist,
        /// Whoever has posted the swarm's bond.
        Bond
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
        Admission admission;
        /// Scorecards are committed before they are revealed.
        bool sealCards;
        /// May admit and pause, and name the governance once. Zero: nobody may.
        address author;
        /// Wei to have posted, where admission asks for it.
        uint128 bond;
    }

    struct Swarm {
        bytes32 manifest;
        Terms terms;
        /// May change manifest and parameters. Zero: nobody may.
        address governance;
        bool paused;
        uint64 createdAt;
    }

    event SwarmCreated(bytes32 indexed swarm, bytes32 indexed manifest, Terms terms);
    event PeerAdmitted(bytes32 indexed swarm, address indexed peer, bool admitted);
    event SwarmPaused(bytes32 indexed swarm, bool paused);
    event AuthorChanged(bytes32 indexed swarm, address indexed author);
    event GovernanceChanged(bytes32 indexed swarm, address indexed governance);
    event ManifestChanged(bytes32 indexed swarm, bytes32 indexed manifest);
    event ParametersChanged(
        bytes32 indexed swarm, uint32 minInterval, uint32 settleTimeout, Admission admission, uint128 bond
    );

    /// A manifest's hash is not zero.
    error EmptyManifest();
    /// Create it first: createSwarm(manifest, terms).
    error UnknownSwarm(bytes32 swarm);
    /// Only the swarm's author may do this.
    error NotAuthor(address author);
    /// Only the swarm's governance may do this: propose it there.
    error NotGovernance(address governance);

    function createSwarm(bytes32 manifest, Terms calldata terms_) external returns (bytes32 swarm);

    function swarmId(bytes32 manifest, Terms calldata terms_) external pure returns (bytes32);

    function getSwarm(bytes32 swarm) external view returns (Swarm memory);

    function terms(bytes32 swarm) external view returns (Terms memory found, bool paused);

    function admits(bytes32 swarm, address peer) external view returns (bool);
}

/// Which witnesses a round has, which scores they signed, and what reputation follows.
interface IReputationLedger {
    enum Status {
        Unopened,
        Opened,
        Settled,
        /// Nobody brought a quorum in time. A quorum that comes later still settles.
        Voided
    }

    struct SwarmState {
        /// The lowest round that can still be opened.
        uint64 nextRound;
        uint64 lastOpenedAt;
        uint32 settledRounds;
        /// How many of the eligible can be drawn: those since the last opening wait.
        uint32 drawable;
        /// Running hash over everything settled, in order.
        bytes32 root;
    }

    struct RoundView {
        Status status;
        uint64 openedAt;
        uint64 openedBlock;
        /// From when on it can be voided, if it has not settled.
        uint64 voidableAt;
        /// Its place among the settled rounds, from 0.
        uint32 index;
        bool sealCards;
        bytes32 beacon;
        /// Merkle root over what every peer got: see `leaf`.
        bytes32 scores;
        /// Merkle root over the seals of its cards, where cards are sealed.
        bytes32 seals;
        address[] committee;
    }

    struct Standing {
        address peer;
        bool member;
        /// Can be drawn into a committee. If false: check in.
        bool active;
        uint8 missed;
        /// How often it was proved to have signed two cards for one round.
        uint8 faults;
        /// Parts per million, decayed to now.
        uint32 reputation;
        /// How far its next score may well be from its reputation: parts per million.
        uint32 uncertainty;
        /// What its word as a witness weighs: parts per million.
        uint32 weight;
        /// Settled rounds that included this peer.
        uint32 rounds;
    }

    /// One witness's word on a round: four bytes for each of the round's peers, a score in
    /// parts per million or UNSCORED. What it says of itself is ignored.
    struct Scorecard {
        address witness;
        bytes scores;
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

    /// A witness's signature under something that every witness signs alike, or under
    /// the seal of its card.
    struct Vote {
        address witness;
        bytes32 seal;
        bytes signature;
    }

    /// What a settled round says of a peer: a leaf of its `scores`.
    struct Score {
        address peer;
        uint32 score;
        uint32 reputation;
        uint32 uncertainty;
    }

    event PeerJoined(bytes32 indexed swarm, address indexed peer, address relayer);
    event PeerCheckedIn(bytes32 indexed swarm, address indexed peer, address relayer);
    /// By itself, or because the swarm no longer admits it.
    event PeerLeft(bytes32 indexed swarm, address indexed peer, address relayer);
    event RoundOpened(bytes32 indexed swarm, uint64 indexed round, bytes32 beacon, address[] committee);
    event CardsSealed(
        bytes32 indexed swarm, uint64 indexed round, bytes32 seals, address[] witnesses, address relayer
    );
    event RoundSettled(
        bytes32 indexed swarm,
        uint64 indexed round,
        bytes32 included,
        address relayer,
        address[] witnesses,
        bytes32 scores,
        bytes32 root
    );
    /// Precedes RoundSettled where only the root of the scores is on chain.
    event RootSettled(bytes32 indexed swarm, uint64 indexed round, uint32 peers);
    /// `judges`: how many scores by others the median was taken of; 0: nobody else
    /// scored this peer, its score is recorded as 0 and its reputation left alone.
    event PeerScored(
        bytes32 indexed swarm,
        uint64 indexed round,
        address indexed peer,
        uint32 score,
        uint32 judges,
        uint32 reputation,
        uint32 uncertainty
    );
    /// A root-settled round's word on a peer, brought on chain.
    event ScoreApplied(
        bytes32 indexed swarm,
        uint64 indexed round,
        address indexed peer,
        uint32 score,
        uint32 reputation,
        uint32 uncertainty
    );
    /// What a witness's word weighs from now on, and how far from the medians it was.
    event WitnessWeighed(
        bytes32 indexed swarm, uint64 indexed round, address indexed witness, uint32 deviation, uint32 weight
    );
    event RoundVoided(bytes32 indexed swarm, uint64 indexed round, address relayer);
    event WitnessMissed(bytes32 indexed swarm, uint64 indexed round, address indexed witness, uint8 missed);
    /// It signed two different cards for one round.
    event WitnessFaulted(
        bytes32 indexed swarm, uint64 indexed round, address indexed witness, uint8 faults, address accuser
    );

    /// Register first: PeerRegistry.register or registerFor.
    error NotRegistered(address peer);
    /// Ask the swarm's author to admit it, or post the swarm's bond: PeerRegistry.postBond.
    error NotAdmitted(address peer);
    /// The swarm admits this peer: only itself can leave.
    error StillAdmitted(address peer);
    /// Join first: joinSwarm or joinSwarmFor.
    error NotAMember(address peer);
    /// It signed two cards for one round too often: it is no witness of this swarm any more.
    error Barred(address peer, uint8 faults);
    /// The author has paused it: wait for SwarmPaused(swarm, false).
    error Paused(bytes32 swarm);
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
    /// A card has one score, of four bytes, for each peer.
    error ScoreCount(address witness, uint256 bytesGiven, uint256 peers);
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
    /// Commit the cards' seals first: sealCards.
    error CardsNotSealed(uint64 round);
    /// Nothing to do: reveal the sealed cards with settle.
    error CardsAlreadySealed(uint64 round);
    /// This swarm's cards are not sealed: settle at once.
    error CardsNeedNoSeal(uint64 round);
    /// Give the seals as they were committed, in the committee's order, zero for the absent.
    error OtherSeals(bytes32 root);
    /// This card is not the one its witness sealed.
    error OtherCard(address witness);
    /// The proof does not lead from this score to the round's root.
    error NotInRound(uint64 round, address peer);
    /// Nothing to do: the peer's standing is as new as this round or newer.
    error AlreadyApplied(uint64 round, address peer);
    /// Two cards that say the same prove nothing.
    error SameCard(address witness);
    /// Nothing to do: this fault is recorded.
    error AlreadyDisputed(uint64 round, address witness);
}
