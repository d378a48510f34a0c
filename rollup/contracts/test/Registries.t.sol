// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IPeerRegistry as IP, IReputationLedger as I, ISwarmRegistry as IS} from "../src/IMurmuration.sol";
import {World, vm} from "./World.sol";

/// Who may say what of whom: registrations, bonds, admission, pauses, presence.
contract RegistriesTest is World {
    bytes32 private constant NODE = bytes32(uint256(5));

    receive() external payable {}

    function registryDomain() private view returns (bytes32) {
        bytes32 kind =
            keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)");
        return keccak256(
            abi.encode(kind, keccak256("Murmuration Registry"), keccak256("1"), block.chainid, address(registry))
        );
    }

    function signedRegistration(uint256 key, bytes32 node, uint256 nonce, uint256 deadline)
        private
        view
        returns (bytes memory)
    {
        bytes32 kind = keccak256(
            "Registration(address owner,bytes32 node,bytes nodeSignature,string name,uint256 nonce,uint256 deadline)"
        );
        bytes32 values = keccak256(
            abi.encode(kind, vm.addr(key), node, keccak256(new bytes(64)), keccak256("poor"), nonce, deadline)
        );
        return signFor(key, registryDomain(), values);
    }

    function test_a_registration_is_its_owners_word_once_and_in_time() public {
        build(1, local());
        uint256 key = 4242;
        address owner = vm.addr(key);
        uint256 deadline = block.timestamp + 60;
        bytes memory signature = signedRegistration(key, NODE, 0, deadline);
        refused(IP.NotSignedByOwner.selector);
        registry.registerFor(peers[0], NODE, new bytes(64), "poor", deadline, signature);
        refused(IP.NotSignedByOwner.selector);
        registry.registerFor(owner, bytes32(uint256(6)), new bytes(64), "poor", deadline, signature);
        registry.registerFor(owner, NODE, new bytes(64), "poor", deadline, signature);
        vm.assertTrue(registry.isRegistered(owner));
        // A replay is of a number that is used.
        refused(IP.NotSignedByOwner.selector);
        registry.registerFor(owner, NODE, new bytes(64), "poor", deadline, signature);
        bytes memory late = signedRegistration(key, NODE, 1, deadline);
        vm.warp(deadline + 1);
        refused(IP.SignatureExpired.selector);
        registry.registerFor(owner, NODE, new bytes(64), "poor", deadline, late);
    }

    function test_a_key_seen_on_the_network_can_be_claimed_and_takes_nothing_from_its_owner() public {
        build(2, local());
        address squatter = address(0xbad);
        vm.prank(squatter);
        registry.register(NODE, new bytes(64), "squatter");
        // Both records stand; readers drop the one whose node never signed for its owner.
        vm.assertEq(registry.peer(squatter).node, registry.peer(peers[0]).node);
        vm.prank(peers[0]);
        registry.rotate(bytes32(uint256(9)), new bytes(64));
        vm.assertEq(registry.peer(peers[0]).node, bytes32(uint256(9)));
        vm.assertEq(registry.peer(squatter).node, NODE);
        vm.prank(squatter);
        registry.retire();
        vm.assertFalse(registry.isRegistered(squatter));
        vm.prank(squatter);
        refused(IP.NoSuchPeer.selector);
        registry.rotate(NODE, new bytes(64));
    }

    function test_a_rotation_and_a_retirement_can_be_relayed() public {
        build(1, local());
        address owner = peers[0];
        uint256 deadline = block.timestamp + 60;
        bytes32 next = bytes32(uint256(8));
        bytes32 kind =
            keccak256("Rotation(address owner,bytes32 node,bytes nodeSignature,uint256 nonce,uint256 deadline)");
        bytes32 values =
            keccak256(abi.encode(kind, owner, next, keccak256(new bytes(64)), uint256(0), deadline));
        registry.rotateFor(owner, next, new bytes(64), deadline, signFor(keys[0], registryDomain(), values));
        vm.assertEq(registry.peer(owner).node, next);
        kind = keccak256("Retirement(address owner,uint256 nonce,uint256 deadline)");
        values = keccak256(abi.encode(kind, owner, uint256(1), deadline));
        registry.retireFor(owner, deadline, signFor(keys[0], registryDomain(), values));
        vm.assertFalse(registry.isRegistered(owner));
    }

    function test_what_is_no_record_is_refused() public {
        build(1, local());
        refused(IP.EmptyNodeKey.selector);
        registry.register(0, new bytes(64), "peer");
        refused(IP.NodeSignatureLength.selector);
        registry.register(NODE, new bytes(63), "peer");
        refused(IP.NameTooLong.selector);
        registry.register(NODE, new bytes(64), "a name of more than forty-eight bytes, which is too long");
        vm.assertEq(registry.peers(peers).length, 1);
        vm.assertEq(registry.registrationMessage(peers[0]).length, 26 + 32 + 20 + 20);
    }

    function test_a_bond_admits_while_it_is_posted_and_is_its_owners_alone() public {
        IS.Terms memory terms = local();
        terms.admission = IS.Admission.Bond;
        terms.bond = 1 ether;
        build(2, terms);
        vm.prank(peers[0]);
        refused(I.NotAdmitted.selector);
        ledger.joinSwarm(swarm);
        vm.deal(address(this), 5 ether);
        refused(IP.BondAmount.selector);
        registry.postBond(peers[0]);
        registry.postBond{value: 1 ether}(peers[0]);
        join(peers[0]);
        refused(I.StillAdmitted.selector);
        ledger.evict(swarm, peers[0]);
        vm.prank(peers[0]);
        refused(IP.BondHeld.selector);
        registry.withdrawBond(peers[0]);
        vm.prank(peers[0]);
        registry.releaseBond();
        vm.prank(peers[0]);
        refused(IP.NothingToRelease.selector);
        registry.releaseBond();
        // From the moment it is being released it counts for nothing.
        ledger.evict(swarm, peers[0]);
        vm.assertFalse(standing(peers[0]).active);
        vm.warp(block.timestamp + 7 days);
        vm.prank(peers[0]);
        refused(IP.NotPaid.selector);
        registry.withdrawBond(address(0));
        vm.prank(peers[0]);
        registry.withdrawBond(address(0xcafe));
        vm.assertEq(address(0xcafe).balance, 1 ether);
        vm.assertEq(registry.bondOf(peers[0]), 0);
    }

    function authored() private returns (address author) {
        author = address(0xa07);
        IS.Terms memory terms = local();
        terms.admission = IS.Admission.Allowlist;
        terms.author = author;
        build(2, terms);
    }

    function test_an_author_admits_and_pauses_and_touches_no_score() public {
        address author = authored();
        refused(IS.NotAuthor.selector);
        swarms.admit(swarm, peers, true);
        vm.prank(author);
        swarms.admit(swarm, peers, true);
        join(peers[0]);
        join(peers[1]);
        refused(IS.NotAuthor.selector);
        swarms.pause(swarm, true);
        vm.prank(author);
        swarms.pause(swarm, true);
        refused(I.Paused.selector);
        ledger.openRound(swarm, 1);
        vm.prank(author);
        swarms.pause(swarm, false);
        open(1);
        vm.prank(author);
        swarms.changeAuthor(swarm, address(0));
        vm.prank(author);
        refused(IS.NotAuthor.selector);
        swarms.pause(swarm, true);
    }

    function test_a_governance_is_named_once_and_changes_the_pace_and_the_curriculum() public {
        address author = authored();
        address council = address(0xc0);
        refused(IS.NotAuthor.selector);
        swarms.changeGovernance(swarm, council);
        vm.prank(author);
        swarms.changeGovernance(swarm, council);
        vm.prank(author);
        refused(IS.NotGovernance.selector);
        swarms.changeGovernance(swarm, author);
        vm.prank(author);
        refused(IS.NotGovernance.selector);
        swarms.changeParameters(swarm, 1, 2, IS.Admission.Open, 0);
        vm.prank(council);
        swarms.changeParameters(swarm, 1, 2, IS.Admission.Open, 0);
        IS.Swarm memory now_ = swarms.getSwarm(swarm);
        vm.assertEq(now_.terms.settleTimeout, 2);
        vm.prank(council);
        refused(IS.EmptyManifest.selector);
        swarms.changeManifest(swarm, 0);
        vm.prank(council);
        swarms.changeManifest(swarm, NODE);
        vm.assertEq(swarms.getSwarm(swarm).manifest, NODE);
        refused(IS.UnknownSwarm.selector);
        swarms.getSwarm(NODE);
        refused(IS.EmptyManifest.selector);
        swarms.createSwarm(0, local());
    }

    function test_presence_can_be_relayed_and_goes_stale() public {
        build(3, local());
        open(1);
        bytes32 kind = keccak256("CheckIn(bytes32 swarm,address peer,uint64 round)");
        bytes memory word = signAs(keys[0], keccak256(abi.encode(kind, swarm, peers[0], uint64(1))));
        vm.prank(peers[0]);
        ledger.leaveSwarm(swarm);
        vm.assertFalse(standing(peers[0]).active);
        refused(I.BadSignature.selector);
        ledger.checkInFor(swarm, peers[1], 1, word);
        ledger.checkInFor(swarm, peers[0], 1, word);
        vm.assertTrue(standing(peers[0]).active);
        for (uint64 round = 2; round < 5; ++round) {
            open(round);
        }
        refused(I.StaleCheckIn.selector);
        ledger.checkInFor(swarm, peers[0], 1, word);
        refused(I.NotAMember.selector);
        ledger.checkIn(swarm);
        kind = keccak256("Join(bytes32 swarm,address peer)");
        uint256 key = 4243;
        register(vm.addr(key));
        word = signAs(key, keccak256(abi.encode(kind, swarm, vm.addr(key))));
        ledger.joinSwarmFor(swarm, vm.addr(key), word);
        vm.assertEq(ledger.memberCount(swarm), 4);
    }

    function test_a_stranger_floods_with_settlements_and_changes_nothing() public {
        build(4, local());
        play(1, 800_000);
        bytes32 root = ledger.getState(swarm).root;
        address[] memory committee = open(2);
        I.Scorecard[] memory cards = flatCards(committee, 4, 2, 0);
        vm.prank(address(0xbad));
        refused(I.AlreadySettled.selector);
        ledger.settle(swarm, 1, INCLUDED, peers, cards, new bytes32[](0));
        // The right cards under another set, or short of a quorum, or for a round to come.
        refused(I.BadSignature.selector);
        ledger.settle(swarm, 2, bytes32(uint256(8)), peers, cards, new bytes32[](0));
        refused(I.RoundNotOpened.selector);
        ledger.settle(swarm, 3, INCLUDED, peers, cards, new bytes32[](0));
        refused(I.CardsNeedNoSeal.selector);
        ledger.settle(swarm, 2, INCLUDED, peers, cards, new bytes32[](4));
        vm.assertEq(ledger.getState(swarm).root, root);
    }
}
