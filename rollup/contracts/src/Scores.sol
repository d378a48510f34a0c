// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IReputationLedger} from "./IMurmuration.sol";

/// The arithmetic of scores, in parts per million: no storage, no signatures.
///
/// Some functions here return early where they need not. The compiler puts one that is called
/// once into its caller, unless it does so, and from a certain size on keeps a function's
/// variables in memory, which doubles what a settlement costs.
library Scores {
    uint32 internal constant UNSCORED = type(uint32).max;
    uint32 internal constant PPM = 1_000_000;
    /// With fewer judges of a peer that have earned weight, all count alike: neither may
    /// a few early ones rule alone, nor may a swarm of newcomers be unable to settle.
    uint256 internal constant ESTABLISHED = 3;
    /// A weight counts for at most so many times the median of those present.
    uint256 internal constant CLIP = 3;

    /// The highest bit of each four bytes, the other ones, and what added to those sets the
    /// highest if they are more than PPM.
    uint256 private constant HIGHEST = 0x8000000080000000800000008000000080000000800000008000000080000000;
    uint256 private constant LOWER = 0x7fffffff7fffffff7fffffff7fffffff7fffffff7fffffff7fffffff7fffffff;
    uint256 private constant OVER_A_MILLION =
        0x7ff0bdbf7ff0bdbf7ff0bdbf7ff0bdbf7ff0bdbf7ff0bdbf7ff0bdbf7ff0bdbf;

    /// The cards of a round where they lie in calldata, and what there is to do with them:
    /// one word each for every card, in the same order.
    struct Panel {
        /// Where its scores begin: four bytes for each peer.
        uint256[] cards;
        /// The place of its witness among the peers, or no place at all.
        uint256[] places;
        /// What its word weighs.
        uint256[] weights;
        /// How far it was from the medians, summed up, above 32 bits, and over how many
        /// peers below them.
        uint256[] distances;
        /// Room to sort in.
        uint256[] room;
        /// The scores of the last card that was hashed, eight to a word; beside them one each.
        uint256[] packed;
        uint256[] words;
        /// Who was drawn, the places of those who signed (one bit each), and who they are.
        address[] committee;
        uint256 present;
        address[] witnesses;
    }

    function panel(address[] memory committee, uint256 cards, uint256 peers) internal pure returns (Panel memory p) {
        p.cards = new uint256[](cards);
        p.places = new uint256[](cards);
        p.weights = new uint256[](cards);
        p.distances = new uint256[](cards);
        p.room = new uint256[](cards);
        p.packed = new uint256[]((peers + 7) / 8);
        p.words = new uint256[](8 * p.packed.length);
        p.committee = committee;
        p.witnesses = new address[](cards);
    }

    function hashTyped(bytes32[6] memory words) internal pure returns (bytes32 hash) {
        assembly ("memory-safe") {
            hash := keccak256(words, 192)
        }
    }

    /// The hash of sorted addresses as EIP-712 has it: of a word each, without their number.
    function hashPeers(address[] calldata peers) internal pure returns (bytes32 hash) {
        uint256 wrong = 0;
        assembly ("memory-safe") {
            let size := shl(5, peers.length)
            let words := mload(0x40)
            calldatacopy(words, peers.offset, size)
            let before := 0
            if size { before := mload(words) }
            for { let i := 32 } lt(i, size) { i := add(i, 32) } {
                let next := mload(add(words, i))
                if iszero(gt(next, before)) {
                    wrong := shr(5, i)
                    break
                }
                before := next
            }
            // The last is the highest: if it is an address, so are all.
            if shr(160, before) { wrong := peers.length }
            hash := keccak256(words, size)
        }
        if (wrong != 0) revert IReputationLedger.PeersNotSorted(wrong);
    }

    /// Puts a card in its seat, and returns the hash of its scores as EIP-712 has it: of a
    /// word each, without their number. Of eight scores that the card before has too,
    /// nothing has to be done again.
    function seat(Panel memory p, uint256 c, address witness, bytes calldata scores, address[] calldata peers)
        internal
        pure
        returns (bytes32 hashed)
    {
        if (scores.length != 4 * peers.length) {
            revert IReputationLedger.ScoreCount(witness, scores.length, peers.length);
        }
        p.places[c] = _placeOf(witness, peers);
        uint256 begins;
        uint256 wrong;
        (begins, hashed, wrong) = _hashScores(scores, p.packed, p.words);
        p.cards[c] = begins;
        if (wrong != 0) revert IReputationLedger.ScoreOutOfRange(witness, uint32(wrong));
    }

    /// Where a witness is among the peers; nowhere if it is not.
    function _placeOf(address witness, address[] calldata peers) private pure returns (uint256 place) {
        if (peers.length == 0) return type(uint256).max;
        assembly ("memory-safe") {
            let end := peers.length
            for {} lt(place, end) {} {
                let middle := shr(1, add(place, end))
                switch lt(calldataload(add(peers.offset, shl(5, middle))), witness)
                case 1 { place := add(middle, 1) }
                default { end := middle }
            }
            switch lt(place, peers.length)
            case 1 {
                if iszero(eq(calldataload(add(peers.offset, shl(5, place))), witness)) { place := not(0) }
            }
            default { place := not(0) }
        }
    }

    /// Where the scores begin, their hash, and one that is none, if there is one. `packed`
    /// has a word for each eight peers or part of eight, `words` eight times as many.
    function _hashScores(bytes calldata scores, uint256[] memory packed, uint256[] memory words)
        private
        pure
        returns (uint256 begins, bytes32 hashed, uint256 wrong)
    {
        if (scores.length == 0) return (0, keccak256(""), 0);
        assembly ("memory-safe") {
            begins := scores.offset
            let from := begins
            let end := add(from, scores.length)
            let before := add(packed, 32)
            let to := add(words, 32)
            for {} lt(from, end) {} {
                let eight := calldataload(from)
                from := add(from, 32)
                if gt(from, end) {
                    // What follows the last score is something else.
                    let beyond := shl(3, sub(from, end))
                    eight := shl(beyond, shr(beyond, eight))
                }
                if iszero(eq(eight, mload(before))) {
                    mstore(before, eight)
                    mstore(to, shr(224, eight))
                    mstore(add(to, 32), and(shr(192, eight), 0xffffffff))
                    mstore(add(to, 64), and(shr(160, eight), 0xffffffff))
                    mstore(add(to, 96), and(shr(128, eight), 0xffffffff))
                    mstore(add(to, 128), and(shr(96, eight), 0xffffffff))
                    mstore(add(to, 160), and(shr(64, eight), 0xffffffff))
                    mstore(add(to, 192), and(shr(32, eight), 0xffffffff))
                    mstore(add(to, 224), and(eight, 0xffffffff))
                    // In each four bytes the highest bit says: more than a million, and not
                    // all ones. Sums of lower bits carry no further than into that.
                    let above := or(add(and(eight, LOWER), OVER_A_MILLION), eight)
                    let some := or(add(and(not(eight), LOWER), LOWER), not(eight))
                    let bad := and(and(above, some), HIGHEST)
                    if bad {
                        for {} iszero(shr(255, bad)) {} {
                            bad := shl(32, bad)
                            eight := shl(32, eight)
                        }
                        wrong := shr(224, eight)
                    }
                }
                before := add(before, 32)
                to := add(to, 256)
            }
            hashed := keccak256(add(words, 32), shl(3, scores.length))
        }
    }

    /// Whether a card has more than one score.
    function saysMuch(bytes calldata scores) internal pure returns (bool) {
        uint256 given = 0;
        for (uint256 i = 0; i < scores.length; i += 4) {
            if (uint32(bytes4(scores[i:i + 4])) != UNSCORED && ++given > 1) return true;
        }
        return false;
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

    /// What all cards but a peer's own say of the peers from `8 * eighth` on, four bytes each
    /// from above: their score with the highest bit set where the peer has a card of its
    /// own, or UNSCORED where they differ or say nothing.
    function agreed(Panel memory p, uint256 eighth) internal pure returns (uint256 eight) {
        if (p.cards.length == 0) return type(uint256).max;
        uint256[] memory cards = p.cards;
        uint256[] memory places = p.places;
        assembly ("memory-safe") {
            let offset := shl(5, eighth)
            let beside := sub(places, cards)
            let end := add(cards, shl(5, mload(cards)))
            // The bits that any has, and those that all have.
            let any := 0
            let all := not(0)
            let own := 0
            for {} lt(cards, end) {} {
                cards := add(cards, 32)
                let said := calldataload(add(mload(cards), offset))
                let place := mload(add(cards, beside))
                switch eq(shr(3, place), eighth)
                case 1 {
                    let mine := shl(sub(224, shl(5, and(place, 7))), 0xffffffff)
                    own := or(own, mine)
                    any := or(any, and(said, not(mine)))
                    all := and(all, or(said, mine))
                }
                default {
                    any := or(any, said)
                    all := and(all, said)
                }
            }
            all := xor(any, all)
            let differ := and(or(add(and(all, LOWER), LOWER), all), HIGHEST)
            eight := or(or(any, and(own, HIGHEST)), or(differ, sub(differ, shr(31, differ))))
        }
    }

    /// The lower weighted median of what the others say of the peer in `place`, how many
    /// they are, and whether all of them say the same.
    function median(Panel memory p, uint256 place)
        internal
        pure
        returns (uint256 score, uint256 judges, bool unanimous)
    {
        uint256[] memory room = p.room;
        uint256 total = 0;
        uint256 established = 0;
        (total, established, judges) = _sorted(p, place, room);
        if (judges == 0) return (0, 0, true);
        assembly ("memory-safe") {
            let entry := add(room, 32)
            unanimous := eq(shr(32, mload(entry)), shr(32, mload(add(room, shl(5, judges)))))
            switch lt(established, ESTABLISHED)
            case 1 { entry := add(entry, shl(5, shr(1, sub(judges, 1)))) }
            default {
                let below := and(mload(entry), 0xffffffff)
                for {} lt(shl(1, below), total) {} {
                    entry := add(entry, 32)
                    below := add(below, and(mload(entry), 0xffffffff))
                }
            }
            score := shr(32, mload(entry))
        }
    }

    /// What others say of the peer in `place`, in order: by score, then by weight, so that the
    /// order of the cards decides nothing. And what they weigh together, how many of them
    /// weigh anything, and how many they are.
    function _sorted(Panel memory p, uint256 place, uint256[] memory room)
        private
        pure
        returns (uint256 total, uint256 established, uint256 judges)
    {
        if (p.cards.length == 0) return (0, 0, 0);
        assembly ("memory-safe") {
            let cards := mload(p)
            let places := sub(mload(add(p, 32)), cards)
            let weights := sub(mload(add(p, 64)), cards)
            let end := add(cards, shl(5, mload(cards)))
            for {} lt(cards, end) {} {
                cards := add(cards, 32)
                if eq(mload(add(cards, places)), place) { continue }
                let given := shr(224, calldataload(add(mload(cards), shl(2, place))))
                if eq(given, 0xffffffff) { continue }
                let weight := mload(add(cards, weights))
                total := add(total, weight)
                established := add(established, gt(weight, 0))
                let entry := or(shl(32, given), weight)
                let to := add(room, shl(5, judges))
                for {} gt(to, room) { to := sub(to, 32) } {
                    let above := mload(to)
                    if iszero(gt(above, entry)) { break }
                    mstore(add(to, 32), above)
                }
                mstore(add(to, 32), entry)
                judges := add(judges, 1)
            }
        }
    }

    /// Adds to the distances how far each other witness was from `score` about the peer
    /// in `place`.
    function compare(Panel memory p, uint256 place, uint256 score) internal pure {
        if (p.cards.length == 0) return;
        assembly ("memory-safe") {
            let cards := mload(p)
            let places := sub(mload(add(p, 32)), cards)
            let distances := sub(mload(add(p, 96)), cards)
            let end := add(cards, shl(5, mload(cards)))
            for {} lt(cards, end) {} {
                cards := add(cards, 32)
                if eq(mload(add(cards, places)), place) { continue }
                let given := shr(224, calldataload(add(mload(cards), shl(2, place))))
                if eq(given, 0xffffffff) { continue }
                let off := sub(given, score)
                if gt(score, given) { off := sub(score, given) }
                let sum := add(cards, distances)
                mstore(sum, add(mload(sum), or(shl(32, off), 1)))
            }
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
    function merkleRoot(bytes32[] memory nodes) internal pure returns (bytes32 root) {
        if (nodes.length == 0) return 0;
        assembly ("memory-safe") {
            let first := add(nodes, 32)
            let size := shl(5, mload(nodes))
            for {} gt(size, 32) {} {
                let to := first
                let end := add(first, size)
                for { let from := first } lt(from, end) { from := add(from, 64) } {
                    let one := mload(from)
                    let other := mload(add(from, 32))
                    switch eq(add(from, 32), end)
                    case 1 { mstore(to, one) }
                    default {
                        let swap := gt(one, other)
                        mstore(shl(5, swap), one)
                        mstore(shl(5, iszero(swap)), other)
                        mstore(to, keccak256(0, 64))
                    }
                    to := add(to, 32)
                }
                size := sub(to, first)
            }
            root := mload(first)
        }
    }

    /// Sorts the first `count`.
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
