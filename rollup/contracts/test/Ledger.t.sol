// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IReputationLedger as I, ISwarmRegistry as IS} from "../src/IMurmuration.sol";
import {World, vm} from "./World.sol";

/// Who is heard, who is not, and what a settlement can and cannot do.
contract LedgerTest is World {
    function test_newcomers_settle_and_earn_weight_by_being_right() public {
        build(4, local());
        play(1, 800_000);
        for (uint256 i = 0; i < 4; ++i) {
            vm.assertEq(standing(peers[i]).weight, 62_500);
            vm.assertEq(standing(peers[i]).reputation, 50_000);
        }
    }

    function test_a_liar_loses_half_its_weight_and_moves_nothing() public {
        build(5, local());
        play(1, 800_000);
        address[] memory committee = open(2);
        I.Scorecard[] memory cards = flatCards(committee, 5, 2, 800_000);
        address liar = committee[4];
        cards[4] = card(liar, 2, peers, flat(5, 0));
        settle(2, cards);
        vm.assertEq(standing(liar).weight, 31_250);
        for (uint256 i = 0; i < 5; ++i) {
            vm.assertEq(standing(peers[i]).reputation, (50_000 * 15 + 800_000) / 16);
        }
    }

    function test_newcomers_weigh_nothing_beside_those_who_have_been_right() public {
        build(3, local());
        // Three that have weight, then four that say the opposite.
        play(1, 500_000);
        play(2, 500_000);
        for (uint256 i = 0; i < 4; ++i) {
            keys.push(5000 + i);
            peers.push(vm.addr(5000 + i));
            register(peers[3 + i]);
            join(peers[3 + i]);
        }
        address outsider = address(type(uint160).max);
        address[] memory about = new address[](1);
        about[0] = outsider;
        open(3);
        address[] memory committee = open(4);
        vm.assertEq(committee.length, 7);
        I.Scorecard[] memory cards = new I.Scorecard[](7);
        for (uint256 c = 0; c < 7; ++c) {
            uint32 says = standing(committee[c]).weight > 0 ? 900_000 : 0;
            cards[c] = card(committee[c], 4, about, flat(1, says));
        }
        ledger.settle(swarm, 4, INCLUDED, about, cards, new bytes32[](0));
        vm.assertEq(standing(outsider).reputation, 900_000 / 16);
    }

    function test_who_joins_in_the_block_of_an_opening_is_not_drawn() public {
        build(4, local());
        open(1);
        uint256 before = open(2).length;
        keys.push(7777);
        peers.push(vm.addr(7777));
        register(peers[4]);
        join(peers[4]);
        vm.assertEq(open(3).length, before);
        vm.assertEq(open(4).length, before + 1);
    }

    function test_everybody_who_opens_in_one_block_gets_the_same_beacon() public {
        build(4, local());
        vm.roll(block.number + 1);
        vm.prevrandao(keccak256("one block"));
        uint256 state = vm.snapshotState();
        vm.prank(peers[0]);
        bytes32 one = ledger.openRound(swarm, 1);
        vm.revertToState(state);
        vm.prank(address(0xbad));
        vm.assertEq(ledger.openRound(swarm, 1), one);
    }

    function test_two_cards_for_one_round_are_a_fault() public {
        build(4, local());
        play(1, 800_000);
        I.Ballot memory one = ballot(peers[0], 1, INCLUDED, peers, flat(4, 1));
        I.Ballot memory other = ballot(peers[0], 1, INCLUDED, peers, flat(4, 2));
        refused(I.SameCard.selector);
        ledger.dispute(swarm, 1, one, one);
        ledger.dispute(swarm, 1, one, other);
        I.Standing memory s = standing(peers[0]);
        vm.assertEq(s.weight, 0);
        vm.assertEq(s.reputation, 25_000);
        vm.assertFalse(s.active);
        refused(I.AlreadyDisputed.selector);
        ledger.dispute(swarm, 1, one, other);
    }

    function test_sealed_cards_must_be_those_that_were_sealed() public {
        IS.Terms memory terms = local();
        terms.sealCards = true;
        build(4, terms);
        address[] memory committee = open(1);
        I.Scorecard[] memory cards = flatCards(committee, 4, 1, 500_000);
        refused(I.CardsNotSealed.selector);
        settle(1, cards);
        I.Vote[] memory votes = new I.Vote[](4);
        bytes32[] memory seals = new bytes32[](4);
        for (uint256 v = 0; v < 4; ++v) {
            seals[v] = keccak256(cards[v].signature);
            bytes32 kind = keccak256("Seal(bytes32 swarm,uint64 round,bytes32 seal)");
            bytes memory signature = signAs(keyOf(committee[v]), keccak256(abi.encode(kind, swarm, uint64(1), seals[v])));
            votes[v] = I.Vote(committee[v], seals[v], signature);
        }
        ledger.sealCards(swarm, 1, votes);
        I.Scorecard memory kept = cards[2];
        cards[2] = card(committee[2], 1, peers, flat(4, 400_000));
        refused(I.OtherCard.selector);
        ledger.settle(swarm, 1, INCLUDED, peers, cards, seals);
        cards[2] = kept;
        ledger.settle(swarm, 1, INCLUDED, peers, cards, seals);
    }

    function test_a_root_settles_and_a_line_is_applied_once() public {
        build(4, local());
        address[] memory committee = open(1);
        I.Score[] memory lines = new I.Score[](5);
        bytes32[] memory leaves = new bytes32[](5);
        for (uint32 i = 0; i < 5; ++i) {
            lines[i] = I.Score(i < 4 ? peers[i] : address(9), 100_000 * i, 10_000 * i, 5);
            leaves[i] = leafOf(lines[i]);
        }
        (bytes32 root, bytes32[] memory proof) = proofOf(leaves, 3);
        I.Vote[] memory votes = rootVotes(committee, 3, 1, 5, root);
        ledger.settleRoot(swarm, 1, INCLUDED, 5, root, votes);
        ledger.applyScore(swarm, 1, lines[3], proof);
        vm.assertEq(standing(peers[3]).reputation, 30_000);
        refused(I.AlreadyApplied.selector);
        ledger.applyScore(swarm, 1, lines[3], proof);
        refused(I.NotInRound.selector);
        ledger.applyScore(swarm, 1, lines[2], proof);
    }

    function testFuzz_no_score_without_a_quorum(uint8 members, uint8 signed) public {
        members = 1 + members % 16;
        signed = signed % members;
        if (3 * uint256(signed) > 2 * uint256(members)) signed = uint8(2 * uint256(members) / 3);
        build(members, local());
        address[] memory committee = open(1);
        I.Scorecard[] memory cards = flatCards(committee, signed, 1, 500_000);
        refused(I.NoQuorum.selector);
        settle(1, cards);
    }

    function testFuzz_nothing_said_of_oneself_counts(uint32 own, uint32 others) public {
        own %= 1_000_001;
        others %= 1_000_001;
        build(4, local());
        address[] memory committee = open(1);
        I.Scorecard[] memory cards = new I.Scorecard[](4);
        for (uint256 c = 0; c < 4; ++c) {
            uint32[] memory scores = flat(4, others);
            for (uint256 p = 0; p < 4; ++p) {
                if (peers[p] == committee[c]) scores[p] = own;
            }
            cards[c] = card(committee[c], 1, peers, scores);
        }
        settle(1, cards);
        for (uint256 p = 0; p < 4; ++p) {
            vm.assertEq(standing(peers[p]).reputation, others / 16);
        }
    }

    function testFuzz_a_card_is_good_on_its_own_chain_and_swarm_only(uint64 chain, bytes32 other) public {
        build(4, local());
        vm.assume(chain != 0 && chain != block.chainid && other != swarm);
        address[] memory committee = open(1);
        I.Scorecard[] memory cards = flatCards(committee, 4, 1, 500_000);
        bytes32 hash = cardHash(swarm, 1, INCLUDED, peers, flat(4, 500_000));
        bytes memory kept = cards[1].signature;
        cards[1].signature = signFor(keyOf(committee[1]), domainOf(chain, address(ledger)), hash);
        refused(I.BadSignature.selector);
        settle(1, cards);
        cards[1].signature = signAs(keyOf(committee[1]), cardHash(other, 1, INCLUDED, peers, flat(4, 500_000)));
        refused(I.BadSignature.selector);
        settle(1, cards);
        cards[1].signature = kept;
        settle(1, cards);
        refused(I.AlreadySettled.selector);
        settle(1, cards);
    }

    /// A third of the committee says anything: every score stays within what the others say.
    function testFuzz_a_third_colluding_stays_within_the_honest(uint32[5] memory lies, uint256 seed) public {
        build(16, local());
        address[] memory committee = open(1);
        I.Scorecard[] memory cards = new I.Scorecard[](16);
        for (uint256 c = 0; c < 16; ++c) {
            uint32 says = c < 5 ? lies[c] % 1_000_001 : 500_000 + uint32(uint256(keccak256(abi.encode(seed, c))) % 1000);
            cards[c] = card(committee[c], 1, peers, flat(16, says));
        }
        settle(1, cards);
        for (uint256 p = 0; p < 16; ++p) {
            uint256 reputation = standing(peers[p]).reputation;
            vm.assertGe(reputation, 31_250);
            vm.assertLe(reputation, 31_312);
        }
    }
}
