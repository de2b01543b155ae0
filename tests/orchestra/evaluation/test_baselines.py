from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra.evaluation.baselines import better_baseline, expected_samples, samples_by_task
from orchestra.evaluation.outcomes import Arm, Outcome


def arm(name, scores, nano):
    return Arm.of(
        name,
        [
            Outcome(task_id=f"t{i}", score=s, list_nano=nano, paid_nano=0, latency_seconds=0.1)
            for i, s in enumerate(scores)
        ],
    )


def test_samples_are_what_the_teams_cost_buys():
    assert expected_samples(arm("team", [1, 1], 250), arm("single", [1, 1], 100)) == Fraction(5, 2)


def test_a_team_cheaper_than_one_call_still_faces_one_sample():
    assert expected_samples(arm("team", [1], 50), arm("single", [1], 100)) == 1


def test_a_free_call_beside_a_team_that_costs_is_refused():
    with pytest.raises(ValueError, match="give the model a price"):
        expected_samples(arm("team", [1], 50), arm("single", [1], 0))
    assert expected_samples(arm("team", [1], 0), arm("single", [1], 0)) == 1


expected = st.fractions(1, 20)
tasks = st.integers(1, 80).map(lambda n: [f"t{i}" for i in range(n)])


@given(tasks, expected, st.integers(0, 2**32))
def test_every_task_draws_floor_or_ceiling_and_the_total_is_within_one(task_ids, k, seed):
    counts = samples_by_task(task_ids, k, seed=seed)
    assert list(counts) == task_ids
    assert all(count - 1 < k < count + 1 for count in counts.values())
    assert abs(sum(counts.values()) - k * len(task_ids)) < 1


def test_every_task_expects_exactly_k():
    task_ids = [f"t{i}" for i in range(7)]
    draws = [samples_by_task(task_ids, Fraction(7, 3), seed=seed) for seed in range(3000)]
    for task in task_ids:
        mean = sum(draw[task] for draw in draws) / len(draws)
        assert mean == pytest.approx(7 / 3, abs=0.035)  # four standard errors


def test_the_draw_is_repeated_by_its_seed_alone():
    task_ids = [f"t{i}" for i in range(40)]
    first = samples_by_task(task_ids, Fraction(3, 2), seed=4)
    assert first == samples_by_task(task_ids, Fraction(3, 2), seed=4)
    assert first != samples_by_task(task_ids, Fraction(3, 2), seed=5)


def test_less_than_one_sample_is_refused():
    with pytest.raises(ValueError, match="at least one sample"):
        samples_by_task(["t"], Fraction(1, 2), seed=0)


def test_the_better_baseline_wins_then_the_cheaper_then_the_first():
    weak, strong = arm("a", [0, 1], 10), arm("b", [1, 1], 90)
    assert better_baseline(weak, strong) is strong
    cheap, dear = arm("a", [1, 0], 10), arm("b", [0, 1], 90)
    assert better_baseline(dear, cheap) is cheap
    assert better_baseline(cheap, arm("b", [0, 1], 10)) is cheap


def test_a_baseline_nobody_measured_is_refused():
    with pytest.raises(ValueError, match="'b' was measured on no trial task"):
        better_baseline(arm("a", [1], 1), arm("b", [], 1))
