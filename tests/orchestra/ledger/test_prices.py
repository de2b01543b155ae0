import math
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra.errors import InputError
from orchestra.ledger import Price


def test_a_call_costs_prompt_and_reply_apart_and_is_rounded_up_once():
    price = Price.per_million("0.15", "0.60", source="list")
    assert price.cost(1_000, 500) == 150_000 + 300_000
    assert Price(1, 1, "tiny").cost(1, 1) == 1


def test_a_machine_of_ones_own_is_priced_by_its_speed():
    price = Price.from_speed(Decimal("0.36"), 1_000, 100, source="measured")
    assert price.input_nano_per_million == 100_000_000  # 1e-4 USD a second / 1000 tokens a second * 1e6 tokens
    assert price.output_nano_per_million == 1_000_000_000


@given(st.decimals("0.01", "100", places=2), st.floats(0.1, 1e6), st.integers(0, 10**6), st.integers(0, 10**6))
def test_what_is_charged_never_understates_the_hour(hour, speed, read, written):
    price = Price.from_speed(hour, speed, speed, source="measured")
    true = Fraction(hour) * 10**9 / 3600 / Fraction(speed) * (read + written)
    assert price.cost(read, written) >= true
    assert price.cost(read, written) <= math.ceil(true + Fraction(read + written, 10**6) + 1)


@pytest.mark.parametrize("speed", [0, -1.0, math.inf, math.nan])
def test_a_speed_that_is_none_is_refused(speed):
    with pytest.raises(InputError, match="tokens per second"):
        Price.from_speed("0.10", speed, 10, source="measured")


LONG = Price(1_000_000, 4_000_000, "tiers", 100, 2_000_000, 6_000_000)


def test_a_prompt_above_the_limit_makes_the_whole_call_dearer():
    assert LONG.cost(100, 10) == 140
    assert LONG.cost(101, 10) == 262
    assert LONG.cost(400, 40, calls=4) == 4 * LONG.cost(100, 10)


@given(st.integers(0, 300), st.integers(0, 300), st.integers(0, 100), st.integers(0, 100))
def test_a_longer_call_never_costs_less_so_that_what_is_reserved_covers_what_is_settled(read, more, written, longer):
    assert LONG.cost(read, written) <= LONG.cost(read + more, written + longer)


def test_a_negative_price_and_a_float_are_refused():
    with pytest.raises(InputError, match="at least zero"):
        Price(-1, 0, "wrong")
    with pytest.raises(TypeError, match="integer"):
        Price(0.5, 0, "wrong")
    with pytest.raises(ValueError, match="counted from zero"):
        Price(1, 1, "x").cost(-1, 0)
