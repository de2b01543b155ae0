from decimal import Decimal

import pytest

from orchestra.evaluation.certificate import SpendRow
from orchestra.evaluation.findings import arm_result, break_even_result, headline, spend, verdict_line
from orchestra.evaluation.outcomes import Arm, Outcome


def arm(name, scores, nano=1_000):
    return Arm.of(
        name,
        [
            Outcome(task_id=f"t{i}", score=s, list_nano=nano, paid_nano=nano // 2, latency_seconds=0.1)
            for i, s in enumerate(scores)
        ],
    )


def test_an_arm_is_measured_to_the_nano_dollar():
    found = arm_result(arm("team", [1, 1, 0]), samples_per_task=1.5, trial=arm("team", [1, 0]))
    assert (found.list_usd, found.paid_usd) == (Decimal("0.000003"), Decimal("0.0000015"))
    assert (found.list_usd_per_task, found.cost_of_pass_usd) == (Decimal("0.000001"), Decimal("0.0000015"))
    assert (found.tasks, found.trial_success) == (3, 0.5)


def test_an_arm_that_never_succeeds_has_no_cost_per_success():
    assert arm_result(arm("single agent", [0, 0])).cost_of_pass_usd is None


@pytest.mark.parametrize(
    ("team_scores", "single_scores", "beginning"),
    [
        ([1] * 40, [0] * 40, "team better — 100 % against 0 % for the single agent at equal cost (+100.0 points"),
        ([0] * 40, [1] * 40, "single agent as good or better — 0 % against 100 %"),
        ([1, 0] * 10, [1, 0] * 10, "undecided: about 169 more tasks needed — 50 % against 50 %"),
    ],
)
def test_the_verdict_line_says_it_all(team_scores, single_scores, beginning):
    team, single = arm("team", team_scores), arm("single agent", single_scores)
    found = headline(team, single, chosen_because="it is the only one")
    assert verdict_line(found, [arm_result(team), arm_result(single)]).startswith(beginning)


def test_a_baseline_that_costs_more_is_not_called_equal():
    team, single = arm("team", [1] * 40), arm("single agent", [0] * 40, nano=2_000)
    found = headline(team, single, chosen_because="")
    line = verdict_line(found, [arm_result(team), arm_result(single)])
    assert "at $0.000002 per task to the team's $0.000001" in line


def test_break_even_carries_over():
    found = break_even_result(10_000, arm("team", [1, 1]), arm("single agent", [1, 0]))
    assert (found.against, found.outcome, found.queries, found.search_usd) == (
        "single agent",
        "after",
        10,
        Decimal("0.00001"),
    )


def test_spend_adds_up_with_what_is_unknown():
    row = SpendRow(
        category="trials", calls=1, input_tokens=5, output_tokens=5, list_usd=Decimal("0.01"), paid_usd=Decimal("0.01")
    )
    table = spend([row], settled_nano=9_000_000, unknown_nano=1_000_000, cap_nano=10**9)
    assert (table.paid_usd, table.cap_usd) == (Decimal("0.01"), Decimal(1))
    with pytest.raises(ValueError, match=r"ledger booked 0\.009 USD"):
        spend([row], settled_nano=9_000_000)
