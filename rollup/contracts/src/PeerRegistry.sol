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
contract PeerRegistry is IPeerRegistry, EIP712, Nonces {
    uint256 public constant NAME_LIMIT = 48;

    bytes32 private constant REGISTRATION = keccak256(
        "Registration(address owner,bytes32 node,bytes nodeSignature,string name,uint256 nonce,uint256 deadline)"
    );

    mapping(address => Peer) private _peers;

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
        if (block.timestamp > deadline) revert SignatureExpired(deadline);
        bytes32 digest = _hashTypedDataV4(
            keccak256(
                abi.encode(
                    REGISTRATION,
                    owner,
                    node,
                    keccak256(nodeSignature),
                    keccak256(bytes(name)),
                    _useNonce(owner),
                    deadline
                )
            )
        );
        (address signer, ECDSA.RecoverError fault,) = ECDSA.tryRecover(digest, signature);
        if (fault != ECDSA.RecoverError.NoError || signer != owner) revert NotSignedByOwner(owner);
        _register(owner, node, nodeSignature, name);
    }

    function isRegistered(address owner) external view returns (bool) {
        return _peers[owner].node != 0;
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

    function _register(address owner, bytes32 node, bytes calldata nodeSignature, string calldata name) private {
        if (node == 0) revert EmptyNodeKey();
        if (nodeSignature.length != 64) revert NodeSignatureLength(nodeSignature.length);
        if (bytes(name).length > NAME_LIMIT) revert NameTooLong(bytes(name).length, NAME_LIMIT);
        _peers[owner] = Peer({
            node: node,
            nodeSignatureR: bytes32(nodeSignature[:32]),
            nodeSignatureS: bytes32(nodeSignature[32:]),
            registeredAt: uint64(block.timestamp),
            name: name
        });
        emit PeerRegistered(owner, node, nodeSignature, name, msg.sender);
    }
}
