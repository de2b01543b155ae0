"""Losses against ten lines of plain Python, finite differences and published values."""

import inspect
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from training.losses import LOSSES, Scored, Terms, clipped, dpo, k3, merged, mismatch, terms
from training.recipes.model import LOSS_OPTIONS
from training.samples import AGGREGATIONS, packed

finite = st.floats(-3, 0)
token = st.tuples(finite, finite, finite, st.floats(-2, 2), st.floats(0.1, 1), st.floats(0, 3))
"""Log-probability now, as sampled, of the reference; advantage; weight; entropy."""


def test_the_options_that_a_recipe_may_give_are_those_that_a_loss_takes():
    for name, options in LOSS_OPTIONS.items():
        assert set(options) == set(inspect.signature(LOSSES[name]).parameters) - {"scored", "terms"}


def asked(tokens, **more):
    """What a loss is given for `tokens`."""
    now, sampled, reference, advantages, weights, entropies = torch.tensor(tokens, dtype=torch.float64).T
    scored = Scored(now.clone().requires_grad_(True), entropies.clone().requires_grad_(True))
    return scored, Terms(
        weights_N=weights,
        sampled_N=sampled,
        strand_N=torch.zeros(len(tokens), dtype=torch.long),
        advantages_N=advantages,
        reference_N=reference,
        **more,
    )


def plain_clipped(tokens, low, high, dual, kl, entropy, cap=None, old=()):
    total = 0.0
    for at, (now, sampled, reference, advantage, weight, nats) in enumerate(tokens):
        ratio = math.exp(now - sampled)
        if cap is not None:
            ratio, counts = math.exp(now - old[at]), min(math.exp(old[at] - sampled), cap)
        objective = min(ratio * advantage, min(max(ratio, 1 - low), 1 + high) * advantage)
        if advantage < 0:
            objective = max(objective, dual * advantage)
        if cap is not None:
            objective *= counts
        distance = math.exp(reference - now) - (reference - now) - 1
        total += weight * (-objective + kl * distance - entropy * nats)
    return total


@given(st.lists(token, min_size=1, max_size=12), st.floats(0.05, 0.4), st.floats(0.05, 0.4), st.floats(0, 1))
def test_the_clipped_loss_equals_plain_python(tokens, low, high, kl):
    scored, figures = asked(tokens)
    loss = clipped(scored, figures, epsilon_low=low, epsilon_high=high, kl=kl, entropy=0.3)
    assert loss.value.item() == pytest.approx(
        plain_clipped(tokens, low, high, 1 + 2 * high, kl, 0.3), rel=1e-9, abs=1e-9
    )


@given(st.lists(st.tuples(token, finite), min_size=1, max_size=12), st.floats(0.5, 4))
def test_the_clipped_loss_with_a_cap_equals_plain_python(pairs, cap):
    tokens, old = zip(*pairs, strict=True)
    scored, figures = asked(tokens, old_N=torch.tensor(old, dtype=torch.float64))
    loss = clipped(scored, figures, cap=cap, kl=0.2, entropy=0.3)
    expected = plain_clipped(tokens, 0.2, 0.2, 1.4, 0.2, 0.3, cap, old)
    assert loss.value.item() == pytest.approx(expected, rel=1e-9, abs=1e-9)
    capped = sum(math.exp(before - token[1]) >= cap for token, before in zip(tokens, old, strict=True))
    assert merged([loss.metrics])["capped"] == pytest.approx(capped / len(tokens))


@given(st.lists(token, min_size=1, max_size=12))
def test_the_other_losses_equal_plain_python(tokens):
    for name, count in {
        "imitation": lambda advantage: 1.0,
        "rejection-sampling": lambda advantage: float(advantage > 0.5),
        "advantage-weighted": lambda advantage: min(math.exp(advantage / 0.7), 5.0),
    }.items():
        options = {
            "imitation": {},
            "rejection-sampling": {"threshold": 0.5},
            "advantage-weighted": {"sharpness": 0.7, "largest": 5.0},
        }[name]
        expected = -sum(weight * count(advantage) * now for now, _, _, advantage, weight, _ in tokens)
        assert LOSSES[name](*asked(tokens), **options).value.item() == pytest.approx(expected, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("name", ["clipped", "imitation", "rejection-sampling", "advantage-weighted"])
def test_gradients_agree_with_finite_differences(name):
    rng = np.random.default_rng(5)
    # Ratios of 1.05, 0.5, 3: inside, outside and beyond, none on a corner.
    now = np.log([0.21, 0.1, 0.6, 0.21, 0.1, 0.6])
    sampled = np.full(6, math.log(0.2))
    tokens = np.stack([now, sampled, rng.uniform(-3, 0, 6), [1, 1, 1, -1, -1, -1], rng.random(6), rng.random(6)], 1)
    _, figures = asked(tokens)

    def value(logprobs, entropies):
        return LOSSES[name](Scored(logprobs, entropies), figures, kl=0.2, entropy=0.1).value

    leaves = [torch.tensor(tokens[:, at], requires_grad=True) for at in (0, 5)]
    assert torch.autograd.gradcheck(value, leaves)


def test_a_distance_that_is_only_measured_changes_nothing_even_where_it_is_infinite():
    scored, figures = asked([(-1.0, -1.5, 1e4, 1.0, 1.0, 0.0)])
    loss = clipped(scored, figures)
    (slope,) = torch.autograd.grad(loss.value, scored.logprobs_N)
    without = replace(figures, reference_N=None)
    assert loss.value.item() == clipped(scored, without).value.item()
    assert slope.isfinite().all()
    assert loss.metrics["kl"].item() == math.inf


def test_the_gradient_of_a_capped_loss_agrees_with_finite_differences():
    # Counted 0.5 times, 1.5 times, and twice where it would be thrice; ratios of 1.05, 0.5 and 3 beside each.
    sampled = np.log([0.4, 0.4, 0.4, 0.2, 0.2, 0.2, 0.1, 0.1, 0.1])
    old = np.log([0.2, 0.2, 0.2, 0.3, 0.3, 0.3, 0.3, 0.3, 0.3])
    now = old + np.log([1.05, 0.5, 3.0] * 3)
    tokens = np.stack([now, sampled, old - 0.1, [1, -1, -1] * 3, np.linspace(0.1, 1, 9), np.ones(9)], 1)
    _, figures = asked(tokens, old_N=torch.from_numpy(old))

    def value(logprobs, entropies):
        return clipped(Scored(logprobs, entropies), figures, cap=2.0, kl=0.2, entropy=0.1).value

    leaves = [torch.tensor(tokens[:, at], requires_grad=True) for at in (0, 5)]
    assert torch.autograd.gradcheck(value, leaves)


def test_ratios_outside_and_beyond_move_nothing():
    rows = [(0.6, 1.0), (0.1, -1.0), (0.6, -1.0), (0.21, 1.0), (0.26, -1.0)]
    scored, figures = asked([(math.log(p), math.log(0.2), 0.0, a, 1.0, 0.0) for p, a in rows])
    loss = clipped(scored, figures)
    (slopes,) = torch.autograd.grad(loss.value, scored.logprobs_N)
    assert [slope != 0 for slope in slopes.tolist()] == [False, False, False, True, True]
    assert merged([loss.metrics])["clipped"] == pytest.approx(3 / 5)


def test_the_dual_clip_bounds_what_a_bad_token_costs():
    scored, figures = asked([(0.0, -5.0, 0.0, -1.0, 1.0, 0.0)])
    assert clipped(scored, figures).value.item() == pytest.approx(1.4)
    assert clipped(scored, figures, dual=3.0).value.item() == pytest.approx(3.0)


def test_truncated_importance_sampling_caps_what_another_engine_sampled():
    tokens = [(-1.0, -3.0, 0.0, 1.0, 1.0, 0.0), (-1.0, -0.5, 0.0, 1.0, 1.0, 0.0)]
    scored, figures = asked(tokens, old_N=torch.tensor([-1.0, -1.0], dtype=torch.float64))
    loss = clipped(scored, figures, cap=2.0)
    assert loss.value.item() == pytest.approx(-(2.0 + math.exp(-0.5)))
    assert merged([loss.metrics])["capped"] == 0.5


def test_a_cap_without_the_networks_own_logprobs_is_refused():
    with pytest.raises(ValueError, match=r"cap=2.0 needs `old_N`"):
        clipped(*asked([(-1.0, -1.0, -1.0, 1.0, 1.0, 0.0)]), cap=2.0)


@pytest.mark.parametrize("name", ["clipped", "rejection-sampling", "advantage-weighted"])
def test_a_loss_without_advantages_is_refused(name):
    scored, figures = asked([(-1.0, -1.0, -1.0, 1.0, 1.0, 0.0)])
    bare = Terms(weights_N=figures.weights_N, sampled_N=figures.sampled_N, strand_N=figures.strand_N)
    with pytest.raises(ValueError, match="needs `advantages_N`"):
        LOSSES[name](scored, bare)


def test_k3_of_samples_estimates_the_divergence():
    p, q = torch.tensor([0.5, 0.3, 0.2]).double(), torch.tensor([0.2, 0.3, 0.5]).double()
    exact = float((p * (p / q).log()).sum())
    assert float((p * k3(p.log(), q.log())).sum()) == pytest.approx(exact)


@given(st.lists(st.tuples(finite, finite), min_size=1, max_size=8))
def test_the_mismatch_is_what_plain_python_says(pairs):
    trainer, sampler = (torch.tensor(each, dtype=torch.float64) for each in zip(*pairs, strict=True))
    gaps = [one - other for one, other in pairs]
    shown = {name: float(value) for name, value in mismatch(trainer, sampler).items()}
    assert shown == pytest.approx(
        {
            "mismatch": sum(map(abs, gaps)),
            "mismatch k3": sum(math.exp(gap) - gap - 1 for gap in gaps),
            "mismatch max": max(map(abs, gaps)),
            "mismatch far": sum(abs(gap) > 0.1 for gap in gaps),
        },
        abs=1e-9,
    )


def test_a_sampler_that_agrees_shows_no_mismatch_and_a_ratio_of_one():
    figures = merged([clipped(*asked([(-1.0, -1.0, -1.0, 1.0, 0.5, 2.0)] * 4)).metrics])
    wanted = {"mismatch": 0, "mismatch max": 0, "ratio": 1, "ratio max": 1, "kl": 0, "entropy": 2, "clipped": 0}
    assert {name: figures[name] for name in wanted} == pytest.approx(wanted)


@pytest.mark.parametrize(("distance", "expected"), [(1, 0.644), (5, 0.474), (10, 0.313)])
def test_dpo_gives_the_published_values_where_a_pair_begins_to_be_ranked_right(distance, expected):
    scored = Scored(torch.tensor([-2.0, -2.0], requires_grad=True), torch.zeros(2))
    figures = Terms(
        weights_N=torch.ones(2),
        sampled_N=torch.zeros(2),
        strand_N=torch.tensor([0, 1]),
        reference_N=torch.tensor([-2.0 - distance, -2.0]),
    )
    loss = dpo(scored, figures, pairs=[(0, 1)], beta=0.1)
    assert loss.value.item() == pytest.approx(expected, abs=5e-4)
    assert merged([loss.metrics])["ranked right total"] == 1
    assert dpo(scored, figures, pairs=[(0, 1)], gamma=0.0).value.item() == pytest.approx(math.log(2))


def test_the_gradient_of_dpo_agrees_with_finite_differences_and_with_the_published_one():
    rng = np.random.default_rng(6)
    now, reference = (torch.from_numpy(rng.uniform(-3, 0, 7)) for _ in range(2))
    strand_N, pairs = torch.tensor([0, 0, 1, 2, 2, 2, 3]), [(0, 1), (3, 2)]
    figures = Terms(weights_N=torch.ones(7), sampled_N=now, strand_N=strand_N, reference_N=reference)

    def value(logprobs):
        return dpo(Scored(logprobs, torch.zeros(7)), figures, pairs=pairs, beta=0.4, gamma=0.7, count=3).value

    now.requires_grad_(True)
    assert torch.autograd.gradcheck(value, (now,))
    (slopes,) = torch.autograd.grad(value(now), now)
    sums = [[float(each[strand_N == at].sum()) for at in range(4)] for each in (now.detach(), reference)]
    for better, worse in pairs:
        ahead = (sums[0][better] - sums[0][worse]) - 0.7 * (sums[1][better] - sums[1][worse])
        # Minus beta times the probability that the pair is ranked wrong, for each token of the preferred strand.
        slope = 0.4 / (1 + math.exp(0.4 * ahead)) / 3
        assert slopes[strand_N == better].tolist() == pytest.approx([-slope] * int((strand_N == better).sum()))
        assert slopes[strand_N == worse].tolist() == pytest.approx([slope] * int((strand_N == worse).sum()))


def test_dpo_of_two_batches_adds_up_to_that_of_one(family):
    rng = np.random.default_rng(0)
    reference = [rng.normal(size=strand.trained) for strand in family[:4]]
    weights = AGGREGATIONS["token-mean"](family[:4])
    said = [rng.normal(size=strand.trained) for strand in family[:4]]

    def total(batches):
        value = 0.0
        for batch in batches:
            pairs = [
                (batch.members.index(a), batch.members.index(b)) for a, b in [(0, 3), (1, 2)] if a in batch.members
            ]
            scored = Scored(torch.from_numpy(batch.along(said)), torch.zeros(batch.trained))
            value += dpo(scored, terms(batch, weights, reference=reference), pairs=pairs, count=2).value.item()
        return value

    whole = packed(family[:4], 10_000, together=[(0, 3), (1, 2)])
    halves = packed(family[:4], 170, share_prefixes=False, together=[(0, 3), (1, 2)])
    assert (len(whole), len(halves)) == (1, 2)
    assert total(halves) == pytest.approx(total(whole), rel=1e-6)


def test_dpo_without_a_reference_or_a_pair_is_refused():
    scored, figures = asked([(-1.0, -1.0, -1.0, 1.0, 1.0, 0.0)])
    with pytest.raises(ValueError, match="at least one pair"):
        dpo(scored, figures, pairs=[])
    bare = Terms(weights_N=figures.weights_N, sampled_N=figures.sampled_N, strand_N=figures.strand_N)
    with pytest.raises(ValueError, match="needs `reference_N`"):
        dpo(scored, bare, pairs=[(0, 0)])
