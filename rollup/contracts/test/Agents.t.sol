// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {ERC1967Proxy} from "@openzeppelin/contracts/proxy/ERC1967/ERC1967Proxy.sol";
import {IReputationLedger as I} from "../src/IMurmuration.sol";
import {AgentMirror, IAgentReputations, IStandings} from "../src/AgentMirror.sol";
import {IdentityRegistryUpgradeable} from "./vendor/erc-8004/IdentityRegistryUpgradeable.sol";
import {ReputationRegistryUpgradeable} from "./vendor/erc-8004/ReputationRegistryUpgradeable.sol";
import {FirstVersion} from "./FirstVersion.sol";
import {World, vm} from "./World.sol";

/// ERC-8004's reference contracts, deployed as they are on other chains: behind proxies.
contract AgentsTest is World {
    IdentityRegistryUpgradeable private identities;
    ReputationRegistryUpgradeable private reputations;
    AgentMirror private mirror;

    function setUp() public {
        build(4, local());
        FirstVersion first = new FirstVersion();
        address identity = address(new ERC1967Proxy(address(first), abi.encodeCall(first.initialize, (address(0), address(this)))));
        FirstVersion(identity).upgradeToAndCall(
            address(new IdentityRegistryUpgradeable()), abi.encodeWithSignature("initialize()")
        );
        address reputation = address(new ERC1967Proxy(address(first), abi.encodeCall(first.initialize, (identity, address(this)))));
        FirstVersion(reputation).upgradeToAndCall(
            address(new ReputationRegistryUpgradeable()), abi.encodeWithSignature("initialize(address)", identity)
        );
        identities = IdentityRegistryUpgradeable(identity);
        reputations = ReputationRegistryUpgradeable(reputation);
        mirror = new AgentMirror(IStandings(address(ledger)), IAgentReputations(reputation));
    }

    function agentOf(address peer) private returns (uint256 agent) {
        vm.prank(peer);
        agent = identities.register("data:application/json,{}");
    }

    function linked(address peer) private returns (uint256 agent) {
        agent = agentOf(peer);
        vm.prank(peer);
        mirror.link(agent);
    }

    function settleEpoch(uint64 from) private {
        for (uint64 round = from; round < from + 32; ++round) {
            this.playOne(round);
        }
    }

    /// Called from outside, or the compiler runs out of stack in what it is put into.
    function playOne(uint64 round) external {
        play(round, 800_000);
    }

    function mirrors() private view returns (address[] memory clients) {
        clients = new address[](1);
        clients[0] = address(mirror);
    }

    function test_an_epoch_of_a_peer_is_its_agents_feedback_once() public {
        uint256 agent = linked(peers[1]);
        refused(AgentMirror.EpochNotOver.selector);
        mirror.mirror(swarm, peers[1]);
        settleEpoch(1);
        mirror.mirror(swarm, peers[1]);
        uint32 first = standing(peers[1]).reputation;
        refused(AgentMirror.EpochNotOver.selector);
        mirror.mirror(swarm, peers[1]);

        (int128 value, uint8 decimals, string memory one, string memory two, bool revoked) =
            reputations.readFeedback(agent, address(mirror), 1);
        vm.assertEq(uint256(int256(value)), first);
        vm.assertEq(decimals, 6);
        vm.assertEq(keccak256(bytes(one)), keccak256("murmuration"));
        vm.assertEq(keccak256(bytes(two)), keccak256(bytes(mirror.tagOf(swarm))));
        vm.assertFalse(revoked);

        settleEpoch(33);
        mirror.mirror(swarm, peers[1]);
        uint32 second = standing(peers[1]).reputation;
        (uint64 count, int128 mean, uint8 places) = reputations.getSummary(agent, mirrors(), "murmuration", two);
        vm.assertEq(count, 2);
        vm.assertEq(uint256(int256(mean)), (uint256(first) + second) / 2);
        vm.assertEq(places, 6);
        vm.assertEq(reputations.getClients(agent).length, 1);
    }

    function test_nobody_links_another_ones_agent_nor_mirrors_without_one() public {
        uint256 agent = agentOf(peers[0]);
        vm.prank(peers[1]);
        refused(AgentMirror.NotTheOwner.selector);
        mirror.link(agent);
        settleEpoch(1);
        refused(AgentMirror.NoAgent.selector);
        mirror.mirror(swarm, peers[1]);
        // An agent that is no member of the swarm has no reputation there.
        linked(address(0xbeef));
        refused(AgentMirror.NotAMember.selector);
        mirror.mirror(swarm, address(0xbeef));
    }

    function test_an_agent_that_was_sold_gets_nothing_more() public {
        uint256 agent = linked(peers[0]);
        settleEpoch(1);
        vm.prank(peers[0]);
        identities.transferFrom(peers[0], peers[1], agent);
        (bool found,) = mirror.agentOf(peers[0]);
        vm.assertFalse(found);
        refused(AgentMirror.NoAgent.selector);
        mirror.mirror(swarm, peers[0]);
    }

    function test_a_peer_can_give_its_own_agent_no_feedback() public {
        uint256 agent = linked(peers[0]);
        vm.prank(peers[0]);
        vm.expectRevert(bytes("Self-feedback not allowed"));
        reputations.giveFeedback(agent, 1_000_000, 6, "murmuration", "", "", "", 0);
        // Another's word is not the mirror's, and a summary of the mirror's leaves it out.
        vm.prank(peers[1]);
        reputations.giveFeedback(agent, 1_000_000, 6, "murmuration", "", "", "", 0);
        (uint64 count,,) = reputations.getSummary(agent, mirrors(), "murmuration", "");
        vm.assertEq(count, 0);
    }
}
