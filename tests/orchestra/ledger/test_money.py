from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra.errors import InputError
from orchestra.ledger import nano, show_usd, usd


@pytest.mark.parametrize(
    ("amount", "expected"),
    [
        ("0.1", 100_000_000),
        (3, 3_000_000_000),
        (Decimal("0.0000000001"), 1),
        ("1e-9", 1),
        ("1.0000000001", 1_000_000_001),
    ],
)
def test_an_amount_is_rounded_up_to_whole_nano_dollars(amount, expected):
    assert nano(amount) == expected


@pytest.mark.parametrize("amount", [0.1, True, None])
def test_what_has_lost_the_amount_already_is_refused(amount):
    with pytest.raises(TypeError, match="Decimal"):
        nano(amount)


@pytest.mark.parametrize("amount", ["cheap", "NaN", "Infinity", "-1", -1])
def test_what_is_not_an_amount_is_named(amount):
    with pytest.raises(InputError, match="USD"):
        nano(amount)


@given(st.integers(min_value=0, max_value=10**40))
def test_nano_dollars_survive_the_way_to_decimal_and_back(amount):
    assert nano(usd(amount)) == amount


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        (0, "$0.00"),
        (30_000_000_000, "$30.00"),
        (1_500_000_000, "$1.50"),
        (12_300_000, "$0.0123"),
        (999_950_000, "$1.00"),
        (1_234, "$0.00000123"),
        (1, "$0.000000001"),
        (-12_300_000, "-$0.0123"),
    ],
)
def test_people_read_cents_and_what_is_too_small_for_them(amount, text):
    assert show_usd(amount) == text
