// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {IPeerRegistry, IReputationLedger} from "./IMurmuration.sol";

/// The settled rounds of any number of swarms. Nobody owns it and nobody is asked:
/// anyone may create a swarm, open its next round, relay its witnesses' signatures,
/// or void a round that gathered too few.
contract ReputationLedger is IReputationLedger, EIP712 {
    /// "I did not score this peer", and what a witness writes for itself.
    uint32 public constant UNSCORED = type(uint32).max;
    uint32 public constant PPM = 1_000_000;
    uint256 public constant COMMITTEE_LIMIT = 16;
    /// Rounds in a row a witness may miss before it is no longer drawn.
    uint8 public constant MISSES_LIMIT = 2;
    /// A settled round moves a reputation by a sixteenth of the way to its score.
    uint256 public constant SMOOTHING = 16;
    /// A settled round without the peer costs it one part in 64.
    uint256 public constant DECAY = 64;
    /// How many rounds an unclocked swarm may skip at once.
    uint64 public constant SKIP_LIMIT = 4096;
    /// A relayed check-in names a round at most this many behind the last opened.
    uint64 public constant CHECK_IN_WINDOW = 2;

    uint256 private constant ONE = 1e18;

    bytes32 private constant SCORECARD =
        keccak256("Scorecard(bytes32 swarm,uint64 round,bytes32 included,address[] peers,uint32[] scores)");
    bytes32 private constant JOIN = keccak256("Join(bytes32 swarm,address peer)");
    bytes32 private constant CHECK_IN = keccak256("CheckIn(bytes32 swarm,address peer,uint64 round)");

    IPeerRegistry public immutable registry;

    /// A peer in a swarm: one storage slot.
    struct Member {
        /// 1 + its place in `_members`; 0: never joined.
        uint32 number;
        /// 1 + its place in `_active`; 0: not drawn.
        uint32 seat;
        uint8 missed;
        uint32 reputation;
        uint32 rounds;
        /// `settledRounds` when `reputation` was last brought up to date.
        uint32 asOf;
    }

    struct Round {
        uint64 openedAt;
        uint64 openedBlock;
        Status status;
        uint8 size;
        /// Committee places whose signature has been counted, one bit each.
        uint16 signed;
        bytes32 beacon;
        bytes32 included;
        /// The committee, as places in `_members`: eight to a slot.
        uint32[16] committee;
    }

    mapping(bytes32 swarm => Swarm) private _swarms;
    mapping(bytes32 swarm => mapping(uint64 round => Round)) private _rounds;
    mapping(bytes32 swarm => mapping(address peer => Member)) private _standing;
    mapping(bytes32 swarm => address[]) private _members;
    mapping(bytes32 swarm => uint32[]) private _active;

    constructor(IPeerRegistry registry_) EIP712("Murmuration", "1") {
        registry = registry_;
    }

    // ---------------------------------------------------------------- membership

    /// Creates a swarm, or does nothing if it is there: its id follows from its terms.
    function createSwarm(bytes32 manifest, Terms calldata terms) external returns (bytes32 swarm) {
        swarm = swarmId(manifest, terms);
        Swarm storage s = _swarms[swarm];
        if (s.manifest != 0) return swarm;
        if (manifest == 0) revert EmptyManifest();
        s.manifest = manifest;
        s.terms = terms;
        s.createdAt = uint64(block.timestamp);
        s.root = swarm;
        emit SwarmCreated(swarm, manifest, terms);
    }

    function joinSwarm(bytes32 swarm) external {
        _join(swarm, msg.sender);
    }

    function joinSwarmFor(bytes32 swarm, address peer, bytes calldata signature) external {
        _requireSigned(peer, keccak256(abi.encode(JOIN, swarm, peer)), signature);
        _join(swarm, peer);
    }

    /// "I am here": after missed rounds, makes a member eligible for committees again.
    function checkIn(bytes32 swarm) external {
        _checkIn(swarm, msg.sender);
    }

    /// As `checkIn`, relayed. The signature names a recent round, so that it cannot be
    /// used for ever to keep a dead peer in committees.
    function checkInFor(bytes32 swarm, address peer, uint64 round, bytes calldata signature) external {
        uint64 next = _swarm(swarm).nextRound;
        if (round >= next || next - 1 - round > CHECK_IN_WINDOW) revert StaleCheckIn(round, next);
        _requireSigned(peer, keccak256(abi.encode(CHECK_IN, swarm, peer, round)), signature);
        _checkIn(swarm, peer);
    }

    // -------------------------------------------------------------------- rounds

    /// Opens a round: fixes its beacon and draws its committee.
    function openRound(bytes32 swarm, uint64 round) external returns (bytes32 beacon) {
        Swarm storage s = _swarm(swarm);
        Round storage r = _rounds[swarm][round];
        if (r.status != Status.Unopened) revert RoundAlreadyOpened(round);
        if (round < s.nextRound) revert RoundPassed(round, s.nextRound);
        _requireTimely(s, round);

        beacon = keccak256(abi.encode(block.prevrandao, blockhash(block.number - 1), swarm, round, s.root));
        uint32[] memory drawn = _draw(swarm, beacon);
        address[] memory committee = new address[](drawn.length);
        for (uint256 i = 0; i < drawn.length; ++i) {
            r.committee[i] = drawn[i];
            committee[i] = _members[swarm][drawn[i]];
        }
        r.size = uint8(drawn.length);
        r.status = Status.Opened;
        r.openedAt = uint64(block.timestamp);
        r.openedBlock = uint64(block.number);
        r.beacon = beacon;
        s.nextRound = round + 1;
        s.lastOpenedAt = uint64(block.timestamp);
        emit RoundOpened(swarm, round, beacon, committee);
    }

    /// Records the scores that more than two thirds of the committee signed. `peers` are
    /// those scored, sorted; every card speaks of the same `included` and `peers`.
    function settle(
        bytes32 swarm,
        uint64 round,
        bytes32 included,
        address[] calldata peers,
        Scorecard[] calldata cards
    ) external {
        Round storage r = _openedRound(swarm, round);
        address[] memory committee = _committee(swarm, r);
        uint256 present = _verifyCards(swarm, round, included, peers, cards, committee);
        if (3 * cards.length <= 2 * committee.length) revert NoQuorum(cards.length, committee.length);

        _countPresence(swarm, round, r, committee, present);
        r.status = Status.Settled;
        r.included = included;
        bytes32 scoresHash = _scorePeers(swarm, round, peers, cards);

        Swarm storage s = _swarms[swarm];
        s.settledRounds += 1;
        s.root = keccak256(abi.encode(s.root, round, included, scoresHash));
        address[] memory witnesses = new address[](cards.length);
        for (uint256 c = 0; c < cards.length; ++c) {
            witnesses[c] = cards[c].witness;
        }
        emit RoundSettled(swarm, round, included, msg.sender, witnesses, s.root);
    }

    /// Gives up on a round that gathered no quorum in time. The ballots of those who did
    /// sign, agreeing or not, save them from a missed round; ballots left out can be
    /// brought later, and a quorum that turns up after all still settles.
    function voidRound(bytes32 swarm, uint64 round, Ballot[] calldata ballots) external {
        Round storage r = _openedRound(swarm, round);
        uint256 voidableAt = uint256(r.openedAt) + _swarms[swarm].terms.settleTimeout;
        if (block.timestamp < voidableAt) revert VoidedTooSoon(round, voidableAt);

        address[] memory committee = _committee(swarm, r);
        uint256 present = 0;
        for (uint256 b = 0; b < ballots.length; ++b) {
            Ballot calldata ballot = ballots[b];
            bytes32 card = keccak256(
                abi.encode(SCORECARD, swarm, round, ballot.included, ballot.peersHash, ballot.scoresHash)
            );
            present = _admit(present, committee, ballot.witness, card, ballot.signature);
        }
        if (r.status == Status.Voided && present & ~uint256(r.signed) == 0) revert AlreadyVoided(round);
        bool first = r.status == Status.Opened;
        _countPresence(swarm, round, r, committee, present);
        r.status = Status.Voided;
        if (first) emit RoundVoided(swarm, round, msg.sender);
    }

    // --------------------------------------------------------------------- views

    function swarmId(bytes32 manifest, Terms calldata terms) public pure returns (bytes32) {
        return keccak256(abi.encode(manifest, terms));
    }

    function getSwarm(bytes32 swarm) external view returns (Swarm memory) {
        return _swarm(swarm);
    }

    function getRound(bytes32 swarm, uint64 round) external view returns (RoundView memory) {
        Round storage r = _rounds[swarm][round];
        return RoundView(r.status, r.openedAt, r.openedBlock, r.beacon, r.included, _committee(swarm, r));
    }

    function standing(bytes32 swarm, address peer) public view returns (Standing memory) {
        Member storage m = _standing[swarm][peer];
        uint32 settled = _swarms[swarm].settledRounds;
        return Standing(peer, m.number != 0, m.seat != 0, m.missed, _decayed(m, settled), m.rounds);
    }

    function memberCount(bytes32 swarm) external view returns (uint256) {
        return _members[swarm].length;
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

    // ------------------------------------------------------------------ internals

    function _swarm(bytes32 swarm) private view returns (Swarm storage s) {
        s = _swarms[swarm];
        if (s.manifest == 0) revert UnknownSwarm(swarm);
    }

    function _openedRound(bytes32 swarm, uint64 round) private view returns (Round storage r) {
        _swarm(swarm);
        r = _rounds[swarm][round];
        if (r.status == Status.Unopened) revert RoundNotOpened(round);
        if (r.status == Status.Settled) revert AlreadySettled(round);
    }

    function _requireSigned(address signer, bytes32 structHash, bytes calldata signature) private view {
        (address found, ECDSA.RecoverError fault,) = ECDSA.tryRecover(_hashTypedDataV4(structHash), signature);
        if (fault != ECDSA.RecoverError.NoError || found != signer) revert BadSignature(signer);
    }

    /// A round number cannot outrun the clock, or anybody could use the numbers up.
    function _requireTimely(Swarm storage s, uint64 round) private view {
        Terms memory terms = s.terms;
        if (terms.roundLength != 0) {
            uint256 startsAt = terms.genesis + uint256(round) * terms.roundLength;
            if (block.timestamp < startsAt) revert RoundNotStarted(round, startsAt);
        } else if (round - s.nextRound > SKIP_LIMIT) {
            revert RoundTooFar(round, s.nextRound + SKIP_LIMIT);
        }
        uint256 opensAt = uint256(s.lastOpenedAt) + terms.minInterval;
        if (s.lastOpenedAt != 0 && block.timestamp < opensAt) revert OpenedTooSoon(round, opensAt);
    }

    /// A uniform draw without repetition (Floyd's), from those eligible; from all
    /// members if none is. Its cost does not grow with the swarm.
    function _draw(bytes32 swarm, bytes32 beacon) private view returns (uint32[] memory drawn) {
        uint32[] storage active = _active[swarm];
        bool none = active.length == 0;
        uint256 pool = none ? _members[swarm].length : active.length;
        if (pool == 0) revert NoMembers(swarm);
        uint256 size = pool < COMMITTEE_LIMIT ? pool : COMMITTEE_LIMIT;
        drawn = new uint32[](size);
        for (uint256 i = 0; i < size; ++i) {
            uint256 last = pool - size + i;
            uint256 pick = uint256(keccak256(abi.encode(beacon, i))) % (last + 1);
            for (uint256 k = 0; k < i; ++k) {
                if (drawn[k] == pick) {
                    pick = last;
                    break;
                }
            }
            drawn[i] = uint32(pick);
        }
        if (!none) {
            for (uint256 i = 0; i < size; ++i) {
                drawn[i] = active[drawn[i]];
            }
        }
    }

    function _committee(bytes32 swarm, Round storage r) private view returns (address[] memory committee) {
        committee = new address[](r.size);
        for (uint256 i = 0; i < committee.length; ++i) {
            committee[i] = _members[swarm][r.committee[i]];
        }
    }

    function _verifyCards(
        bytes32 swarm,
        uint64 round,
        bytes32 included,
        address[] calldata peers,
        Scorecard[] calldata cards,
        address[] memory committee
    ) private view returns (uint256 present) {
        for (uint256 p = 1; p < peers.length; ++p) {
            if (peers[p] <= peers[p - 1]) revert PeersNotSorted(p);
        }
        bytes32 peersHash = keccak256(abi.encodePacked(peers));
        for (uint256 c = 0; c < cards.length; ++c) {
            Scorecard calldata card = cards[c];
            if (card.scores.length != peers.length) {
                revert ScoreCount(card.witness, card.scores.length, peers.length);
            }
            bytes32 scoresHash = keccak256(abi.encodePacked(card.scores));
            bytes32 structHash = keccak256(abi.encode(SCORECARD, swarm, round, included, peersHash, scoresHash));
            present = _admit(present, committee, card.witness, structHash, card.signature);
        }
    }

    /// Checks one signature and returns `present` with the witness's place marked.
    function _admit(
        uint256 present,
        address[] memory committee,
        address witness,
        bytes32 structHash,
        bytes calldata signature
    ) private view returns (uint256) {
        _requireSigned(witness, structHash, signature);
        for (uint256 i = 0; i < committee.length; ++i) {
            if (committee[i] == witness) {
                if (present & (1 << i) != 0) revert DuplicateWitness(witness);
                return present | (1 << i);
            }
        }
        revert NotInCommittee(witness);
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
                if (m.missed >= MISSES_LIMIT) _unseat(swarm, m);
                emit WitnessMissed(swarm, round, committee[i], m.missed);
            }
        }
        r.signed = uint16(counted | present);
    }

    function _scorePeers(bytes32 swarm, uint64 round, address[] calldata peers, Scorecard[] calldata cards)
        private
        returns (bytes32)
    {
        uint32[] memory medians = new uint32[](peers.length);
        uint32 settled = _swarms[swarm].settledRounds;
        for (uint256 p = 0; p < peers.length; ++p) {
            (uint32 score, uint32 judges) = _median(peers[p], p, cards);
            Member storage m = _standing[swarm][peers[p]];
            uint32 reputation = _decayed(m, settled);
            if (judges != 0) {
                reputation = uint32((uint256(reputation) * (SMOOTHING - 1) + score) / SMOOTHING);
            }
            m.reputation = reputation;
            m.rounds += 1;
            m.asOf = settled + 1;
            medians[p] = score;
            emit PeerScored(swarm, round, peers[p], score, judges, reputation);
        }
        return keccak256(abi.encode(peers, medians));
    }

    /// The lower median of what the others say of `peer`.
    function _median(address peer, uint256 p, Scorecard[] calldata cards)
        private
        pure
        returns (uint32 score, uint32 judges)
    {
        uint32[16] memory sorted;
        for (uint256 c = 0; c < cards.length; ++c) {
            uint32 given = cards[c].scores[p];
            if (cards[c].witness == peer || given == UNSCORED) continue;
            if (given > PPM) revert ScoreOutOfRange(cards[c].witness, given);
            uint256 place = judges;
            while (place > 0 && sorted[place - 1] > given) {
                sorted[place] = sorted[place - 1];
                --place;
            }
            sorted[place] = given;
            ++judges;
        }
        if (judges != 0) score = sorted[(judges - 1) / 2];
    }

    /// The reputation after the settled rounds since `asOf` that did not include the peer.
    function _decayed(Member storage m, uint32 settled) private view returns (uint32) {
        uint256 reputation = m.reputation;
        uint256 absent = settled - m.asOf;
        if (reputation == 0 || absent == 0) return uint32(reputation);
        uint256 factor = ONE;
        uint256 base = ONE * (DECAY - 1) / DECAY;
        for (; absent != 0; absent >>= 1) {
            if (absent & 1 != 0) factor = factor * base / ONE;
            base = base * base / ONE;
        }
        return uint32(reputation * factor / ONE);
    }

    function _join(bytes32 swarm, address peer) private {
        _swarm(swarm);
        if (!registry.isRegistered(peer)) revert NotRegistered(peer);
        Member storage m = _standing[swarm][peer];
        if (m.number != 0) return;
        _members[swarm].push(peer);
        m.number = uint32(_members[swarm].length);
        _seat(swarm, m);
        emit PeerJoined(swarm, peer, msg.sender);
    }

    function _checkIn(bytes32 swarm, address peer) private {
        Member storage m = _standing[swarm][peer];
        if (m.number == 0) revert NotAMember(peer);
        _seat(swarm, m);
        emit PeerCheckedIn(swarm, peer, msg.sender);
    }

    function _seat(bytes32 swarm, Member storage m) private {
        if (m.missed != 0) m.missed = 0;
        if (m.seat == 0) {
            _active[swarm].push(m.number - 1);
            m.seat = uint32(_active[swarm].length);
        }
    }

    function _unseat(bytes32 swarm, Member storage m) private {
        if (m.seat == 0) return;
        uint32[] storage active = _active[swarm];
        uint32 moved = active[active.length - 1];
        active[m.seat - 1] = moved;
        _standing[swarm][_members[swarm][moved]].seat = m.seat;
        active.pop();
        m.seat = 0;
    }
}
