import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra.errors import InputError
from orchestra.evaluation.outcomes import Arm, Outcome
from orchestra.evaluation.paired import compare, verdict_of


def arm(name, scores, *, start=0):
    return Arm.of(
        name,
        [
            Outcome(task_id=f"t{i}", score=s, list_nano=10, paid_nano=10, latency_seconds=0.1)
            for i, s in enumerate(scores, start)
        ],
    )


def differences(wins, losses, count):
    return np.repeat([1.0, -1.0, 0.0], [wins, losses, count - wins - losses])


def test_a_clear_lead_is_a_better_team():
    found = verdict_of(differences(40, 4, 100))
    assert found.verdict == found.statement == "team better"
    assert found.difference.low > 0.2
    assert (found.wins, found.losses, found.ties, found.more_tasks) == (40, 4, 56, None)


def test_a_clear_deficit_goes_to_the_single_agent():
    assert verdict_of(differences(4, 40, 100)).verdict == "single agent as good or better"


def test_arms_that_always_agree_are_decided_once_there_are_enough_tasks():
    few, many = verdict_of(differences(0, 0, 50)), verdict_of(differences(0, 0, 200))
    assert few.statement == "undecided: about 139 more tasks needed"
    assert many.verdict == "single agent as good or better"


@pytest.mark.parametrize(("wins", "losses", "count"), [(0, 0, 50), (6, 3, 60), (12, 6, 100), (3, 5, 80)])
def test_the_tasks_said_to_be_needed_are_those_that_settle_it(wins, losses, count):
    needed = verdict_of(differences(wins, losses, count)).more_tasks
    whole = -(-(count + needed) // count)  # as many whole copies of what was observed as reach it
    assert verdict_of(np.tile(differences(wins, losses, count), whole)).verdict != "undecided"
    fewer = (count + needed) * 9 // 10 // count
    assert fewer < 1 or verdict_of(np.tile(differences(wins, losses, count), fewer)).verdict == "undecided"


def test_a_proven_lead_below_the_margin_does_not_count():
    found = verdict_of(differences(400, 100, 30_000))
    assert 0 < found.difference.low < found.difference.high < found.margin
    assert found.verdict == "single agent as good or better"


def test_without_a_margin_level_arms_stay_undecided_for_ever():
    found = verdict_of(differences(5, 5, 50), margin=0.0)
    assert found.more_tasks is None
    assert found.statement == "undecided: at the observed difference no number of tasks would settle it"


def test_only_tasks_both_were_measured_on_are_compared():
    found = compare(arm("team", [1.0] * 10), arm("single agent", [0.0] * 10, start=4))
    assert found.difference.count == 6
    assert found.difference.mean == 1.0


def test_arms_without_a_common_task_are_refused():
    with pytest.raises(InputError, match="'team' and 'single agent' have no measured task in common"):
        compare(arm("team", [1.0]), arm("single agent", [1.0], start=5))


@pytest.mark.parametrize("margin", [-0.1, 1.0, 2, float("nan")])
def test_a_margin_that_is_no_share_is_refused(margin):
    with pytest.raises(InputError, match=r"2 points are 0\.02"):
        verdict_of([0.0, 1.0], margin=margin)


@given(st.lists(st.sampled_from([-1.0, -0.5, 0.0, 0.25, 1.0]), min_size=1, max_size=60))
def test_exchanging_the_arms_mirrors_the_interval(values):
    there, back = verdict_of(values).difference, verdict_of([-v for v in values]).difference
    assert (back.low, back.high) == pytest.approx((-there.high, -there.low), abs=1e-6)


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=40), st.floats(0.001, 0.5))
def test_undecided_comparisons_always_name_a_finite_count_when_there_is_a_margin(values, margin):
    found = verdict_of(values, margin=margin)
    assert (found.more_tasks is None) == (found.verdict != "undecided")
