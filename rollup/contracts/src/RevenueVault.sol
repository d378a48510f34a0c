// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";

interface IPastShares {
    function clock() external view returns (uint48);

    function pastBalanceOf(address holder, uint256 timepoint) external view returns (uint256);

    function getPastTotalSupply(uint256 timepoint) external view returns (uint256);
}

/// Divides what a swarm is paid among those who held its shares when it was paid, pro
/// rata, each at its own claim and without a list of holders. What rounding leaves stays
/// here: less than one wei a holder.
contract RevenueVault is ReentrancyGuardTransient {
    using SafeERC20 for IERC20;

    struct Payment {
        /// Zero: ether.
        IERC20 token;
        /// The holders of this second share it.
        uint48 timepoint;
        uint256 amount;
        uint256 supply;
    }

    IPastShares public immutable shares;

    Payment[] private _payments;
    mapping(uint256 payment => mapping(address holder => bool)) public claimed;

    event PaymentReceived(
        uint256 indexed payment, address indexed payer, IERC20 indexed token, uint256 amount, uint48 timepoint
    );
    event PaymentClaimed(uint256 indexed payment, address indexed holder, uint256 amount);

    /// Pay something.
    error NothingPaid();
    /// Nobody holds shares yet: pay once an epoch has been claimed.
    error NoHolders();
    /// There are only `payments` payments, counted from 0.
    error UnknownPayment(uint256 payment, uint256 payments);
    /// Nothing to do: this holder has its part.
    error AlreadyClaimed(uint256 payment, address holder);
    /// This holder had no shares when the payment came.
    error NotAHolder(uint256 payment, address holder);
    /// The holder did not take the ether.
    error NotPaid(address holder);

    constructor(IPastShares shares_) {
        shares = shares_;
    }

    receive() external payable {
        _receive(IERC20(address(0)), msg.value);
    }

    /// Pays in ether. So does sending it.
    function pay() external payable returns (uint256 payment) {
        return _receive(IERC20(address(0)), msg.value);
    }

    /// Pays in a token, of which the payer has approved `amount`.
    function payToken(IERC20 token, uint256 amount) external nonReentrant returns (uint256 payment) {
        uint256 before = token.balanceOf(address(this));
        token.safeTransferFrom(msg.sender, address(this), amount);
        // What came, not what was said: some tokens keep a fee.
        return _receive(token, token.balanceOf(address(this)) - before);
    }

    /// Pays a holder its part of one payment; anybody may ask for it.
    function claim(uint256 payment, address holder) external nonReentrant {
        uint256 part = partOf(payment, holder);
        if (claimed[payment][holder]) revert AlreadyClaimed(payment, holder);
        if (part == 0) revert NotAHolder(payment, holder);
        claimed[payment][holder] = true;
        emit PaymentClaimed(payment, holder, part);
        IERC20 token = _payments[payment].token;
        if (address(token) != address(0)) {
            token.safeTransfer(holder, part);
            return;
        }
        (bool paid,) = holder.call{value: part}("");
        if (!paid) revert NotPaid(holder);
    }

    function partOf(uint256 payment, address holder) public view returns (uint256) {
        Payment memory p = getPayment(payment);
        return p.amount * shares.pastBalanceOf(holder, p.timepoint) / p.supply;
    }

    function getPayment(uint256 payment) public view returns (Payment memory) {
        if (payment >= _payments.length) revert UnknownPayment(payment, _payments.length);
        return _payments[payment];
    }

    function paymentCount() external view returns (uint256) {
        return _payments.length;
    }

    function _receive(IERC20 token, uint256 amount) private returns (uint256 payment) {
        if (amount == 0) revert NothingPaid();
        // The second before this one: nobody can claim shares on seeing a payment come.
        uint48 timepoint = shares.clock() - 1;
        uint256 supply = shares.getPastTotalSupply(timepoint);
        if (supply == 0) revert NoHolders();
        payment = _payments.length;
        _payments.push(Payment(token, timepoint, amount, supply));
        emit PaymentReceived(payment, msg.sender, token, amount, timepoint);
    }
}
