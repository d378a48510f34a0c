// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IReputationLedger as I, ISwarmRegistry as IS} from "../src/IMurmuration.sol";
import {World, vm} from "./World.sol";

/// Attacks that have no test of their own elsewhere; ATTACKS.md lists them all.
contract AttacksTest is World {
    function isIn(address[] memory committee, address who) private pure returns (bool) {
        for (uint256 i = 0; i < committee.length; ++i) {
            if (committee[i] == who) return true;
        }
        return false;
    }

    function test_a_committee_of_yesterday_settles_nothing_today() public {
        build(24, local());
        address[] memory first = open(1);
        address[] memory second = open(2);
        address stale = address(0);
        for (uint256 i = 0; i < first.length; ++i) {
            if (!isIn(second, first[i])) stale = first[i];
        }
        vm.assertTrue(stale != address(0), "the draws differ");
        I.Scorecard[] memory cards = flatCards(second, 11, 2, 900_000);
        cards[3] = card(stale, 2, peers, flat(24, 900_000));
        refused(I.NotInCommittee.selector);
        settle(2, cards);
        // Nor does the first committee's own word on its own round count for the second.
        refused(I.NotInCommittee.selector);
        settle(2, flatCards(first, 11, 2, 900_000));
    }

    function test_who_withholds_a_sealed_card_holds_nothing_up_and_pays_for_it() public {
        IS.Terms memory terms = local();
        terms.sealCards = true;
        build(4, terms);
        address[] memory committee = open(1);
        I.Scorecard[] memory cards = flatCards(committee, 4, 1, 500_000);
        bytes32[] memory seals = sealAll(committee, cards);
        // The last one keeps its card to itself, having seen the others'.
        I.Scorecard[] memory revealed = new I.Scorecard[](3);
        for (uint256 i = 0; i < 3; ++i) {
            revealed[i] = cards[i];
        }
        ledger.settle(swarm, 1, INCLUDED, peers, revealed, seals);
        vm.assertEq(standing(committee[3]).weight, 0);
        vm.assertEq(standing(committee[3]).missed, 1);
        vm.assertEq(standing(committee[0]).weight, 62_500);
    }

    function test_who_withhold_in_numbers_cost_a_round_and_their_seats() public {
        IS.Terms memory terms = local();
        terms.sealCards = true;
        build(4, terms);
        for (uint64 round = 1; round <= 2; ++round) {
            address[] memory committee = open(round);
            I.Scorecard[] memory cards = flatCards(committee, 4, round, 500_000);
            bytes32[] memory seals = sealAll(committee, cards);
            I.Scorecard[] memory revealed = new I.Scorecard[](2);
            I.Ballot[] memory ballots = new I.Ballot[](2);
            uint256 found = 0;
            for (uint256 i = 0; i < 4; ++i) {
                // The same two each time.
                if (committee[i] != peers[0] && committee[i] != peers[1]) continue;
                revealed[found] = cards[i];
                ballots[found++] = ballot(committee[i], round, INCLUDED, peers, flat(4, 500_000));
            }
            refused(I.NoQuorum.selector);
            ledger.settle(swarm, round, INCLUDED, peers, revealed, seals);
            ledger.voidRound(swarm, round, ballots);
        }
        // Nothing was settled, and the two who kept still are drawn no more.
        vm.assertEq(ledger.getState(swarm).settledRounds, 0);
        vm.assertEq(open(3).length, 2);
    }

    function sealAll(address[] memory committee, I.Scorecard[] memory cards) private returns (bytes32[] memory seals) {
        uint64 round = ledger.getState(swarm).nextRound - 1;
        I.Vote[] memory votes = new I.Vote[](committee.length);
        seals = new bytes32[](committee.length);
        bytes32 kind = keccak256("Seal(bytes32 swarm,uint64 round,bytes32 seal)");
        for (uint256 v = 0; v < committee.length; ++v) {
            seals[v] = keccak256(cards[v].signature);
            bytes memory signature = signAs(keyOf(committee[v]), keccak256(abi.encode(kind, swarm, round, seals[v])));
            votes[v] = I.Vote(committee[v], seals[v], signature);
        }
        ledger.sealCards(swarm, round, votes);
    }

    /// Whoever opens has one try a block, and everybody else may open before: of a hundred
    /// blocks that a third of the members waits through, hardly any would give it a quorum.
    function test_grinding_the_beacon_takes_many_blocks_that_others_can_open_in() public {
        build(48, local());
        uint256 captured = 0;
        for (uint256 block_ = 0; block_ < 100; ++block_) {
            uint256 state = vm.snapshotState();
            vm.roll(block.number + 1 + block_);
            vm.prevrandao(keccak256(abi.encode("block", block_)));
            ledger.openRound(swarm, 1);
            address[] memory committee = ledger.getRound(swarm, 1).committee;
            uint256 own = 0;
            for (uint256 i = 0; i < committee.length; ++i) {
                for (uint256 k = 0; k < 16; ++k) {
                    if (committee[i] == peers[3 * k]) ++own;
                }
            }
            if (3 * own > 2 * committee.length) ++captured;
            vm.revertToState(state);
        }
        // One in 2,379 is expected.
        vm.assertEq(captured, 0);
    }
}
