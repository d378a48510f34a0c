// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {MerkleProof} from "@openzeppelin/contracts/utils/cryptography/MerkleProof.sol";
import {IPeerRegistry, ISwarmRegistry} from "./IMurmuration.sol";
import {Members} from "./Members.sol";
import {Scores} from "./Scores.sol";

/// The settled rounds of any number of swarms. Nobody owns it and nobody is asked:
/// anyone may open a swarm's next round, relay its witnesses' signatures, prove that a
/// witness signed twice, or void a round that gathered too few.
///
/// It cannot be changed, and holds nothing. A ledger that could be upgraded, even behind
/// a timelock, would be as honest as whoever holds the key to it; a mistake in this one is
/// left behind by deploying another beside it, to which swarms and peers move by choice.
contract ReputationLedger is Members {
    /// "I did not score this peer", and what a witness writes for itself.
    uint32 public constant UNSCORED = Scores.UNSCORED;
    uint32 public constant PPM = Scores.PPM;
    /// A settled round moves a reputation, its uncertainty and a weight by a sixteenth
    /// of the way.
    uint256 public constant SMOOTHING = 16;
    /// A settled round without the peer costs its reputation one part in 64.
    uint256 public constant DECAY = 64;
    /// How far from the medians a witness may be on average, where witnesses differ, and
    /// still be right.
    uint256 public constant TOLERANCE = 100_000;
    /// How many rounds an unclocked swarm may skip at once.
    uint64 public constant SKIP_LIMIT = 4096;

    uint256 private constant ONE = 1e18;

    bytes32 private constant SCORECARD =
        keccak256("Scorecard(bytes32 swarm,uint64 round,bytes32 included,address[] peers,uint32[] scores)");
    bytes32 private constant ROOT_CARD =
        keccak256("RootCard(bytes32 swarm,uint64 round,bytes32 included,uint32 peers,bytes32 scores)");
    bytes32 private constant SEAL = keccak256("Seal(bytes32 swarm,uint64 round,bytes32 seal)");

    struct Round {
        uint48 openedAt;
        uint48 openedBlock;
        uint48 voidableAt;
        Status status;
        uint8 size;
        /// Committee places whose signature has been counted, one bit each.
        uint16 signed;
        bool sealCards;
        uint32 index;
        bytes32 beacon;
        bytes32 scores;
        bytes32 seals;
        /// The committee, as places in `_members`: eight to a slot.
        uint32[16] committee;
    }

    mapping(bytes32 swarm => mapping(uint64 round => Round)) private _rounds;
    mapping(bytes32 swarm => mapping(uint64 round => mapping(address witness => bool))) private _disputed;

    constructor(IPeerRegistry registry_, ISwarmRegistry swarms_) Members(registry_, swarms_) {}

    // ------------------------------------------------------------------- opening

    /// Opens a round: fixes its beacon and draws its committee. Both follow from the block
    /// alone, so that of all who open it in one block none has a choice.
    function openRound(bytes32 swarm, uint64 round) external returns (bytes32 beacon) {
        (ISwarmRegistry.Terms memory terms, bool paused) = swarms.terms(swarm);
        SwarmState storage s = _states[swarm];
        Round storage r = _rounds[swarm][round];
        if (r.status != Status.Unopened) revert RoundAlreadyOpened(round);
        if (round < s.nextRound) revert RoundPassed(round, s.nextRound);
        if (paused) revert Paused(swarm);
        _requireTimely(s, terms, round);

        beacon = keccak256(abi.encode(block.prevrandao, blockhash(block.number - 1), swarm, round));
        uint32[] memory drawn = _draw(swarm, beacon);
        address[] memory committee = new address[](drawn.length);
        for (uint256 i = 0; i < drawn.length; ++i) {
            r.committee[i] = drawn[i];
            committee[i] = _members[swarm][drawn[i]];
        }
        r.size = uint8(drawn.length);
        r.status = Status.Opened;
        r.sealCards = terms.sealCards;
        r.openedAt = uint48(block.timestamp);
        r.openedBlock = uint48(block.number);
        r.voidableAt = uint48(block.timestamp + terms.settleTimeout);
        r.beacon = beacon;
        s.nextRound = round + 1;
        s.lastOpenedAt = uint64(block.timestamp);
        emit RoundOpened(swarm, round, beacon, committee);
    }

    /// Commits the cards that are to be revealed, where a swarm wants that: a card's seal is
    /// the hash of its witness's signature under it, which nobody can guess. More than two
    /// thirds of the committee must have sealed; only what is sealed here counts later.
    function sealCards(bytes32 swarm, uint64 round, Vote[] calldata votes) external {
        Round storage r = _openRound(swarm, round);
        if (!r.sealCards) revert CardsNeedNoSeal(round);
        if (r.seals != 0) revert CardsAlreadySealed(round);
        address[] memory committee = _committee(swarm, r);
        bytes32[] memory seals = new bytes32[](committee.length);
        address[] memory witnesses = new address[](votes.length);
        uint256 present = 0;
        for (uint256 v = 0; v < votes.length; ++v) {
            Vote calldata vote = votes[v];
            bytes32 structHash = keccak256(abi.encode(SEAL, swarm, round, vote.seal));
            uint256 place;
            (present, place) = _count(present, committee, vote.witness, structHash, vote.signature);
            seals[place] = vote.seal;
            witnesses[v] = vote.witness;
        }
        _requireQuorum(votes.length, committee.length);
        r.seals = Scores.merkleRoot(seals);
        emit CardsSealed(swarm, round, r.seals, witnesses, msg.sender);
    }

    // ------------------------------------------------------------------ settling

    /// Records the scores that more than two thirds of the committee signed. `peers` are
    /// those scored, sorted; every card speaks of the same `included` and `peers`. Where
    /// cards are sealed, `seals` are all that were committed, in the committee's order.
    function settle(
        bytes32 swarm,
        uint64 round,
        bytes32 included,
        address[] calldata peers,
        Scorecard[] calldata cards,
        bytes32[] calldata seals
    ) external {
        Round storage r = _openRound(swarm, round);
        _requireSeals(round, r, seals);
        Scores.Panel memory panel = Scores.panel(_committee(swarm, r), cards.length, peers.length);
        _read(
            [SCORECARD, swarm, bytes32(uint256(round)), included, Scores.hashPeers(peers), 0],
            peers,
            cards,
            seals,
            panel
        );
        _countPresence(swarm, round, r, panel.committee, panel.present);
        bytes32 scores = _score(swarm, round, peers, cards, panel);
        _close(swarm, round, r, included, scores, panel.witnesses);
    }

    /// Records only the root of the scores, which more than two thirds of the committee
    /// signed alike: for swarms so large that every peer's own line would cost too much.
    /// Anybody can bring a peer's line later: applyScore.
    function settleRoot(
        bytes32 swarm,
        uint64 round,
        bytes32 included,
        uint32 peers,
        bytes32 scores,
        Vote[] calldata votes
    ) external {
        Round storage r = _openRound(swarm, round);
        address[] memory committee = _committee(swarm, r);
        _requireQuorum(votes.length, committee.length);
        bytes32 structHash = keccak256(abi.encode(ROOT_CARD, swarm, round, included, peers, scores));
        address[] memory witnesses = new address[](votes.length);
        uint256 present = 0;
        for (uint256 v = 0; v < votes.length; ++v) {
            (present,) = _count(present, committee, votes[v].witness, structHash, votes[v].signature);
            witnesses[v] = votes[v].witness;
        }
        _countPresence(swarm, round, r, committee, present);
        emit RootSettled(swarm, round, peers);
        _close(swarm, round, r, included, scores, witnesses);
    }

    /// Brings a peer's line of a root-settled round on chain: its standing follows, unless
    /// it is as new already.
    function applyScore(bytes32 swarm, uint64 round, Score calldata score, bytes32[] calldata proof) external {
        Round storage r = _rounds[swarm][round];
        if (!isScore(swarm, round, score, proof)) revert NotInRound(round, score.peer);
        Member storage m = _standing[swarm][score.peer];
        if (m.number == 0) revert NotAMember(score.peer);
        if (r.index < m.asOf) revert AlreadyApplied(round, score.peer);
        m.reputation = score.reputation;
        m.uncertainty = score.uncertainty;
        m.rounds += 1;
        m.asOf = r.index + 1;
        emit ScoreApplied(swarm, round, score.peer, score.score, score.reputation, score.uncertainty);
    }

    /// Gives up on a round that gathered no quorum in time. The ballots of those who did
    /// sign, agreeing or not, save them from a missed round; ballots left out can be
    /// brought later, and a quorum that turns up after all still settles.
    function voidRound(bytes32 swarm, uint64 round, Ballot[] calldata ballots) external {
        Round storage r = _openRound(swarm, round);
        if (block.timestamp < r.voidableAt) revert VoidedTooSoon(round, r.voidableAt);

        address[] memory committee = _committee(swarm, r);
        uint256 present = 0;
        for (uint256 b = 0; b < ballots.length; ++b) {
            Ballot calldata ballot = ballots[b];
            (present,) =
                _count(present, committee, ballot.witness, _hashBallot(swarm, round, ballot), ballot.signature);
        }
        if (r.status == Status.Voided && present & ~uint256(r.signed) == 0) revert AlreadyVoided(round);
        bool first = r.status == Status.Opened;
        _countPresence(swarm, round, r, committee, present);
        r.status = Status.Voided;
        if (first) emit RoundVoided(swarm, round, msg.sender);
    }

    /// Proves that a witness signed two different cards for one round: its word weighs
    /// nothing until it has earned that again, and its reputation is halved.
    function dispute(bytes32 swarm, uint64 round, Ballot calldata one, Ballot calldata other) external {
        address witness = one.witness;
        bytes32 first = _hashBallot(swarm, round, one);
        bytes32 second = _hashBallot(swarm, round, other);
        if (first == second) revert SameCard(witness);
        _requireSigned(witness, first, one.signature);
        _requireSigned(witness, second, other.signature);
        _placeOf(_committee(swarm, _rounds[swarm][round]), witness);
        if (_disputed[swarm][round][witness]) revert AlreadyDisputed(round, witness);
        _disputed[swarm][round][witness] = true;

        Member storage m = _standing[swarm][witness];
        uint32 settled = _states[swarm].settledRounds;
        (uint256 reputation, uint256 uncertainty) = _current(m, settled);
        m.reputation = uint32(reputation / 2);
        m.uncertainty = uint32(uncertainty);
        m.asOf = settled;
        m.weight = 0;
        if (m.faults < type(uint8).max) m.faults += 1;
        _unseat(swarm, m);
        emit WitnessFaulted(swarm, round, witness, m.faults, msg.sender);
    }

    // --------------------------------------------------------------------- views

    function getState(bytes32 swarm) external view returns (SwarmState memory) {
        return _states[swarm];
    }

    function getRound(bytes32 swarm, uint64 round) external view returns (RoundView memory) {
        Round storage r = _rounds[swarm][round];
        return RoundView(
            r.status,
            r.openedAt,
            r.openedBlock,
            r.voidableAt,
            r.index,
            r.sealCards,
            r.beacon,
            r.scores,
            r.seals,
            _committee(swarm, r)
        );
    }

    /// Whether a settled round says this of a peer.
    function isScore(bytes32 swarm, uint64 round, Score calldata score, bytes32[] calldata proof)
        public
        view
        returns (bool)
    {
        Round storage r = _rounds[swarm][round];
        bytes32 leaf = Scores.leaf(score.peer, score.score, score.reputation, score.uncertainty);
        return r.status == Status.Settled && MerkleProof.verifyCalldata(proof, r.scores, leaf);
    }

    function standing(bytes32 swarm, address peer) public view returns (Standing memory) {
        Member storage m = _standing[swarm][peer];
        (uint256 reputation, uint256 uncertainty) = _current(m, _states[swarm].settledRounds);
        return Standing(
            peer,
            m.number != 0,
            m.seat != 0,
            m.missed,
            m.faults,
            uint32(reputation),
            uint32(uncertainty),
            m.weight,
            m.rounds
        );
    }

    /// Members in order of joining, a page at a time.
    function standings(bytes32 swarm, uint256 from, uint256 count) external view returns (Standing[] memory page) {
        uint256 total = _members[swarm].length;
        if (from >= total) return page;
        if (count > total - from) count = total - from;
        page = new Standing[](count);
        for (uint256 i = 0; i < count; ++i) {
            page[i] = standing(swarm, _members[swarm][from + i]);
        }
    }

    // ----------------------------------------------------------------- internals

    function _openRound(bytes32 swarm, uint64 round) private view returns (Round storage r) {
        r = _rounds[swarm][round];
        if (r.status == Status.Unopened) revert RoundNotOpened(round);
        if (r.status == Status.Settled) revert AlreadySettled(round);
    }

    /// A round number cannot outrun the clock, or anybody could use the numbers up.
    function _requireTimely(SwarmState storage s, ISwarmRegistry.Terms memory terms, uint64 round) private view {
        if (terms.roundLength != 0) {
            uint256 startsAt = terms.genesis + uint256(round) * terms.roundLength;
            if (block.timestamp < startsAt) revert RoundNotStarted(round, startsAt);
        } else if (round - s.nextRound > SKIP_LIMIT) {
            revert RoundTooFar(round, s.nextRound + SKIP_LIMIT);
        }
        uint256 opensAt = uint256(s.lastOpenedAt) + terms.minInterval;
        if (s.lastOpenedAt != 0 && block.timestamp < opensAt) revert OpenedTooSoon(round, opensAt);
    }

    function _committee(bytes32 swarm, Round storage r) private view returns (address[] memory committee) {
        committee = new address[](r.size);
        for (uint256 i = 0; i < committee.length; ++i) {
            committee[i] = _members[swarm][r.committee[i]];
        }
    }

    function _requireQuorum(uint256 signatures, uint256 committee) private pure {
        if (3 * signatures <= 2 * committee) revert NoQuorum(signatures, committee);
    }

    function _requireSeals(uint64 round, Round storage r, bytes32[] calldata seals) private view {
        if (!r.sealCards) {
            if (seals.length != 0) revert CardsNeedNoSeal(round);
            return;
        }
        if (r.seals == 0) revert CardsNotSealed(round);
        if (seals.length != r.size || Scores.merkleRoot(seals) != r.seals) revert OtherSeals(r.seals);
    }

    function _hashBallot(bytes32 swarm, uint64 round, Ballot calldata ballot) private pure returns (bytes32) {
        return keccak256(
            abi.encode(SCORECARD, swarm, round, ballot.included, ballot.peersHash, ballot.scoresHash)
        );
    }

    function _placeOf(address[] memory committee, address witness) private pure returns (uint256 place) {
        assembly ("memory-safe") {
            let end := mload(committee)
            for {} lt(place, end) { place := add(place, 1) } {
                committee := add(committee, 32)
                if eq(mload(committee), witness) { break }
            }
            if eq(place, end) { place := not(0) }
        }
        if (place == type(uint256).max) revert NotInCommittee(witness);
    }

    /// Checks one signature and returns `present` with the witness's place marked.
    function _count(
        uint256 present,
        address[] memory committee,
        address witness,
        bytes32 structHash,
        bytes calldata signature
    ) private view returns (uint256, uint256 place) {
        _requireSigned(witness, structHash, signature);
        place = _placeOf(committee, witness);
        if (present & (1 << place) != 0) revert DuplicateWitness(witness);
        return (present | (1 << place), place);
    }

    /// Checks every card and seats it. `typed` is what each signs, but for its own scores.
    function _read(
        bytes32[6] memory typed,
        address[] calldata peers,
        Scorecard[] calldata cards,
        bytes32[] calldata seals,
        Scores.Panel memory panel
    ) private view {
        _requireQuorum(cards.length, panel.committee.length);
        if (cards.length == 0) return;
        uint256 present = 0;
        for (uint256 c = 0; c < cards.length; ++c) {
            Scorecard calldata card = cards[c];
            typed[5] = Scores.seat(panel, c, card.witness, card.scores, peers);
            uint256 place;
            (present, place) = _count(present, panel.committee, card.witness, Scores.hashTyped(typed), card.signature);
            if (seals.length != 0 && seals[place] != keccak256(card.signature)) revert OtherCard(card.witness);
            panel.witnesses[c] = card.witness;
        }
        panel.present = present;
    }

    /// Those who signed are here; those who did not have missed one, counted once a round.
    function _countPresence(
        bytes32 swarm,
        uint64 round,
        Round storage r,
        address[] memory committee,
        uint256 present
    ) private {
        bool first = r.status == Status.Opened;
        uint256 counted = r.signed;
        for (uint256 i = 0; i < committee.length; ++i) {
            Member storage m = _standing[swarm][committee[i]];
            if (present & (1 << i) != 0) {
                if (counted & (1 << i) == 0) _seat(swarm, m);
            } else if (first) {
                if (m.missed < type(uint8).max) m.missed += 1;
                m.weight -= uint32(m.weight / SMOOTHING);
                if (m.missed >= MISSES_LIMIT) _unseat(swarm, m);
                emit WitnessMissed(swarm, round, committee[i], m.missed);
            }
        }
        r.signed = uint16(counted | present);
    }

    function _close(
        bytes32 swarm,
        uint64 round,
        Round storage r,
        bytes32 included,
        bytes32 scores,
        address[] memory witnesses
    ) private {
        SwarmState storage s = _states[swarm];
        r.status = Status.Settled;
        r.scores = scores;
        r.index = s.settledRounds;
        s.settledRounds += 1;
        s.root = keccak256(abi.encode(s.root, round, included, scores));
        emit RoundSettled(swarm, round, included, msg.sender, witnesses, scores, s.root);
    }

    /// Scores every peer, weighs every witness, and returns the root of what came of it.
    function _score(
        bytes32 swarm,
        uint64 round,
        address[] calldata peers,
        Scorecard[] calldata cards,
        Scores.Panel memory panel
    ) private returns (bytes32) {
        for (uint256 c = 0; c < cards.length; ++c) {
            panel.weights[c] = _standing[swarm][panel.witnesses[c]].weight;
        }
        Scores.clip(panel.weights);
        (bytes32[] memory leaves, bool judged) = _judge(swarm, round, peers, panel);
        for (uint256 c = 0; c < cards.length; ++c) {
            // Over how many peers it was judged with others that differed; who was of one mind
            // with all others was right, unless it hardly said anything.
            uint256 distance = panel.distances[c];
            uint256 compared = uint32(distance);
            if (compared != 0) _weigh(swarm, round, cards[c].witness, (distance >> 32) / compared);
            else if (judged && Scores.saysMuch(cards[c].scores)) _weigh(swarm, round, cards[c].witness, 0);
        }
        return Scores.merkleRoot(leaves);
    }

    /// Scores every peer, and says whether more than one judge was of one mind about any.
    function _judge(bytes32 swarm, uint64 round, address[] calldata peers, Scores.Panel memory panel)
        private
        returns (bytes32[] memory leaves, bool judged)
    {
        leaves = new bytes32[](peers.length);
        if (peers.length == 0) return (leaves, false);
        mapping(address => Member) storage members = _standing[swarm];
        uint256 settled = _states[swarm].settledRounds;
        uint256 eight = 0;
        for (uint256 p = 0; p < peers.length; ++p) {
            // Witnesses are mostly of one mind, which shows for eight peers at a time.
            eight = p & 7 == 0 ? Scores.agreed(panel, p >> 3) : eight << 32;
            uint256 score = eight >> 224;
            uint256 judges = panel.cards.length;
            bool unanimous = true;
            if (score == UNSCORED) {
                (score, judges, unanimous) = Scores.median(panel, p);
                if (!unanimous) Scores.compare(panel, p, score);
            } else if (score >> 31 != 0) {
                score = score << 225 >> 225;
                --judges;
            }
            if (unanimous && judges > 1) judged = true;
            leaves[p] = _record(swarm, round, peers[p], members, settled, score, judges);
        }
    }

    /// Moves a peer's reputation toward its score, and says so.
    function _record(
        bytes32 swarm,
        uint64 round,
        address peer,
        mapping(address => Member) storage members,
        uint256 settled,
        uint256 score,
        uint256 judges
    ) private returns (bytes32) {
        Member storage m = members[peer];
        // One slot, read once and written once: this is where a settlement's gas goes.
        uint256 word;
        assembly ("memory-safe") {
            word := sload(m.slot)
        }
        (uint256 reputation, uint256 uncertainty) = _moved(word, settled, score, judges);
        unchecked {
            // Nobody has been in more rounds than have settled.
            word = ((word & KEPT) + (1 << ROUNDS_BIT)) | (reputation << REPUTATION_BIT)
                | (uncertainty << UNCERTAINTY_BIT) | ((settled + 1) << AS_OF_BIT);
        }
        assembly ("memory-safe") {
            sstore(m.slot, word)
        }
        emit PeerScored(
            swarm, round, peer, uint32(score), uint32(judges), uint32(reputation), uint32(uncertainty)
        );
        return Scores.leaf(peer, score, reputation, uncertainty);
    }

    /// What a round's score makes of a member's reputation and uncertainty.
    function _moved(uint256 word, uint256 settled, uint256 score, uint256 judges)
        private
        pure
        returns (uint256 reputation, uint256 uncertainty)
    {
        (reputation, uncertainty) = (uint32(word >> REPUTATION_BIT), uint32(word >> UNCERTAINTY_BIT));
        unchecked {
            // All are parts per million, and no standing is of a round to come.
            uint256 absent = settled - uint32(word >> AS_OF_BIT);
            if (absent != 0) (reputation, uncertainty) = _decayed(reputation, uncertainty, absent);
            if (judges == 0) return (reputation, uncertainty);
            uint256 surprise = score > reputation ? score - reputation : reputation - score;
            uncertainty = (uncertainty * (SMOOTHING - 1) + surprise) / SMOOTHING;
            reputation = (reputation * (SMOOTHING - 1) + score) / SMOOTHING;
        }
    }

    /// A witness near the medians gains a sixteenth of what it lacks; one that is far off
    /// loses half of what it has.
    function _weigh(bytes32 swarm, uint64 round, address witness, uint256 deviation) private {
        Member storage m = _standing[swarm][witness];
        uint256 weight = m.weight;
        weight = deviation <= TOLERANCE ? weight + (PPM - weight) / SMOOTHING : weight / 2;
        m.weight = uint32(weight);
        emit WitnessWeighed(swarm, round, witness, uint32(deviation), uint32(weight));
    }

    function _current(Member storage m, uint32 settled) private view returns (uint256, uint256) {
        return _decayed(m.reputation, m.uncertainty, settled - m.asOf);
    }

    /// Reputation and uncertainty after so many settled rounds that did not include the
    /// peer: what is known of it fades, toward nothing known.
    function _decayed(uint256 reputation, uint256 uncertainty, uint256 absent)
        private
        pure
        returns (uint256, uint256)
    {
        uint256 factor = ONE;
        uint256 base = ONE * (DECAY - 1) / DECAY;
        for (; absent != 0; absent >>= 1) {
            if (absent & 1 != 0) factor = factor * base / ONE;
            base = base * base / ONE;
        }
        return (reputation * factor / ONE, PPM - (PPM - uncertainty) * factor / ONE);
    }
}
