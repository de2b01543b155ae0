import math
from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from orchestra.models.local.sampling import Chooser, draw, generator_of

LOGITS = torch.tensor([2.0, 1.0, 0.5, 0.0, -1.0, -3.0])


def chooser(temperature=1.0, top_k=0, top_p=1.0, seed=0, sample_index=0):
    return Chooser(temperature=temperature, top_k=top_k, top_p=top_p, generator=generator_of(seed, sample_index))


def drawn(times, **rule):
    one = chooser(**rule)
    pairs = [draw(LOGITS[None], [one]) for _ in range(times)]
    return [(tokens[0], logprobs[0]) for tokens, logprobs in pairs]


def test_greedy_takes_the_best_with_its_untempered_log_probability():
    tokens, logprobs = draw(LOGITS[None], [chooser(temperature=0.0)])
    assert tokens == [0]
    assert logprobs[0] == pytest.approx(float(torch.log_softmax(LOGITS, 0)[0]))


@pytest.mark.parametrize(
    ("rule", "allowed"), [({}, 6), ({"temperature": 1.5}, 6), ({"top_k": 3}, 3), ({"top_p": 0.8}, 3)]
)
def test_tokens_come_as_often_as_their_log_probabilities_say(rule, allowed):
    pairs = drawn(4000, **rule)
    stated = {token: math.exp(logprob) for token, logprob in pairs}
    assert len(stated) == allowed
    assert sum(stated.values()) == pytest.approx(1.0, abs=1e-5)
    for token, count in Counter(token for token, _ in pairs).items():
        assert count / 4000 == pytest.approx(stated[token], abs=0.03)


def test_top_p_counts_within_what_top_k_left():
    assert {token for token, _ in drawn(300, top_k=2, top_p=0.7)} == {0}


@given(st.integers(0, 2**31), st.floats(0.05, 0.99))
def test_the_nucleus_is_the_smallest_set_that_reaches_top_p(seed, top_p):
    logits = torch.randn(2000, generator=torch.Generator().manual_seed(seed))
    probabilities = torch.softmax(logits, 0)
    _, logprobs = draw(logits[None], [chooser(top_p=top_p, seed=seed)])
    tokens, _ = draw(logits[None], [chooser(top_p=top_p, seed=seed)])
    mass = float(probabilities[tokens[0]]) / math.exp(logprobs[0])
    smallest = float(probabilities.sort(descending=True).values.cumsum(0)[-1])
    assert top_p - 1e-4 <= mass <= smallest
    assert mass - float(probabilities.max()) <= top_p + 1e-4


def test_a_rows_draw_does_not_depend_on_its_batch():
    rules = [{"temperature": 0.0}, {"temperature": 0.7}, {"top_k": 3}, {"top_p": 0.6}, {"temperature": 1.3}]
    logits = torch.randn(5, 300, generator=torch.Generator().manual_seed(3))
    together = draw(logits, [chooser(**rule, seed=i) for i, rule in enumerate(rules)])
    alone = [draw(logits[i : i + 1], [chooser(**rule, seed=i)]) for i, rule in enumerate(rules)]
    assert together == ([a[0][0] for a in alone], [a[1][0] for a in alone])


def test_seed_and_sample_index_together_make_the_draw():
    def first(seed, index):
        return float(torch.rand((), generator=generator_of(seed, index), dtype=torch.float64))

    assert first(1, 0) == first(1, 0)
    assert len({first(1, 0), first(1, 1), first(2, 0), first(None, 0)}) == 4
