import json
from dataclasses import replace
from decimal import Decimal
from fractions import Fraction

import pytest

from composers.composing import compose, forecast
from composers.knapsack.trials import Trials
from composers.problem import Problem
from graphs.serialisation import read
from orchestra.errors import InputError, UnknownPrice
from orchestra.evaluation.certificate import read_certificate
from orchestra.evaluation.outcomes import Arm
from orchestra.execution import Settings
from orchestra.ledger import nano
from orchestra.testing import ScriptedModel
from orchestra.traces.store import Store


@pytest.fixture
def problem(office):
    def make(**chosen):
        settings = Settings(model=f"scripted/{office / 'rules.yaml'}", use_cache=True)
        fields = {"budget_usd": Decimal(10), "settings": settings, "similarity": "bm25"} | chosen
        return Problem.read(office / "tasks.jsonl", office / "inventory.yaml", **fields)

    return make


@pytest.mark.parametrize("composer", ["online-knapsack", "offline-trials"])
async def test_measured_composers_choose_what_helps_and_fits(office, problem, composer):
    made = await compose(problem(composer=composer), store=office / "store.sqlite")
    assert {name.removesuffix("-twin") for name in made.chosen} == {"calculator", "reverser"}
    assert made.equipment_usd <= 10
    assert made.certificate.arm("team").success == 1
    assert made.certificate.headline.verdict == "team better"


async def test_broken_components_are_found_out(office, problem):
    made = await compose(problem(try_all=True), store=office / "store.sqlite")
    by_name = {row.component: row for row in made.tried}
    assert by_name["calculator-broken"].decision == "broken"
    assert made.optimum.over == "inventory"
    assert made.optimum.gap == 0


async def test_identity_takes_everything_and_offline_covers_every_skill(office, problem):
    everything = await compose(problem(composer="identity"), store=office / "store.sqlite")
    assert len(everything.chosen) == 5
    covering = await compose(problem(composer="offline-knapsack"), store=office / "store.sqlite")
    assert covering.equipment_usd <= 10
    assert {row.value_source for row in covering.tried} == {"similarity"}


async def test_a_latency_limit_is_kept_by_the_solver(office, problem):
    text = (office / "inventory.yaml").read_text()
    slow = text.replace("price_usd", "latency_seconds: 0.4, price_usd")
    (office / "inventory.yaml").write_text(
        slow.replace("latency_seconds: 0.4, price_usd: 5", "latency_seconds: 0.9, price_usd: 5")
    )
    limited = problem(composer="offline-knapsack", budget_usd=Decimal(30), latency_limit_seconds=1.0)
    made = await compose(limited, store=office / "store.sqlite")
    assert "calculator" not in made.chosen


async def test_the_spend_table_adds_up_to_the_ledger(office, problem):
    made = await compose(problem(), store=office / "store.sqlite")
    with Store.open(office / "store.sqlite") as store:
        entries = [record.entry for record in store.ledger_entries(made.run_id)]
    booked = sum(entry.nano for entry in entries if entry.event in ("settle", "unknown"))
    assert nano(made.certificate.spend.paid_usd) == booked > 0


async def test_files_are_written_and_read_back(office, problem):
    out, report = office / "out" / "team.yaml", office / "out" / "certificate.json"
    made = await compose(
        problem(), out=out, reports=(report, report.with_suffix(".html")), store=office / "store.sqlite"
    )
    assert read(out) == made.graph
    assert made.graph.provenance.inventory == "../inventory.yaml"
    assert read_certificate(report) == made.certificate
    assert "<script" not in report.with_suffix(".html").read_text()


async def test_a_second_search_pays_for_nothing(office, problem):
    first = await compose(problem(), store=office / "store.sqlite")
    second = await compose(problem(), store=office / "store.sqlite")
    assert first.certificate.spend.paid_usd > 0
    assert second.certificate.spend.paid_usd == 0
    assert second.chosen == first.chosen
    assert second.certificate.break_even == first.certificate.break_even


async def test_a_search_that_runs_out_hands_over_what_it_has_and_can_go_on(office, problem):
    whole = await compose(problem(), store=office / "whole.sqlite")
    short = await compose(problem(), search_budget_usd="0.0006", store=office / "store.sqlite")
    assert short.ran_out
    assert short.certificate.incomplete
    assert short.certificate.spend.paid_usd <= Decimal("0.0006")
    again = await compose(problem(), search_budget_usd="1", store=office / "store.sqlite", resume=short.run_id)
    assert again.ran_out is None
    assert again.chosen == whole.chosen


async def test_a_resumed_search_must_be_the_same_search(office, problem):
    first = await compose(problem(), store=office / "store.sqlite")
    with pytest.raises(InputError, match="budget"):
        await compose(problem(budget_usd=Decimal(9)), store=office / "store.sqlite", resume=first.run_id)


async def test_a_forecast_calls_nothing_and_brackets_the_truth(office, problem):
    seen = await forecast(problem())
    made = await compose(problem(), store=office / "store.sqlite")
    calls = sum(row.calls for row in made.certificate.spend.rows)
    assert seen.model_calls.holds(calls)
    assert seen.list_nano.holds(nano(made.certificate.spend.list_usd))
    assert made.forecast == seen
    assert made.document()["forecast"]["model_calls"] == {
        **seen.model_calls.document(),
        "actual": calls,
        "inside": True,
    }


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"budget_usd": Decimal(2)}, "below the cheapest component"),
        ({"composer": "online-knapsak"}, "did you mean 'online-knapsack'"),
        ({"settings": Settings(model="lokal/x")}, "lokal"),
    ],
)
async def test_bad_input_is_refused_before_anything_is_spent(office, problem, fields, message):
    with pytest.raises(InputError, match=message):
        await compose(problem(**fields), store=office / "store.sqlite")


async def test_tasks_of_one_split_alone_are_refused(office, problem):
    rows = [json.loads(line) | {"split": "trial"} for line in (office / "tasks.jsonl").read_text().splitlines()]
    (office / "tasks.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(InputError, match="heldout split"):
        problem()


async def test_a_baseline_of_several_samples_is_judged_task_by_task(problem, office):
    """One agent that is always right is as good as its team, however many samples the team's price allows it."""
    (office / "rules.yaml").write_text(
        "rules:\n"
        "  - {match: '(?s)Tool result: [\\w.-]+: (.+)\\nAnswer:', reply: 'In all, after much thought, it is \\1'}\n"
        "  - {match: 'What is', reply: '437 m^2'}\n  - {match: 'Reverse', reply: yx}\n"
    )
    rows = [json.loads(line) for line in (office / "tasks.jsonl").read_text().splitlines()]
    for row in rows:
        right = {"input": "What is 19 * 23?", "target": "437", "scorer": "numeric"}
        row.update(right if row["id"].startswith("m") else {"input": "Reverse xy", "target": "yx"})
    (office / "tasks.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    made = await compose(problem(composer="identity"), store=office / "store.sqlite")
    assert made.certificate.arm("single agent").success == 1
    assert made.certificate.headline.verdict != "team better"


async def test_two_warm_samples_do_not_stand_in_for_one_answer_that_does_better(office, problem, monkeypatch):
    """Of an agent that errs when it is warm, the answer without a temperature is the baseline."""
    from composers import certify

    drawn = []
    swept = certify.sweep

    async def noting(runtime, name, graph, tasks, *, samples, **how):
        found = await swept(runtime, name, graph, tasks, samples=samples, **how)
        if samples != 1:
            worse = [replace(one, score=0.0) for one in found.arm.measured]
            found = replace(found, arm=Arm.of(name, worse))
            drawn.append(name)
        return found

    monkeypatch.setattr(certify, "sweep", noting)
    monkeypatch.setattr(certify, "expected_samples", lambda team, once: Fraction(2))
    made = await compose(problem(), store=office / "store.sqlite")
    assert sorted(drawn) == ["single agent", certify.EQUIPPED]  # on the trial tasks alone
    assert {made.certificate.arm(name).samples_per_task for name in ("single agent", certify.EQUIPPED)} == {1.0}


async def test_a_model_whose_price_nobody_knows_is_refused_before_anything_is_spent(office, problem, monkeypatch):
    monkeypatch.setattr(ScriptedModel, "price", property(lambda model: None))
    with pytest.raises(UnknownPrice, match=r"nothing can be compared at equal cost.*--price"):
        await compose(problem(), store=office / "store.sqlite")


async def test_what_is_measured_again_is_measured_on_tasks_that_chose_nothing(office, problem):
    rows = [json.loads(line) for line in (office / "tasks.jsonl").read_text().splitlines()]
    for row in rows:
        row["skills"] = ["products", "reversal"]
    (office / "tasks.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    asked = []
    pairs = Trials._pairs

    async def noting(trials, component, ids):
        asked.append((component.name, set(ids)))
        return await pairs(trials, component, ids)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Trials, "_pairs", noting)
        made = await compose(problem(queries=4), store=office / "store.sqlite")
    assert made.chosen
    for name in made.chosen:
        of_it = [ids for other, ids in asked if other == name]
        tried, fresh = set().union(*of_it[:2]), set().union(*of_it[2:])
        assert fresh
        assert not tried & fresh
