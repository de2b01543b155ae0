"""Estimators against published vectors, and what is declared of each."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from training.advantages import ADVANTAGES, SeatTurns, gae, grpo, length_reward, mars, mars_released, rloo, spiral


def seat(rewards, *, number=0, game="ttt", group="g", tokens=None, role="", values=None):
    rewards = np.array(rewards, dtype=float)
    counts = np.full(len(rewards), 5) if tokens is None else np.array(tokens)
    critic = None if values is None else np.array(values, dtype=float)
    return SeatTurns(
        group=group, game=game, seat=number, rewards_K=rewards, tokens_K=counts, role=role, values_K=critic
    )


MARSHAL = [
    seat([0.05, 0.05, 1.05]),
    seat([0.05, -0.95]),
    seat([0.05, -0.95], number=1),
    seat([0.05, 1.05], number=1),
]


def shown(advantages):
    return [np.round(each, 10).tolist() for each in advantages]


def test_mars_gives_the_published_vector():
    assert shown(mars(MARSHAL)) == [[0.86, 0.81, 0.76], [-1.19, -1.24], [-0.975, -1.025], [1.025, 0.975]]


def test_the_ablations_of_mars_take_away_what_they_say():
    # Episodes return 1.15 (three turns) and -0.9 (two) at seat 0, -0.9 (two) and 1.1 (two) at seat 1.
    assert shown(mars(MARSHAL, by_turn=False)) == [[1.025] * 3, [-1.025] * 2, [-1.0] * 2, [1.0] * 2]
    returns = np.array([1.15, 1.1, 1.05, -0.9, -0.95, -0.9, -0.95, 1.1, 1.05])
    assert np.concatenate(mars(MARSHAL, by_seat=False)) == pytest.approx(returns - returns.mean())


def test_mars_released_loses_the_format_bonus_and_whitens():
    first, second, third, fourth = mars_released(MARSHAL)
    for each in (first, second, third, fourth):
        assert np.ptp(each) == pytest.approx(0, abs=1e-9)
    tokens = np.concatenate([each.tokens_K for each in MARSHAL])
    values = np.concatenate([first, second, third, fourth])
    assert np.average(values, weights=tokens) == pytest.approx(0, abs=1e-9)
    variance = np.average(values**2, weights=tokens) * tokens.sum() / (tokens.sum() - 1)
    assert variance == pytest.approx(1, rel=1e-6)
    assert first[0] > 0 > second[0]
    assert fourth[0] > 0 > third[0]


def test_mars_released_gives_the_closed_form_of_the_published_vector():
    # Whitened: tokens-weighted, of rewards that are +1 or -1 around 1/9.
    high, low = ((sign - 1 / 9) / np.sqrt((1 - 1 / 81) * 45 / 44) for sign in (1, -1))
    for found, expected in zip(mars_released(MARSHAL), (high, low, low, high), strict=True):
        assert found == pytest.approx([expected] * len(found), abs=1e-6)


def test_dr_grpo_takes_the_mean_of_its_group_away_and_divides_by_nothing():
    group = [seat([10.0]), seat([0.0]), seat([0.0]), seat([10.0])]
    assert shown(ADVANTAGES["dr-grpo"](group, None)[0]) == [[5.0], [-5.0], [-5.0], [5.0]]


def test_mars_released_equals_the_released_steps_done_on_padded_tokens():
    expected = released_on_tokens(MARSHAL)
    for mine, theirs in zip(mars_released(MARSHAL), expected, strict=True):
        assert mine == pytest.approx(theirs, abs=1e-5)


@given(st.data())
def test_mars_released_equals_the_released_steps_on_any_batch(data):
    batch = data.draw(batches())
    assume(sum(len(each.rewards_K) for each in batch) > 2)
    for mine, theirs in zip(mars_released(batch), released_on_tokens(batch), strict=True):
        assert mine == pytest.approx(theirs, abs=1e-3)


def released_on_tokens(batch):
    """The released order of operations on a padded tensor of tokens, in plain loops."""
    width = max(int(each.tokens_K.sum()) for each in batch) + 3
    rewards, mask = np.zeros((len(batch), width)), np.zeros((len(batch), width))
    ends = []
    for row, each in enumerate(batch):
        cells = [o.rewards_K for o in batch if (o.game, o.seat) == (each.game, each.seat)]
        ends.append(np.cumsum(each.tokens_K) - 1)
        rewards[row, ends[row]] = each.rewards_K - np.concatenate(cells).mean()
        mask[row, : int(each.tokens_K.sum())] = 1
    rewards = whitened(rewards, mask) * mask
    advantages = np.cumsum(rewards[:, ::-1], axis=1)[:, ::-1]
    for number in {each.seat for each in batch}:
        rows = [row for row, each in enumerate(batch) if each.seat == number]
        values = np.unique(advantages[rows] * mask[rows])
        distinct = [value for at, value in enumerate(values) if at == 0 or value - values[at - 1] > 1e-6]
        advantages[rows] -= np.mean(distinct)
    advantages = whitened(advantages, mask) * mask
    return [advantages[row, ends[row]] for row in range(len(batch))]


def whitened(values, mask):
    count = mask.sum()
    mean = (values * mask).sum() / count
    variance = (((values - mean) ** 2) * mask).sum() / (count - 1)
    return (values - mean) / np.sqrt(variance + 1e-8)


@pytest.mark.parametrize(("tokens", "reward"), [(500, 0.0), (2048, 0.0), (3000, -0.2337), (4096, -0.5027)])
def test_the_length_penalty_gives_the_published_vector(tokens, reward):
    assert length_reward(tokens) == pytest.approx(reward, abs=5e-5)


def test_the_papers_length_bonus_is_there_too():
    assert length_reward(11, released=False) == 0.5
    assert length_reward(2048, released=False) == length_reward(9000, released=False) == 0.0


def test_grpo_divides_by_the_sample_deviation_and_rloo_leaves_one_out():
    batch = [seat([value]) for value in (10, 0, 0, 10)]
    assert np.concatenate(grpo(batch, floor=0)) == pytest.approx([0.866, -0.866, -0.866, 0.866], abs=1e-3)
    assert np.concatenate(rloo(batch)) == pytest.approx([20 / 3, -20 / 3, -20 / 3, 20 / 3])


def test_gae_with_full_trust_in_returns_is_the_return_minus_the_value():
    batch = [seat([1, 2, 3], values=[0.5, 1.5, -1])]
    assert shown(gae(batch, lam=1)) == [[5.5, 3.5, 4.0]]


def test_gae_without_trust_in_returns_is_the_error_of_one_step():
    assert shown(gae([seat([1, 2], values=[0.5, 1.5])], gamma=0.5, lam=0)) == [[1.25, 0.5]]


def test_a_constant_critic_and_no_reward_give_nothing_inside_an_episode():
    (advantages,) = gae([seat([0, 0, 0], values=[2, 2, 2])], lam=0)
    assert advantages.tolist() == [0, 0, -2]


def test_spiral_compares_with_the_mean_before_the_episode_moves_it():
    batch = [seat([1]), seat([1]), seat([1], number=1)]
    advantages, means = spiral(batch)
    assert shown(advantages) == [[1], [0.95], [1]]
    assert means == {("ttt", 0): pytest.approx(0.0975), ("ttt", 1): pytest.approx(0.05)}
    again, _ = spiral([seat([1])], means)
    assert shown(again) == [[0.9025]]


def test_spiral_in_two_batches_is_spiral_in_one():
    batch = [seat([value]) for value in (1.0, -1.0, 0.5, 2.0)]
    whole, _ = spiral(batch)
    first, means = spiral(batch[:2])
    second, _ = spiral(batch[2:], means)
    assert shown(whole) == shown([*first, *second])


def test_a_seat_without_values_cannot_be_given_to_gae():
    with pytest.raises(ValueError, match="seat 0 of group 'g' has no values"):
        gae([seat([1])])


@pytest.mark.parametrize(
    "wrong",
    [{"rewards": []}, {"rewards": [1], "tokens": [1, 2]}, {"rewards": [np.nan]}, {"rewards": [1], "tokens": [0]}],
)
def test_a_record_that_makes_no_sense_is_refused(wrong):
    with pytest.raises(ValueError, match="seat 0 of group 'g'"):
        seat(wrong["rewards"], tokens=wrong.get("tokens"))


@pytest.mark.parametrize("missing", [np.nan, np.inf])
def test_a_turn_without_a_value_beside_others_that_have_one_is_refused_by_its_place(missing):
    with pytest.raises(ValueError, match=r"turn 1 of 3 has the value (nan|inf); ask the critic about every turn"):
        seat([1, 2, 3], values=[0.5, missing, 1.0])


rewards = st.lists(st.floats(-3, 3).map(lambda x: round(x, 2)), min_size=1, max_size=4)


@st.composite
def batches(draw):
    """Two games with two seats each, several episodes, every episode with both seats."""
    found = []
    for number in range(draw(st.integers(2, 4))):
        game = draw(st.sampled_from(["ttt", "kuhn"]))
        for place in (0, 1):
            earned = draw(rewards)
            tokens = draw(st.lists(st.integers(1, 9), min_size=len(earned), max_size=len(earned)))
            values = draw(st.lists(st.floats(-1, 1), min_size=len(earned), max_size=len(earned)))
            found.append(
                seat(earned, number=place, game=game, group=f"{game}{number % 2}", tokens=tokens, values=values)
            )
    return found


def credited(name, batch):
    return [each.tolist() for each in ADVANTAGES[name](batch)[0]]


def same(first, second):
    return all(np.allclose(a, b, atol=1e-6) for a, b in zip(first, second, strict=True))


def with_constant(batch, constant):
    return [
        seat(
            [*each.rewards_K[:-1], each.rewards_K[-1] + constant],
            number=each.seat,
            game=each.game,
            group=each.group,
            tokens=each.tokens_K,
            values=each.values_K,
        )
        for each in batch
    ]


def with_other_seat(batch):
    return [
        each if each.seat == 0 else seat(each.rewards_K * 2 + 1, number=1, game=each.game, group=each.group,
                                         tokens=each.tokens_K, values=each.values_K)
        for each in batch
    ]  # fmt: skip


CHANGES = {
    "constant": lambda batch, take: (with_constant(batch, 1.0), take),
    "permutation": lambda batch, take: (batch[::-1], lambda found: take(found[::-1])),
    "isolation": lambda batch, take: (
        with_other_seat(batch),
        lambda found: [credit for credit, each in zip(take(found), batch, strict=True) if each.seat == 0],
    ),
}


def before_and_after(name, kind, batch):
    changed, take = CHANGES[kind](batch, lambda found: found)
    before = credited(name, batch)
    if kind == "isolation":
        before = [credit for credit, each in zip(before, batch, strict=True) if each.seat == 0]
    return before, take(credited(name, changed))


HOLDING = [(name, kind) for name, each in ADVANTAGES.items() for kind in sorted(each.holds)]
FAILING = [(name, kind) for name, each in ADVANTAGES.items() for kind in sorted(set(CHANGES) - each.holds)]


@pytest.mark.parametrize(("name", "kind"), HOLDING)
@given(data=st.data())
def test_what_is_declared_of_an_estimator_holds(name, kind, data):
    before, after = before_and_after(name, kind, data.draw(batches()))
    assert same(before, after)


COUNTEREXAMPLE = [
    seat([0.0, 1.0, 2.0], tokens=[1, 2, 3], values=[0, 0, 0]),
    seat([1.0], number=1, tokens=[4], values=[0.5]),
    seat([3.0], tokens=[2], values=[0.1]),
    seat([-1.0, 0.5], number=1, tokens=[1, 7], values=[0.2, 0.1]),
]


@pytest.mark.parametrize(("name", "kind"), FAILING)
def test_what_is_not_declared_has_a_counterexample(name, kind):
    before, after = before_and_after(name, kind, COUNTEREXAMPLE)
    assert not same(before, after)


@pytest.mark.parametrize("name", ADVANTAGES)
@given(data=st.data())
def test_every_turn_gets_one_finite_advantage(name, data):
    batch = data.draw(batches())
    advantages, _ = ADVANTAGES[name](batch)
    assert [len(each) for each in advantages] == [len(each.rewards_K) for each in batch]
    assert all(np.isfinite(each).all() for each in advantages)


@pytest.mark.parametrize("name", [name for name, each in ADVANTAGES.items() if each.unit == "episode"])
def test_an_estimator_of_episodes_gives_every_turn_the_same(name):
    for advantages in ADVANTAGES[name](COUNTEREXAMPLE)[0]:
        assert np.ptp(advantages) == 0
