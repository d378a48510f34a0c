// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {Strings} from "@openzeppelin/contracts/utils/Strings.sol";
import {IReputationLedger} from "./IMurmuration.sol";

interface IStandings {
    function getState(bytes32 swarm) external view returns (IReputationLedger.SwarmState memory);

    function standing(bytes32 swarm, address peer) external view returns (IReputationLedger.Standing memory);
}

/// What is used of ERC-8004's identity registry: an agent is an ERC-721 token.
interface IAgentIdentities {
    function ownerOf(uint256 agentId) external view returns (address);
}

/// What is used of ERC-8004's reputation registry.
interface IAgentReputations {
    function getIdentityRegistry() external view returns (address);

    function giveFeedback(
        uint256 agentId,
        int128 value,
        uint8 valueDecimals,
        string calldata tag1,
        string calldata tag2,
        string calldata endpoint,
        string calldata feedbackURI,
        bytes32 feedbackHash
    ) external;
}

/// Brings what the ledger says of a peer into the ERC-8004 registries of its chain. This
/// contract is the one that gives the feedback, and gives nothing but what the ledger says:
/// who reads a summary of its feedback alone reads the ledger, and need trust nobody.
///
/// A peer links the agent it owns; from then on anybody may mirror it, once an epoch for
/// each swarm. It holds nothing, nobody owns it, and it cannot be changed.
contract AgentMirror {
    /// Settled rounds in an epoch.
    uint32 public constant EPOCH_ROUNDS = 32;
    /// Reputations are parts per million: a whole is 1.000000.
    uint8 public constant DECIMALS = 6;
    string public constant TAG = "murmuration";

    IStandings public immutable ledger;
    IAgentIdentities public immutable identities;
    IAgentReputations public immutable reputations;

    /// 1 + the agent that a peer has linked.
    mapping(address peer => uint256) private _agents;
    /// How many epochs were over when a peer was last mirrored.
    mapping(bytes32 swarm => mapping(address peer => uint32)) public mirrored;

    event AgentLinked(address indexed peer, uint256 indexed agentId);
    event ReputationMirrored(
        bytes32 indexed swarm, address indexed peer, uint256 indexed agentId, uint32 epochs, uint32 reputation
    );

    /// Only the agent's owner can link it.
    error NotTheOwner(uint256 agentId, address owner);
    /// Link an agent first, and own it still: link.
    error NoAgent(address peer);
    /// Only members of the swarm have a reputation in it.
    error NotAMember(address peer);
    /// Wait until `needed` rounds are settled.
    error EpochNotOver(uint256 settled, uint256 needed);

    constructor(IStandings ledger_, IAgentReputations reputations_) {
        ledger = ledger_;
        reputations = reputations_;
        identities = IAgentIdentities(reputations_.getIdentityRegistry());
    }

    /// Says that the sender is this agent; a later word replaces an earlier one.
    function link(uint256 agentId) external {
        address owner = identities.ownerOf(agentId);
        if (owner != msg.sender) revert NotTheOwner(agentId, owner);
        _agents[msg.sender] = agentId + 1;
        emit AgentLinked(msg.sender, agentId);
    }

    /// The agent that a peer has linked and owns still.
    function agentOf(address peer) public view returns (bool found, uint256 agentId) {
        uint256 linked = _agents[peer];
        if (linked == 0) return (false, 0);
        agentId = linked - 1;
        try identities.ownerOf(agentId) returns (address owner) {
            found = owner == peer;
        } catch {}
    }

    /// Gives a peer's agent what the ledger says of it now, if an epoch is over since the
    /// last time. The hash is the ledger's, over everything that the swarm has settled.
    function mirror(bytes32 swarm, address peer) external {
        (bool found, uint256 agentId) = agentOf(peer);
        if (!found) revert NoAgent(peer);
        IReputationLedger.Standing memory standing = ledger.standing(swarm, peer);
        if (!standing.member) revert NotAMember(peer);
        IReputationLedger.SwarmState memory state = ledger.getState(swarm);
        uint32 epochs = state.settledRounds / EPOCH_ROUNDS;
        uint32 before = mirrored[swarm][peer];
        if (epochs <= before) revert EpochNotOver(state.settledRounds, (uint256(before) + 1) * EPOCH_ROUNDS);
        mirrored[swarm][peer] = epochs;
        emit ReputationMirrored(swarm, peer, agentId, epochs, standing.reputation);
        reputations.giveFeedback(
            agentId,
            int128(uint128(standing.reputation)),
            DECIMALS,
            TAG,
            tagOf(swarm),
            "",
            string.concat(
                "eip155:",
                Strings.toString(block.chainid),
                ":",
                Strings.toHexString(address(ledger)),
                "/",
                Strings.toHexString(uint256(swarm), 32)
            ),
            state.root
        );
    }

    /// A swarm as a tag: the first fourteen bytes of its id, which fit one word of storage.
    function tagOf(bytes32 swarm) public pure returns (string memory) {
        return Strings.toHexString(uint256(swarm) >> 144, 14);
    }
}
