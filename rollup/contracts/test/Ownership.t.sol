// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IVotes} from "@openzeppelin/contracts/governance/utils/IVotes.sol";
import {IGovernor} from "@openzeppelin/contracts/governance/IGovernor.sol";
import {TimelockController} from "@openzeppelin/contracts/governance/TimelockController.sol";
import {IReputationLedger as I, ISwarmRegistry as IS} from "../src/IMurmuration.sol";
import {ContributionShares, ISettledRounds} from "../src/ContributionShares.sol";
import {IPastShares, RevenueVault} from "../src/RevenueVault.sol";
import {SwarmGovernor} from "../src/SwarmGovernor.sol";
import {World, vm} from "./World.sol";

/// From settled reputation to shares, from shares to revenue and to a changed curriculum.
contract OwnershipTest is World {
    ContributionShares private shares;
    RevenueVault private vault;
    TimelockController private timelock;
    SwarmGovernor private governor;

    function found() private {
        IS.Terms memory terms = local();
        terms.author = address(this);
        build(4, terms);
        address[] memory anybody = new address[](1);
        timelock = new TimelockController(1 hours, new address[](0), anybody, address(this));
        shares = new ContributionShares(ISettledRounds(address(ledger)), swarm, 2, address(timelock));
        governor = new SwarmGovernor(IVotes(address(shares)), timelock, 60, 1 days);
        vault = new RevenueVault(IPastShares(address(shares)));
        timelock.grantRole(timelock.PROPOSER_ROLE(), address(governor));
        timelock.grantRole(timelock.CANCELLER_ROLE(), address(governor));
        timelock.renounceRole(timelock.DEFAULT_ADMIN_ROLE(), address(this));
        swarms.changeGovernance(swarm, address(timelock));
        play(1, 800_000);
    }

    /// What round `round`, in which all were scored alike, says of a peer.
    function lineOf(uint256 place, uint32 reputation, uint32 uncertainty)
        private
        view
        returns (I.Score memory line, bytes32[] memory proof)
    {
        bytes32[] memory leaves = new bytes32[](4);
        for (uint256 i = 0; i < 4; ++i) {
            leaves[i] = leafOf(I.Score(peers[i], 800_000, reputation, uncertainty));
        }
        (, proof) = proofOf(leaves, place);
        line = I.Score(peers[place], 800_000, reputation, uncertainty);
    }

    function claimAll(uint64 round) private {
        I.Standing memory s = standing(peers[0]);
        for (uint256 i = 0; i < 4; ++i) {
            (I.Score memory line, bytes32[] memory proof) = lineOf(i, s.reputation, s.uncertainty);
            shares.claim(round, line, proof);
        }
    }

    function test_an_epoch_mints_its_reputation_once() public {
        found();
        I.Standing memory s = standing(peers[0]);
        (I.Score memory line, bytes32[] memory proof) = lineOf(0, s.reputation, s.uncertainty);
        refused(ContributionShares.EpochNotOver.selector);
        shares.claim(1, line, proof);
        play(2, 800_000);
        claimAll(2);
        s = standing(peers[0]);
        vm.assertEq(shares.balanceOf(peers[0]), uint256(s.reputation) * 1e12);
        vm.assertEq(shares.getVotes(peers[0]), shares.balanceOf(peers[0]));
        (line, proof) = lineOf(0, s.reputation, s.uncertainty);
        refused(ContributionShares.AlreadyClaimed.selector);
        shares.claim(2, line, proof);
        line.reputation += 1;
        refused(ContributionShares.NotInRound.selector);
        shares.claim(2, line, proof);
        vm.prank(peers[0]);
        refused(ContributionShares.NotTransferable.selector);
        shares.transfer(peers[1], 1);
        refused(ContributionShares.NotGovernance.selector);
        shares.setTransferable(true);
    }

    function test_revenue_goes_to_those_who_held_when_it_came() public {
        found();
        play(2, 800_000);
        vm.deal(address(this), 10 ether);
        refused(RevenueVault.NoHolders.selector);
        vault.pay{value: 1 ether}();
        claimAll(2);
        vm.warp(block.timestamp + 10);
        uint256 payment = vault.pay{value: 4 ether}();
        // Delegated votes carry no revenue with them.
        vm.prank(peers[1]);
        shares.delegate(peers[0]);
        vault.claim(payment, peers[1]);
        vm.assertEq(peers[1].balance, 1 ether);
        refused(RevenueVault.AlreadyClaimed.selector);
        vault.claim(payment, peers[1]);
        refused(RevenueVault.NotAHolder.selector);
        vault.claim(payment, address(0xbad));
    }

    function test_holders_change_the_curriculum_through_the_timelock() public {
        found();
        play(2, 800_000);
        claimAll(2);
        uint256 time = block.timestamp + 10;
        vm.warp(time);
        address[] memory targets = new address[](1);
        uint256[] memory values = new uint256[](1);
        bytes[] memory calls = new bytes[](1);
        targets[0] = address(swarms);
        calls[0] = abi.encodeCall(swarms.changeManifest, (swarm, bytes32(uint256(77))));
        refused(IS.NotGovernance.selector);
        swarms.changeManifest(swarm, bytes32(uint256(77)));
        vm.prank(peers[0]);
        uint256 proposal = governor.propose(targets, values, calls, "harder sums");
        time += 61;
        vm.warp(time);
        for (uint256 i = 0; i < 3; ++i) {
            vm.prank(peers[i]);
            governor.castVote(proposal, 1);
        }
        time += 1 days + 1;
        vm.warp(time);
        bytes32 description = keccak256("harder sums");
        governor.queue(targets, values, calls, description);
        refused(TimelockController.TimelockUnexpectedOperationState.selector);
        governor.execute(targets, values, calls, description);
        time += 1 hours + 1;
        vm.warp(time);
        governor.execute(targets, values, calls, description);
        vm.assertEq(swarms.getSwarm(swarm).manifest, bytes32(uint256(77)));
    }
}
