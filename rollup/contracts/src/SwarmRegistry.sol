// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IPeerRegistry, ISwarmRegistry} from "./IMurmuration.sol";

/// Which swarms there are, whom they admit, and who may change what about them.
///
/// An author may admit and pause. A governance, which the author names once, may change
/// the manifest (the curriculum) and the pace. Neither can touch a score, a weight, a
/// share or a bond: the ledger asks this contract who may join and when, and nothing else.
contract SwarmRegistry is ISwarmRegistry {
    IPeerRegistry public immutable registry;

    mapping(bytes32 swarm => Swarm) private _swarms;
    mapping(bytes32 swarm => mapping(address peer => bool)) private _admitted;

    constructor(IPeerRegistry registry_) {
        registry = registry_;
    }

    modifier onlyAuthor(bytes32 swarm) {
        address author = _swarm(swarm).terms.author;
        if (msg.sender != author) revert NotAuthor(author);
        _;
    }

    modifier onlyGovernance(bytes32 swarm) {
        address governance = _swarm(swarm).governance;
        if (msg.sender != governance) revert NotGovernance(governance);
        _;
    }

    /// Creates a swarm, or does nothing if it is there: its id follows from its terms.
    function createSwarm(bytes32 manifest, Terms calldata terms_) external returns (bytes32 swarm) {
        swarm = swarmId(manifest, terms_);
        Swarm storage s = _swarms[swarm];
        if (s.createdAt != 0) return swarm;
        if (manifest == 0) revert EmptyManifest();
        s.manifest = manifest;
        s.terms = terms_;
        s.createdAt = uint64(block.timestamp);
        emit SwarmCreated(swarm, manifest, terms_);
    }

    // -------------------------------------------------------------------- author

    /// Admits peers to a swarm with an allowlist, or takes that back.
    function admit(bytes32 swarm, address[] calldata peers, bool admitted) external onlyAuthor(swarm) {
        for (uint256 i = 0; i < peers.length; ++i) {
            _admitted[swarm][peers[i]] = admitted;
            emit PeerAdmitted(swarm, peers[i], admitted);
        }
    }

    /// A paused swarm opens no rounds; those that are open still settle.
    function pause(bytes32 swarm, bool paused) external onlyAuthor(swarm) {
        _swarms[swarm].paused = paused;
        emit SwarmPaused(swarm, paused);
    }

    /// Hands the authorship on; zero gives it up for ever.
    function changeAuthor(bytes32 swarm, address author) external onlyAuthor(swarm) {
        _swarms[swarm].terms.author = author;
        emit AuthorChanged(swarm, author);
    }

    // ---------------------------------------------------------------- governance

    /// Names who may change manifest and parameters: once by the author, from then on
    /// only by whom it named (zero: back to the author).
    function changeGovernance(bytes32 swarm, address governance) external {
        Swarm storage s = _swarm(swarm);
        if (s.governance == address(0)) {
            if (msg.sender != s.terms.author) revert NotAuthor(s.terms.author);
        } else if (msg.sender != s.governance) {
            revert NotGovernance(s.governance);
        }
        s.governance = governance;
        emit GovernanceChanged(swarm, governance);
    }

    /// Another curriculum under the same id; nodes follow from the next round.
    function changeManifest(bytes32 swarm, bytes32 manifest) external onlyGovernance(swarm) {
        if (manifest == 0) revert EmptyManifest();
        _swarms[swarm].manifest = manifest;
        emit ManifestChanged(swarm, manifest);
    }

    /// Another pace or admission. Rounds that are open keep the terms they began with.
    function changeParameters(
        bytes32 swarm,
        uint32 minInterval,
        uint32 settleTimeout,
        Admission admission,
        uint128 bond
    ) external onlyGovernance(swarm) {
        Terms storage t = _swarms[swarm].terms;
        t.minInterval = minInterval;
        t.settleTimeout = settleTimeout;
        t.admission = admission;
        t.bond = bond;
        emit ParametersChanged(swarm, minInterval, settleTimeout, admission, bond);
    }

    // --------------------------------------------------------------------- views

    function swarmId(bytes32 manifest, Terms calldata terms_) public pure returns (bytes32) {
        return keccak256(abi.encode(manifest, terms_));
    }

    function getSwarm(bytes32 swarm) external view returns (Swarm memory) {
        return _swarm(swarm);
    }

    function terms(bytes32 swarm) external view returns (Terms memory found, bool paused) {
        Swarm storage s = _swarm(swarm);
        return (s.terms, s.paused);
    }

    function admits(bytes32 swarm, address peer) external view returns (bool) {
        Terms storage t = _swarm(swarm).terms;
        if (t.admission == Admission.Allowlist) return _admitted[swarm][peer];
        if (t.admission == Admission.Bond) return registry.bondOf(peer) >= t.bond;
        return true;
    }

    function _swarm(bytes32 swarm) private view returns (Swarm storage s) {
        s = _swarms[swarm];
        if (s.createdAt == 0) revert UnknownSwarm(swarm);
    }
}
