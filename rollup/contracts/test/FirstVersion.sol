// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {OwnableUpgradeable} from "@openzeppelin/contracts-upgradeable/access/OwnableUpgradeable.sol";
import {UUPSUpgradeable} from "@openzeppelin/contracts-upgradeable/proxy/utils/UUPSUpgradeable.sol";

/// What stands behind the proxies of ERC-8004's registries before they are upgraded to what
/// they are: it has an owner, and the identity registry in its first slot.
contract FirstVersion is OwnableUpgradeable, UUPSUpgradeable {
    address private _identityRegistry;

    function initialize(address identityRegistry, address owner) external initializer {
        __Ownable_init(owner);
        _identityRegistry = identityRegistry;
    }

    function _authorizeUpgrade(address) internal override onlyOwner {}
}
