// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {Nonces} from "@openzeppelin/contracts/utils/Nonces.sol";
import {IPeerRegistry} from "./IMurmuration.sol";

/// Who the peers are. A record belongs to the address that made it, and to nobody
/// else: two owners may claim one node key, since "first come" would let anybody
/// squat a key seen on the network. Whoever reads a record checks the node's own
/// signature in it (ed25519, which the EVM cannot) and drops it if false.
///
/// A bond is its owner's alone: no vote, no author and no ledger can take it. What it
/// costs is that it cannot be in two places, nor be had back within `BOND_DELAY`.
contract PeerRegistry is IPeerRegistry, EIP712, Nonces {
    uint256 public constant NAME_LIMIT = 48;
    /// Seconds from a bond's release until it can be withdrawn.
    uint256 public constant BOND_DELAY = 7 days;

    bytes32 private constant REGISTRATION = keccak256(
        "Registration(address owner,bytes32 node,bytes nodeSignature,string name,uint256 nonce,uint256 deadline)"
    );
    bytes32 private constant ROTATION =
        keccak256("Rotation(address owner,bytes32 node,bytes nodeSignature,uint256 nonce,uint256 deadline)");
    bytes32 private constant RETIREMENT = keccak256("Retirement(address owner,uint256 nonce,uint256 deadline)");

    struct BondRecord {
        uint128 amount;
        /// 0: not being released.
        uint64 withdrawableAt;
    }

    mapping(address => Peer) private _peers;
    mapping(address => BondRecord) private _bonds;

    constructor() EIP712("Murmuration Registry", "1") {}

    /// Registers the sender, or replaces its record.
    function register(bytes32 node, bytes calldata nodeSignature, string calldata name) external {
        _register(msg.sender, node, nodeSignature, name);
    }

    /// Registers `owner` by its signature; anybody may relay and pay.
    function registerFor(
        address owner,
        bytes32 node,
        bytes calldata nodeSignature,
        string calldata name,
        uint256 deadline,
        bytes calldata signature
    ) external {
        bytes32 values = keccak256(
            abi.encode(
                REGISTRATION,
                owner,
                node,
                keccak256(nodeSignature),
                keccak256(bytes(name)),
                _useNonce(owner),
                deadline
            )
        );
        _requireSigned(owner, values, deadline, signature);
        _register(owner, node, nodeSignature, name);
    }

    /// Puts another iroh key in the sender's record; name and age stay.
    function rotate(bytes32 node, bytes calldata nodeSignature) external {
        _rotate(msg.sender, node, nodeSignature);
    }

    /// As `rotate`, relayed.
    function rotateFor(
        address owner,
        bytes32 node,
        bytes calldata nodeSignature,
        uint256 deadline,
        bytes calldata signature
    ) external {
        bytes32 values =
            keccak256(abi.encode(ROTATION, owner, node, keccak256(nodeSignature), _useNonce(owner), deadline));
        _requireSigned(owner, values, deadline, signature);
        _rotate(owner, node, nodeSignature);
    }

    /// Deletes the sender's record. What it has earned stays where it is.
    function retire() external {
        _retire(msg.sender);
    }

    /// As `retire`, relayed.
    function retireFor(address owner, uint256 deadline, bytes calldata signature) external {
        bytes32 values = keccak256(abi.encode(RETIREMENT, owner, _useNonce(owner), deadline));
        _requireSigned(owner, values, deadline, signature);
        _retire(owner);
    }

    // --------------------------------------------------------------------- bonds

    /// Adds to a peer's bond; one that is being released is bound again.
    function postBond(address owner) external payable {
        BondRecord storage bond = _bonds[owner];
        uint256 total = uint256(bond.amount) + msg.value;
        if (msg.value == 0 || total > type(uint128).max) revert BondAmount(total);
        bond.amount = uint128(total);
        bond.withdrawableAt = 0;
        emit BondPosted(owner, msg.value, total, msg.sender);
    }

    /// Begins to give the sender's bond back: it counts for nothing from now on.
    function releaseBond() external {
        BondRecord storage bond = _bonds[msg.sender];
        if (bond.amount == 0 || bond.withdrawableAt != 0) revert NothingToRelease(msg.sender);
        bond.withdrawableAt = uint64(block.timestamp + BOND_DELAY);
        emit BondReleased(msg.sender, bond.amount, bond.withdrawableAt);
    }

    /// Pays the sender's released bond out.
    function withdrawBond(address to) external {
        BondRecord memory bond = _bonds[msg.sender];
        if (bond.withdrawableAt == 0 || block.timestamp < bond.withdrawableAt) revert BondHeld(bond.withdrawableAt);
        if (to == address(0)) revert NotPaid(to);
        delete _bonds[msg.sender];
        emit BondWithdrawn(msg.sender, bond.amount, to);
        (bool paid,) = to.call{value: bond.amount}("");
        if (!paid) revert NotPaid(to);
    }

    // --------------------------------------------------------------------- views

    function isRegistered(address owner) external view returns (bool) {
        return _peers[owner].node != 0;
    }

    /// Wei that count for `owner`: what is being released does not.
    function bondOf(address owner) external view returns (uint256) {
        BondRecord storage bond = _bonds[owner];
        return bond.withdrawableAt == 0 ? bond.amount : 0;
    }

    function peer(address owner) external view returns (Peer memory) {
        return _peers[owner];
    }

    function peers(address[] calldata owners) external view returns (Peer[] memory found) {
        found = new Peer[](owners.length);
        for (uint256 i = 0; i < owners.length; ++i) {
            found[i] = _peers[owners[i]];
        }
    }

    /// What the node key signs to say that it is `owner`'s, here.
    function registrationMessage(address owner) public view returns (bytes memory) {
        return abi.encodePacked("murmuration/registration/1", block.chainid, address(this), owner);
    }

    // ----------------------------------------------------------------- internals

    function _requireSigned(address owner, bytes32 values, uint256 deadline, bytes calldata signature) private view {
        if (block.timestamp > deadline) revert SignatureExpired(deadline);
        (address signer, ECDSA.RecoverError fault,) = ECDSA.tryRecover(_hashTypedDataV4(values), signature);
        if (fault != ECDSA.RecoverError.NoError || signer != owner) revert NotSignedByOwner(owner);
    }

    function _register(address owner, bytes32 node, bytes calldata nodeSignature, string calldata name) private {
        if (bytes(name).length > NAME_LIMIT) revert NameTooLong(bytes(name).length, NAME_LIMIT);
        _setNode(owner, node, nodeSignature);
        _peers[owner].name = name;
        _peers[owner].registeredAt = uint64(block.timestamp);
        emit PeerRegistered(owner, node, nodeSignature, name, msg.sender);
    }

    function _rotate(address owner, bytes32 node, bytes calldata nodeSignature) private {
        bytes32 oldNode = _requirePeer(owner);
        _setNode(owner, node, nodeSignature);
        emit PeerRotated(owner, oldNode, node, nodeSignature, msg.sender);
    }

    function _retire(address owner) private {
        bytes32 node = _requirePeer(owner);
        delete _peers[owner];
        emit PeerRetired(owner, node, msg.sender);
    }

    function _requirePeer(address owner) private view returns (bytes32 node) {
        node = _peers[owner].node;
        if (node == 0) revert NoSuchPeer(owner);
    }

    function _setNode(address owner, bytes32 node, bytes calldata nodeSignature) private {
        if (node == 0) revert EmptyNodeKey();
        if (nodeSignature.length != 64) revert NodeSignatureLength(nodeSignature.length);
        Peer storage record = _peers[owner];
        record.node = node;
        record.nodeSignatureR = bytes32(nodeSignature[:32]);
        record.nodeSignatureS = bytes32(nodeSignature[32:]);
    }
}
