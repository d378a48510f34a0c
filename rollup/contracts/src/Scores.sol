// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {Hashes} from "@openzeppelin/contracts/utils/cryptography/Hashes.sol";
import {IReputationLedger} from "./IMurmuration.sol";

/// The arithmetic of scores, in parts per million: no storage, no signatures.
library Scores {
    uint32 internal constant UNSCORED = type(uint32).max;
    uint32 internal constant PPM = 1_000_000;
    /// With fewer judges of a peer that have earned weight, all count alike: neither may
    /// a few early ones rule alone, nor may a swarm of newcomers be unable to settle.
    uint256 internal constant ESTABLISHED = 3;
    /// A weight counts for at most so many times the median of those present.
    uint256 internal constant CLIP = 3;

    /// Four-byte scores as the words EIP-712 hashes, and how many of them are scores.
    function unpack(address witness, bytes calldata packed, uint256 peers)
        internal
        pure
        returns (uint256[] memory row, uint256 given)
    {
        if (packed.length != 4 * peers) revert IReputationLedger.ScoreCount(witness, packed.length, peers);
        row = new uint256[](peers);
        uint256 wrong = 0;
        // In bounds: the length was compared above.
        assembly ("memory-safe") {
            let from := packed.offset
            let end := add(add(row, 32), shl(5, peers))
            for { let to := add(row, 32) } lt(to, end) { to := add(to, 32) } {
                let score := shr(224, calldataload(from))
                from := add(from, 4)
                mstore(to, score)
                if eq(score, 0xffffffff) { continue }
                given := add(given, 1)
                if gt(score, 1000000) { wrong := score }
            }
        }
        if (wrong != 0) revert IReputationLedger.ScoreOutOfRange(witness, uint32(wrong));
    }

    /// The hash of an array's elements, without their number: EIP-712's.
    function hashRow(uint256[] memory row) internal pure returns (bytes32 hash) {
        assembly ("memory-safe") {
            hash := keccak256(add(row, 32), shl(5, mload(row)))
        }
    }

    /// Clips each weight at three times the median of those above zero.
    function clip(uint256[] memory weights) internal pure {
        uint256[] memory sorted = new uint256[](weights.length);
        uint256 count = 0;
        for (uint256 i = 0; i < weights.length; ++i) {
            if (weights[i] != 0) sorted[count++] = weights[i];
        }
        if (count == 0) return;
        _sort(sorted, count);
        uint256 limit = CLIP * sorted[(count - 1) / 2];
        for (uint256 i = 0; i < weights.length; ++i) {
            if (weights[i] > limit) weights[i] = limit;
        }
    }

    /// The lower weighted median of what the others say of `peer`, which is in column `p`,
    /// and whether all of them say the same. `entries` is room to work in, one word for
    /// each row.
    function median(
        address peer,
        uint256 p,
        address[] memory witnesses,
        uint256[][] memory rows,
        uint256[] memory weights,
        uint256[] memory entries
    ) internal pure returns (uint256 score, uint256 judges, bool unanimous) {
        uint256 total = 0;
        uint256 established = 0;
        uint256 highest = 0;
        score = UNSCORED;
        // All four arrays have one element a witness, and every row one a peer: `settle`
        // makes them so. This is where a settlement's gas goes.
        assembly ("memory-safe") {
            let column := add(32, shl(5, p))
            let last := shl(5, mload(rows))
            for { let c := 32 } iszero(gt(c, last)) { c := add(c, 32) } {
                let given := mload(add(mload(add(rows, c)), column))
                if or(eq(given, 0xffffffff), eq(mload(add(witnesses, c)), peer)) { continue }
                if lt(given, score) { score := given }
                if gt(given, highest) { highest := given }
                let weight := mload(add(weights, c))
                total := add(total, weight)
                established := add(established, gt(weight, 0))
                judges := add(judges, 1)
                mstore(add(entries, shl(5, judges)), or(shl(32, given), weight))
            }
        }
        if (judges == 0) return (0, 0, true);
        if (score == highest) return (score, judges, true);
        _sort(entries, judges);
        if (established < ESTABLISHED) return (entries[(judges - 1) / 2] >> 32, judges, false);
        uint256 below = 0;
        for (uint256 i = 0; i < judges; ++i) {
            below += entries[i] & type(uint32).max;
            if (2 * below >= total) return (entries[i] >> 32, judges, false);
        }
    }

    /// Adds to `distances` how far each witness was from `score` about `peer`: the sum of
    /// distances above 32 bits, and below them over how many peers.
    function compare(
        address peer,
        uint256 p,
        uint256 score,
        address[] memory witnesses,
        uint256[][] memory rows,
        uint256[] memory distances
    ) internal pure {
        for (uint256 c = 0; c < rows.length; ++c) {
            uint256 given = rows[c][p];
            if (given == UNSCORED || witnesses[c] == peer) continue;
            distances[c] += (given > score ? given - score : score - given) << 32 | 1;
        }
    }

    /// The leaf of a score in its round's tree: hashed twice, so that no inner node can be
    /// taken for a leaf.
    function leaf(address peer, uint256 score, uint256 reputation, uint256 uncertainty)
        internal
        pure
        returns (bytes32 hash)
    {
        assembly ("memory-safe") {
            let free := mload(0x40)
            mstore(free, peer)
            mstore(add(free, 32), score)
            mstore(add(free, 64), reputation)
            mstore(add(free, 96), uncertainty)
            mstore(0, keccak256(free, 128))
            hash := keccak256(0, 32)
        }
    }

    /// The root over `nodes`, which it overwrites: each pair is hashed in order of value,
    /// so that a proof needs no places; a node without a partner moves up as it is.
    function merkleRoot(bytes32[] memory nodes) internal pure returns (bytes32) {
        uint256 count = nodes.length;
        if (count == 0) return 0;
        while (count > 1) {
            uint256 half = count / 2;
            for (uint256 i = 0; i < half; ++i) {
                nodes[i] = Hashes.commutativeKeccak256(nodes[2 * i], nodes[2 * i + 1]);
            }
            if (count & 1 != 0) nodes[half++] = nodes[count - 1];
            count = half;
        }
        return nodes[0];
    }

    /// Sorts the first `count`: by score, then by weight, so that the order of the cards
    /// decides nothing.
    function _sort(uint256[] memory values, uint256 count) private pure {
        for (uint256 i = 1; i < count; ++i) {
            uint256 value = values[i];
            uint256 place = i;
            for (; place > 0 && values[place - 1] > value; --place) {
                values[place] = values[place - 1];
            }
            values[place] = value;
        }
    }
}
