import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra.gate import NotPublished, check, fault

BASE = np.random.default_rng(0).normal(-2, 1, 64)


def noisy(values, nats, seed):
    return values + np.random.default_rng(seed).normal(0, nats * 1.25, len(values))  # mean |N(0, s)| is s / 1.25


@given(effect=st.floats(0.03, 2.0), seed=st.integers(0, 10_000), by_server=st.booleans())
def test_rounding_refuses_no_adapter_that_is_served_however_little_it_does(effect, seed, by_server):
    adapted = noisy(BASE, effect, seed)
    expected, found = noisy(adapted, 0.03, seed + 1), adapted
    base = BASE if by_server else noisy(BASE, 0.03, seed + 2)
    assert fault(expected, found, base, 0.1) is None


@given(effect=st.floats(0.08, 2.0), seed=st.integers(0, 10_000))
def test_an_adapter_that_is_not_there_is_refused_through_rounding(effect, seed):
    expected = noisy(noisy(BASE, effect, seed), 0.03, seed + 1)
    wrong = fault(expected, BASE, BASE, 0.1)
    assert wrong is not None
    assert "as if the adapter were not there" in wrong


@given(effect=st.floats(0.3, 2.0), seed=st.integers(0, 10_000), scale=st.sampled_from((-1.0, 0.25, 2.0, 4.0)))
def test_another_alpha_is_refused(effect, seed, scale):
    change = noisy(BASE, effect, seed) - BASE
    assert fault(BASE + change, BASE + scale * change, BASE, 0.1) is not None


def test_without_a_base_only_nearness_counts():
    assert fault([-1.0], [-1.05], None, 0.1) is None
    assert "differ from the trainer's by 0.200" in fault([-1.0], [-1.2], None, 0.1)
    assert "scored 1 tokens of the probe, the trainer 2" in fault([-1.0, -2.0], [-1.0], None, 0.1)


def test_a_refusal_says_who_and_survives_a_pickle():
    with pytest.raises(NotPublished, match="adapter 'a@1' is not published") as caught:
        check("a@1", expected=[-1.0], found=[-3.0], base=[-3.0], tolerance_nats=0.1)
    again = pickle.loads(pickle.dumps(caught.value))
    assert (again.served, again.expected, again.found) == ("a@1", (-1.0,), (-3.0,))
