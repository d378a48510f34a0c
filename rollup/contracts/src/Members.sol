// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {IPeerRegistry, IReputationLedger, ISwarmRegistry} from "./IMurmuration.sol";

/// Who is in a swarm, who can be drawn as a witness, and the draw.
abstract contract Members is IReputationLedger, EIP712 {
    uint256 public constant COMMITTEE_LIMIT = 16;
    /// Rounds in a row a witness may miss before it is no longer drawn.
    uint8 public constant MISSES_LIMIT = 2;
    /// Proven faults after which a member is never a witness again.
    uint8 public constant FAULTS_LIMIT = 3;
    /// A relayed check-in names a round at most this many behind the last opened.
    uint64 public constant CHECK_IN_WINDOW = 2;

    bytes32 private constant JOIN = keccak256("Join(bytes32 swarm,address peer)");
    bytes32 private constant CHECK_IN = keccak256("CheckIn(bytes32 swarm,address peer,uint64 round)");

    IPeerRegistry public immutable registry;
    ISwarmRegistry public immutable swarms;

    /// A peer in a swarm: one storage slot.
    struct Member {
        /// 1 + its place in `_members`; 0: never joined.
        uint32 number;
        /// 1 + its place in `_active`; 0: not drawn.
        uint32 seat;
        uint8 missed;
        uint8 faults;
        uint32 reputation;
        uint32 uncertainty;
        uint32 weight;
        uint32 rounds;
        /// Settled rounds when `reputation` was last brought up to date.
        uint32 asOf;
    }

    /// Where those are in their slot that a settlement moves, and a mask of all others.
    uint256 internal constant REPUTATION_BIT = 80;
    uint256 internal constant UNCERTAINTY_BIT = 112;
    uint256 internal constant ROUNDS_BIT = 176;
    uint256 internal constant AS_OF_BIT = 208;
    uint256 internal constant KEPT = ~((uint256(type(uint64).max) << REPUTATION_BIT)
        | (uint256(type(uint32).max) << AS_OF_BIT));

    mapping(bytes32 swarm => SwarmState) internal _states;
    mapping(bytes32 swarm => mapping(address peer => Member)) internal _standing;
    mapping(bytes32 swarm => address[]) internal _members;
    /// Places in `_members` of those eligible: first those that can be drawn at the next
    /// opening, then those that became eligible since the last.
    mapping(bytes32 swarm => uint32[]) private _active;

    constructor(IPeerRegistry registry_, ISwarmRegistry swarms_) EIP712("Murmuration", "1") {
        registry = registry_;
        swarms = swarms_;
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
        uint64 next = _states[swarm].nextRound;
        if (round >= next || next - 1 - round > CHECK_IN_WINDOW) revert StaleCheckIn(round, next);
        _requireSigned(peer, keccak256(abi.encode(CHECK_IN, swarm, peer, round)), signature);
        _checkIn(swarm, peer);
    }

    /// Is no longer drawn, until it checks in again. What it has earned stays, and fades.
    function leaveSwarm(bytes32 swarm) external {
        _leave(swarm, msg.sender);
    }

    /// The same for a member that its swarm does not admit any more; anybody may say so.
    function evict(bytes32 swarm, address peer) external {
        if (swarms.admits(swarm, peer)) revert StillAdmitted(peer);
        _leave(swarm, peer);
    }

    function memberCount(bytes32 swarm) external view returns (uint256) {
        return _members[swarm].length;
    }

    // ----------------------------------------------------------------- internals

    function _requireSigned(address signer, bytes32 structHash, bytes calldata signature) internal view {
        (address found, ECDSA.RecoverError fault,) = ECDSA.tryRecoverCalldata(_hashTypedDataV4(structHash), signature);
        if (fault != ECDSA.RecoverError.NoError || found != signer) revert BadSignature(signer);
    }

    function _join(bytes32 swarm, address peer) private {
        if (!swarms.admits(swarm, peer)) revert NotAdmitted(peer);
        if (!registry.isRegistered(peer)) revert NotRegistered(peer);
        Member storage m = _standing[swarm][peer];
        if (m.number != 0) return;
        _members[swarm].push(peer);
        m.number = uint32(_members[swarm].length);
        m.uncertainty = 1_000_000;
        _seat(swarm, m);
        emit PeerJoined(swarm, peer, msg.sender);
    }

    function _checkIn(bytes32 swarm, address peer) private {
        Member storage m = _standing[swarm][peer];
        if (m.number == 0) revert NotAMember(peer);
        if (m.faults >= FAULTS_LIMIT) revert Barred(peer, m.faults);
        if (!swarms.admits(swarm, peer)) revert NotAdmitted(peer);
        _seat(swarm, m);
        emit PeerCheckedIn(swarm, peer, msg.sender);
    }

    function _leave(bytes32 swarm, address peer) private {
        Member storage m = _standing[swarm][peer];
        if (m.number == 0) revert NotAMember(peer);
        _unseat(swarm, m);
        emit PeerLeft(swarm, peer, msg.sender);
    }

    /// A uniform draw without repetition (Floyd's). Whoever became eligible since the
    /// last opening waits for the next, or the one who opens a round could join accounts
    /// in the same block until the draw suits it. If nobody can be drawn, all that are
    /// eligible are, and if nobody is, all members. Costs the same however large the swarm.
    function _draw(bytes32 swarm, bytes32 beacon) internal returns (uint32[] memory drawn) {
        uint32[] storage active = _active[swarm];
        uint256 eligible = active.length;
        uint256 pool = _states[swarm].drawable;
        if (pool == 0) pool = eligible;
        if (pool == 0) pool = _members[swarm].length;
        if (pool == 0) revert NoMembers(swarm);
        _states[swarm].drawable = uint32(eligible);
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
        if (eligible != 0) {
            for (uint256 i = 0; i < size; ++i) {
                drawn[i] = active[drawn[i]];
            }
        }
    }

    /// Makes a member eligible, unless it has been barred.
    function _seat(bytes32 swarm, Member storage m) internal {
        if (m.missed != 0) m.missed = 0;
        if (m.seat == 0 && m.faults < FAULTS_LIMIT) {
            _active[swarm].push(m.number - 1);
            m.seat = uint32(_active[swarm].length);
        }
    }

    /// Takes a member out of those eligible; those that can be drawn stay in front.
    function _unseat(bytes32 swarm, Member storage m) internal {
        if (m.seat == 0) return;
        uint32[] storage active = _active[swarm];
        uint256 hole = m.seat - 1;
        uint256 drawable = _states[swarm].drawable;
        if (hole < drawable) {
            --drawable;
            _states[swarm].drawable = uint32(drawable);
            _move(swarm, active, drawable, hole);
            hole = drawable;
        }
        _move(swarm, active, active.length - 1, hole);
        active.pop();
        m.seat = 0;
    }

    function _move(bytes32 swarm, uint32[] storage active, uint256 from, uint256 to) private {
        if (from == to) return;
        uint32 moved = active[from];
        active[to] = moved;
        _standing[swarm][_members[swarm][moved]].seat = uint32(to + 1);
    }
}
