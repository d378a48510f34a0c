// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IReputationLedger as I, ISwarmRegistry as IS} from "../src/IMurmuration.sol";
import {PeerRegistry} from "../src/PeerRegistry.sol";
import {SwarmRegistry} from "../src/SwarmRegistry.sol";
import {ReputationLedger} from "../src/ReputationLedger.sol";
import {Scores} from "../src/Scores.sol";

/// What is used of Foundry's cheat codes.
interface Vm {
    function addr(uint256 key) external pure returns (address);
    function sign(uint256 key, bytes32 digest) external pure returns (uint8 v, bytes32 r, bytes32 s);
    function warp(uint256 time) external;
    function roll(uint256 number) external;
    function prevrandao(bytes32 value) external;
    function chainId(uint256 id) external;
    function deal(address who, uint256 wei_) external;
    function prank(address sender) external;
    function expectRevert(bytes4 selector) external;
    function expectRevert(bytes calldata data) external;
    function expectPartialRevert(bytes4 selector) external;
    function assume(bool condition) external pure;
    function assertEq(uint256 left, uint256 right) external pure;
    function assertEq(uint256 left, uint256 right, string calldata why) external pure;
    function assertEq(address left, address right) external pure;
    function assertEq(bytes32 left, bytes32 right) external pure;
    function assertLe(uint256 left, uint256 right, string calldata why) external pure;
    function assertLe(uint256 left, uint256 right) external pure;
    function assertGe(uint256 left, uint256 right) external pure;
    function assertTrue(bool condition) external pure;
    function assertTrue(bool condition, string calldata why) external pure;
    function assertFalse(bool condition) external pure;
    function toString(uint256 value) external pure returns (string memory);
    function writeLine(string calldata path, string calldata line) external;
    function writeFile(string calldata path, string calldata text) external;
    function readFile(string calldata path) external view returns (string memory);
    function envOr(string calldata name, bool otherwise) external view returns (bool);
    function snapshotState() external returns (uint256);
    function revertToState(uint256 id) external returns (bool);
}

Vm constant vm = Vm(address(uint160(uint256(keccak256("hevm cheat code")))));

/// The contracts and a swarm of peers, sorted by address, whose keys are known.
abstract contract World {
    PeerRegistry internal registry;
    SwarmRegistry internal swarms;
    ReputationLedger internal ledger;
    bytes32 internal swarm;
    uint256[] internal keys;
    address[] internal peers;

    bytes32 internal constant MANIFEST = bytes32(uint256(1));
    bytes32 internal constant INCLUDED = bytes32(uint256(7));
    uint32 internal constant UNSCORED = type(uint32).max;

    function local() internal pure returns (IS.Terms memory terms) {}

    /// Makes everything anew, with `count` members.
    function build(uint256 count, IS.Terms memory terms) internal {
        vm.warp(1_000_000);
        registry = new PeerRegistry();
        swarms = new SwarmRegistry(registry);
        ledger = new ReputationLedger(registry, swarms);
        swarm = swarms.createSwarm(MANIFEST, terms);
        delete keys;
        delete peers;
        for (uint256 i = 0; i < count; ++i) {
            keys.push(1000 + i);
        }
        // Sorted by address, as a settlement wants them.
        for (uint256 i = 1; i < count; ++i) {
            for (uint256 k = i; k > 0 && vm.addr(keys[k - 1]) > vm.addr(keys[k]); --k) {
                (keys[k - 1], keys[k]) = (keys[k], keys[k - 1]);
            }
        }
        for (uint256 i = 0; i < count; ++i) {
            peers.push(vm.addr(keys[i]));
            register(peers[i]);
            if (terms.admission == IS.Admission.Open) join(peers[i]);
        }
    }

    function register(address peer) internal {
        vm.prank(peer);
        registry.register(bytes32(uint256(5)), new bytes(64), "peer");
    }

    function join(address peer) internal {
        vm.prank(peer);
        ledger.joinSwarm(swarm);
    }

    function open(uint64 round) internal returns (address[] memory committee) {
        vm.roll(block.number + 1);
        vm.prevrandao(keccak256(abi.encode(round, block.number)));
        ledger.openRound(swarm, round);
        return ledger.getRound(swarm, round).committee;
    }

    function keyOf(address peer) internal view returns (uint256) {
        for (uint256 i = 0; i < peers.length; ++i) {
            if (peers[i] == peer) return keys[i];
        }
        revert("nobody's address");
    }

    function domain() internal view returns (bytes32) {
        return domainOf(block.chainid, address(ledger));
    }

    function domainOf(uint256 chain, address verifier) internal pure returns (bytes32) {
        bytes32 kind =
            keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)");
        return keccak256(abi.encode(kind, keccak256("Murmuration"), keccak256("1"), chain, verifier));
    }

    function signAs(uint256 key, bytes32 structHash) internal view returns (bytes memory) {
        return signFor(key, domain(), structHash);
    }

    function signFor(uint256 key, bytes32 domain_, bytes32 structHash) internal pure returns (bytes memory) {
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(key, keccak256(abi.encodePacked(hex"1901", domain_, structHash)));
        return abi.encodePacked(r, s, v);
    }

    function cardHash(bytes32 swarm_, uint64 round, bytes32 included, address[] memory about, uint32[] memory scores)
        internal
        pure
        returns (bytes32)
    {
        bytes32 kind =
            keccak256("Scorecard(bytes32 swarm,uint64 round,bytes32 included,address[] peers,uint32[] scores)");
        return keccak256(
            abi.encode(
                kind,
                swarm_,
                round,
                included,
                keccak256(abi.encodePacked(about)),
                keccak256(abi.encodePacked(scores))
            )
        );
    }

    function pack(uint32[] memory scores) internal pure returns (bytes memory packed) {
        packed = new bytes(4 * scores.length);
        for (uint256 i = 0; i < packed.length; ++i) {
            packed[i] = bytes1(uint8(scores[i / 4] >> (24 - 8 * (i % 4))));
        }
    }

    function card(address witness, uint64 round, address[] memory about, uint32[] memory scores)
        internal
        view
        returns (I.Scorecard memory)
    {
        bytes32 structHash = cardHash(swarm, round, INCLUDED, about, scores);
        return I.Scorecard(witness, pack(scores), signAs(keyOf(witness), structHash));
    }

    function ballot(address witness, uint64 round, bytes32 included, address[] memory about, uint32[] memory scores)
        internal
        view
        returns (I.Ballot memory)
    {
        return I.Ballot(
            witness,
            included,
            keccak256(abi.encodePacked(about)),
            keccak256(abi.encodePacked(scores)),
            signAs(keyOf(witness), cardHash(swarm, round, included, about, scores))
        );
    }

    function flat(uint256 count, uint32 score) internal pure returns (uint32[] memory scores) {
        scores = new uint32[](count);
        for (uint256 i = 0; i < count; ++i) {
            scores[i] = score;
        }
    }

    /// Every one of the first `count` of the committee gives everybody the same.
    function flatCards(address[] memory committee, uint256 count, uint64 round, uint32 score)
        internal
        view
        returns (I.Scorecard[] memory cards)
    {
        cards = new I.Scorecard[](count);
        for (uint256 c = 0; c < count; ++c) {
            cards[c] = card(committee[c], round, peers, flat(peers.length, score));
        }
    }

    function settle(uint64 round, I.Scorecard[] memory cards) internal {
        ledger.settle(swarm, round, INCLUDED, peers, cards, new bytes32[](0));
    }

    /// Opens a round and settles it with everybody's cards, all alike.
    function play(uint64 round, uint32 score) internal {
        address[] memory committee = open(round);
        settle(round, flatCards(committee, committee.length, round, score));
    }

    function standing(address peer) internal view returns (I.Standing memory) {
        return ledger.standing(swarm, peer);
    }

    function refused(bytes4 selector) internal {
        vm.expectPartialRevert(selector);
    }

    // ------------------------------------------------------------- Merkle trees

    /// The tree's nodes, a level at a time, and the way up from leaf `place`.
    function proofOf(bytes32[] memory leaves, uint256 place)
        internal
        pure
        returns (bytes32 root, bytes32[] memory proof)
    {
        bytes32[] memory found = new bytes32[](32);
        uint256 depth = 0;
        uint256 count = leaves.length;
        bytes32[] memory level = leaves;
        while (count > 1) {
            uint256 beside = place ^ 1;
            if (beside < count) found[depth++] = level[beside];
            bytes32[] memory above = new bytes32[]((count + 1) / 2);
            for (uint256 i = 0; i < count / 2; ++i) {
                (bytes32 a, bytes32 b) = (level[2 * i], level[2 * i + 1]);
                above[i] = a < b ? keccak256(abi.encodePacked(a, b)) : keccak256(abi.encodePacked(b, a));
            }
            if (count % 2 == 1) above[count / 2] = level[count - 1];
            (level, count, place) = (above, above.length, place / 2);
        }
        root = level[0];
        proof = new bytes32[](depth);
        for (uint256 i = 0; i < depth; ++i) {
            proof[i] = found[i];
        }
    }

    function rootCardHash(uint64 round, uint32 count, bytes32 scores) internal view returns (bytes32) {
        bytes32 kind = keccak256("RootCard(bytes32 swarm,uint64 round,bytes32 included,uint32 peers,bytes32 scores)");
        return keccak256(abi.encode(kind, swarm, round, INCLUDED, count, scores));
    }

    function rootVotes(address[] memory committee, uint256 count, uint64 round, uint32 scored, bytes32 scores)
        internal
        view
        returns (I.Vote[] memory votes)
    {
        votes = new I.Vote[](count);
        for (uint256 v = 0; v < count; ++v) {
            bytes memory signature = signAs(keyOf(committee[v]), rootCardHash(round, scored, scores));
            votes[v] = I.Vote(committee[v], 0, signature);
        }
    }

    function leafOf(I.Score memory score) internal pure returns (bytes32) {
        return Scores.leaf(score.peer, score.score, score.reputation, score.uncertainty);
    }
}
