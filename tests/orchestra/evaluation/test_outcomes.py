import pytest

from orchestra.errors import InputError
from orchestra.evaluation.outcomes import Arm, Outcome, only, shared_tasks


def outcome(task_id, score=1.0, *, error=None, list_nano=300, paid_nano=200):
    return Outcome(
        task_id=task_id, score=score, list_nano=list_nano, paid_nano=paid_nano, latency_seconds=0.1, error=error
    )


def test_a_failed_episode_counts_as_not_solved():
    assert outcome("t", None, error="tool crashed").success == 0.0


def test_a_reply_nobody_scored_is_not_a_score_of_zero():
    arm = Arm.of("team", [outcome("a"), outcome("b", None)])
    assert arm.success == 1.0
    assert len(arm.measured) == 1


def test_an_arm_without_measured_tasks_has_no_success():
    assert Arm.of("team", []).success is None


def test_costs_of_an_arm_are_the_sums_over_all_its_tasks():
    arm = Arm.of("team", [outcome("a"), outcome("b", None), outcome("c", 0.0, error="x")])
    assert (arm.list_nano, arm.paid_nano, arm.failures) == (900, 600, 1)


def test_two_outcomes_for_one_task_are_refused_by_name():
    with pytest.raises(InputError, match="'team' has two outcomes for task 'a'"):
        Arm.of("team", [outcome("a"), outcome("a")])


@pytest.mark.parametrize("score", [1.5, -0.1, float("nan")])
def test_a_score_outside_zero_to_one_is_refused(score):
    with pytest.raises(InputError, match="task 'a' was scored"):
        outcome("a", score)


def test_negative_money_is_refused():
    with pytest.raises(InputError, match="money is never negative"):
        outcome("a", paid_nano=-1)


def test_shared_tasks_are_those_both_arms_were_measured_on_in_order():
    first = Arm.of("a", [outcome("3"), outcome("1"), outcome("2", None)])
    second = Arm.of("b", [outcome("1"), outcome("2"), outcome("3"), outcome("4")])
    assert shared_tasks(first, second) == ("3", "1")


def test_only_keeps_the_tasks_named():
    arm = Arm.of("a", [outcome("1"), outcome("2")])
    assert list(only(arm, ["2"]).outcomes) == ["2"]
