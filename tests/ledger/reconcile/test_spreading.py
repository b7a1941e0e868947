"""Shares that add up."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.reconcile.spreading import spread

AMOUNTS = st.decimals(min_value=-(10**6), max_value=10**6, places=12)
WEIGHTS = st.lists(st.decimals(min_value=0, max_value=10**9, places=6), min_size=1, max_size=30)


@given(AMOUNTS, WEIGHTS)
def test_shares_add_up_to_the_last_digit_and_none_goes_the_other_way(total: Decimal, weights: list[Decimal]) -> None:
    shares = spread(total, weights)
    assert sum(shares) == total
    assert all(share * total >= 0 for share in shares)
    assert all(share.as_tuple().exponent == -12 for share in shares)


@given(AMOUNTS, WEIGHTS)
def test_each_share_but_the_heaviest_is_in_proportion(total: Decimal, weights: list[Decimal]) -> None:
    if not any(weights):
        return
    shares = spread(total, weights)
    heaviest = weights.index(max(weights))
    for index, (share, weight) in enumerate(zip(shares, weights, strict=True)):
        if index != heaviest:
            assert abs(share - total * weight / sum(weights)) <= Decimal("0.00000000001")


def test_what_is_left_goes_to_the_heaviest() -> None:
    assert spread(Decimal("0.000000000010"), [1, 2, 1]) == [
        Decimal("0.000000000002"), Decimal("0.000000000006"), Decimal("0.000000000002"),
    ]  # fmt: skip


def test_no_weight_at_all_is_an_equal_share() -> None:
    assert spread(Decimal("-0.03"), [0, 0, 0]) == [Decimal("-0.01")] * 3


def test_nobody_to_carry_it_is_an_error() -> None:
    with pytest.raises(ValueError, match="nothing to spread over"):
        spread(Decimal(1), [])
    with pytest.raises(ValueError, match="negative"):
        spread(Decimal(1), [Decimal(-1)])
