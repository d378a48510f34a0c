// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";
import {ERC20Permit} from "@openzeppelin/contracts/token/ERC20/extensions/ERC20Permit.sol";
import {ERC20Votes} from "@openzeppelin/contracts/token/ERC20/extensions/ERC20Votes.sol";
import {Nonces} from "@openzeppelin/contracts/utils/Nonces.sol";
import {Time} from "@openzeppelin/contracts/utils/types/Time.sol";
import {Checkpoints} from "@openzeppelin/contracts/utils/structs/Checkpoints.sol";
import {IReputationLedger} from "./IMurmuration.sol";

interface ISettledRounds {
    function getState(bytes32 swarm) external view returns (IReputationLedger.SwarmState memory);

    function getRound(bytes32 swarm, uint64 round) external view returns (IReputationLedger.RoundView memory);

    function isScore(
        bytes32 swarm,
        uint64 round,
        IReputationLedger.Score calldata score,
        bytes32[] calldata proof
    ) external view returns (bool);
}

/// A record of who contributed to a swarm: what its contributors own of it. Every epoch
/// of settled rounds mints each peer its reputation, a whole share for a whole
/// reputation, against a proof that leads to a settled round; nobody else can mint.
///
/// A share says what was contributed and votes by it. It has no price and promises none,
/// and cannot be handed on unless the swarm's governance decides that it can.
contract ContributionShares is ERC20, ERC20Permit, ERC20Votes {
    using Checkpoints for Checkpoints.Trace208;

    /// Shares minted for each part per million of reputation.
    uint256 public constant UNIT = 1e12;

    ISettledRounds public immutable ledger;
    bytes32 public immutable swarm;
    /// Settled rounds in an epoch.
    uint32 public immutable epochRounds;
    /// The only one that can make shares transferable.
    address public immutable governance;

    bool public transferable;
    mapping(uint256 epoch => mapping(address peer => bool)) public claimed;
    mapping(address holder => Checkpoints.Trace208) private _balances;

    event SharesClaimed(address indexed peer, uint256 indexed epoch, uint64 indexed round, uint256 amount);
    event TransferableSet(bool transferable);

    /// Name a ledger, a governance and at least one round an epoch.
    error BadConstruction();
    /// Shares stay with who earned them, unless governance decides otherwise.
    error NotTransferable();
    /// Only the swarm's governance may do this: propose it there.
    error NotGovernance(address governance);
    /// Wait until `needed` rounds are settled.
    error EpochNotOver(uint256 epoch, uint256 settled, uint256 needed);
    /// The proof does not lead from this score to the round's root.
    error NotInRound(uint64 round, address peer);
    /// Nothing to do: the peer has its shares of this epoch.
    error AlreadyClaimed(uint256 epoch, address peer);
    /// Ask for a time that has passed.
    error FutureLookup(uint256 timepoint, uint48 clock);

    constructor(ISettledRounds ledger_, bytes32 swarm_, uint32 epochRounds_, address governance_)
        ERC20("Murmuration Contribution", "MURMUR")
        ERC20Permit("Murmuration Contribution")
    {
        if (address(ledger_) == address(0) || governance_ == address(0) || epochRounds_ == 0) revert BadConstruction();
        ledger = ledger_;
        swarm = swarm_;
        epochRounds = epochRounds_;
        governance = governance_;
    }

    /// Mints a peer its shares of an epoch that is over, by what one of the epoch's rounds
    /// says of it: whichever it likes, once an epoch. Anybody may bring the proof.
    function claim(uint64 round, IReputationLedger.Score calldata score, bytes32[] calldata proof) external {
        if (!ledger.isScore(swarm, round, score, proof)) revert NotInRound(round, score.peer);
        uint256 epoch = ledger.getRound(swarm, round).index / epochRounds;
        uint256 settled = ledger.getState(swarm).settledRounds;
        uint256 needed = (epoch + 1) * epochRounds;
        if (settled < needed) revert EpochNotOver(epoch, settled, needed);
        if (claimed[epoch][score.peer]) revert AlreadyClaimed(epoch, score.peer);
        claimed[epoch][score.peer] = true;
        uint256 amount = score.reputation * UNIT;
        // A vote that nobody delegated is its holder's own.
        if (delegates(score.peer) == address(0)) _delegate(score.peer, score.peer);
        _mint(score.peer, amount);
        emit SharesClaimed(score.peer, epoch, round, amount);
    }

    function setTransferable(bool transferable_) external {
        if (msg.sender != governance) revert NotGovernance(governance);
        transferable = transferable_;
        emit TransferableSet(transferable_);
    }

    /// What `holder` held at a time that has passed, whomever its votes were delegated to.
    function pastBalanceOf(address holder, uint256 timepoint) external view returns (uint256) {
        if (timepoint >= clock()) revert FutureLookup(timepoint, clock());
        return _balances[holder].upperLookupRecent(uint48(timepoint));
    }

    /// Time, not blocks: on some rollups a contract sees the block number of another chain.
    function clock() public view override returns (uint48) {
        return Time.timestamp();
    }

    // solhint-disable-next-line func-name-mixedcase
    function CLOCK_MODE() public pure override returns (string memory) {
        return "mode=timestamp";
    }

    function nonces(address owner) public view override(ERC20Permit, Nonces) returns (uint256) {
        return super.nonces(owner);
    }

    function _update(address from, address to, uint256 value) internal override(ERC20, ERC20Votes) {
        if (from != address(0) && to != address(0) && !transferable) revert NotTransferable();
        super._update(from, to, value);
        if (from != address(0)) _balances[from].push(clock(), uint208(balanceOf(from)));
        if (to != address(0)) _balances[to].push(clock(), uint208(balanceOf(to)));
    }
}
