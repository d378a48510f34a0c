// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IReputationLedger as I} from "../src/IMurmuration.sol";
import {World, vm} from "./World.sol";

/// A swarm of six that does whatever the fuzzer asks of it.
contract Life is World {
    uint64 public round;
    uint256 public settlements;
    uint256 public doubled;

    constructor() {
        build(6, local());
    }

    function openNext() external {
        open(++round);
    }

    function settleWith(uint256 seed, uint8 signers) external {
        address[] memory committee = ledger.getRound(swarm, round).committee;
        uint256 count = signers % (committee.length + 1);
        I.Scorecard[] memory cards = new I.Scorecard[](count);
        for (uint256 c = 0; c < count; ++c) {
            uint32 says = uint32(uint256(keccak256(abi.encode(seed, c))) % 1_000_001);
            cards[c] = card(committee[c], round, peers, flat(6, says));
        }
        settle(round, cards);
        ++settlements;
        try ledger.settle(swarm, round, INCLUDED, peers, cards, new bytes32[](0)) {
            ++doubled;
        } catch {}
    }

    function void(uint8 signers) external {
        address[] memory committee = ledger.getRound(swarm, round).committee;
        uint256 count = signers % (committee.length + 1);
        I.Ballot[] memory ballots = new I.Ballot[](count);
        for (uint256 b = 0; b < count; ++b) {
            ballots[b] = ballot(committee[b], round, bytes32(b), peers, flat(6, 1));
        }
        ledger.voidRound(swarm, round, ballots);
    }

    function come(uint8 who, bool stay) external {
        vm.prank(peers[who % 6]);
        if (stay) ledger.checkIn(swarm);
        else ledger.leaveSwarm(swarm);
    }

    function accuse(uint8 who) external {
        address witness = peers[who % 6];
        I.Ballot memory one = ballot(witness, round, INCLUDED, peers, flat(6, 1));
        I.Ballot memory other = ballot(witness, round, INCLUDED, peers, flat(6, 2));
        ledger.dispute(swarm, round, one, other);
    }

    function check() external view {
        I.SwarmState memory state = ledger.getState(swarm);
        vm.assertEq(state.settledRounds, settlements);
        vm.assertEq(doubled, 0);
        I.Standing[] memory all = ledger.standings(swarm, 0, 100);
        vm.assertEq(all.length, 6);
        uint256 active = 0;
        uint256 weights = 0;
        for (uint256 i = 0; i < all.length; ++i) {
            vm.assertLe(all[i].reputation, 1_000_000);
            vm.assertLe(all[i].uncertainty, 1_000_000);
            vm.assertLe(all[i].weight, 1_000_000);
            vm.assertLe(all[i].rounds, settlements);
            weights += all[i].weight;
            if (all[i].active) ++active;
            if (all[i].faults >= 3) vm.assertFalse(all[i].active);
        }
        // No weight comes from anywhere but settled rounds: a sixteenth of a whole each.
        vm.assertLe(weights, settlements * 6 * 62_500);
        vm.assertLe(state.drawable, active);
        address[] memory committee = ledger.getRound(swarm, round).committee;
        for (uint256 i = 0; i < committee.length; ++i) {
            for (uint256 k = 0; k < i; ++k) {
                vm.assertTrue(committee[i] != committee[k]);
            }
        }
    }
}

contract InvariantsTest {
    Life private life;

    function setUp() public {
        life = new Life();
    }

    function targetContracts() external view returns (address[] memory targets) {
        targets = new address[](1);
        targets[0] = address(life);
    }

    function invariant_what_holds_whatever_happens() public view {
        life.check();
    }
}
