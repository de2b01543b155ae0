"""Composing with every option: each certificate is valid, adds up, and says what was ignored or fell short."""

from decimal import Decimal

import pytest

from composers import compose
from composers.composing import forecast
from composers.problem import Problem
from graphs.serialisation import read
from orchestra.benchmarks.tasks import read_tasks
from orchestra.errors import BudgetError, InputError
from orchestra.evaluation.certificate import Certificate
from orchestra.execution import Settings
from orchestra.execution.runner import answer
from orchestra.ledger import nano

COMPOSERS = ["identity", "retrieval", "offline-knapsack", "offline-trials", "online-knapsack"]
SKILLS = """\
  - match: 'List the skills it needs'
    reply: |
      1. **products** | Works out products of two numbers | 8
      2. reversal | Reverses words | 2
"""
AGENTS = """\
  - {name: adder, kind: agent, description: Works out products of numbers, price_usd: 3, prompt: Work it out.,
     tools: [calculator]}
  - {name: teller, kind: agent, description: Reverses words backwards, price_usd: 3, prompt: Tell it backwards.}
"""


@pytest.fixture
def problem(office):
    def make(**chosen):
        settings = Settings(model=f"scripted/{office / 'rules.yaml'}", use_cache=True)
        fields = {"budget_usd": 11, "settings": settings, "similarity": "bm25", "queries": 4} | chosen
        return Problem.read(office / "tasks.jsonl", office / "inventory.yaml", **fields)

    return make


@pytest.fixture
def agents(office):
    """The inventory with two agents, and a model that calls the calculator by the text protocol."""
    with (office / "inventory.yaml").open("a") as inventory:
        inventory.write(AGENTS)
    (office / "rules.yaml").write_text(
        "rules:\n"
        "  - {match: '(?s)Tool result: [\\w.-]+: (.+)\\nAnswer:', reply: '\\1'}\n"
        "  - {match: '^calculator: (.+)$', reply: '\\1'}\n"
        "  - {match: '(?s)(?:adder|teller|answerer): ([^\\n]+)', reply: '\\1'}\n"
        "  - {match: '^What is (\\d+ . \\d+)', reply: 'CALL calculator: \\1'}\n"
        "  - {match: '', reply: no idea}\n"
    )
    return office


@pytest.mark.parametrize("composer", COMPOSERS)
async def test_every_composer_hands_over_a_valid_certificate_within_its_forecast(office, problem, composer):
    asked = problem(composer=composer)
    seen = await forecast(asked)
    made = await compose(asked, store=office / "store.sqlite")
    certificate = made.certificate
    assert Certificate.model_validate_json(certificate.model_dump_json()) == certificate
    assert seen.model_calls.holds(sum(row.calls for row in certificate.spend.rows))
    assert seen.list_nano.holds(nano(certificate.spend.list_usd))
    over = made.equipment_usd > 11
    assert over == (composer == "identity")
    assert certificate.settings.options["over_budget"] == over
    assert ("over the budget" in certificate.verdict) == over


async def test_tasks_and_inventory_can_be_given_as_values(office, problem):
    asked = problem()
    made = await compose(
        asked.tasks,
        asked.inventory,
        budget_usd=11,
        similarity="bm25",
        settings=asked.settings,
        store=office / "s.sqlite",
    )
    assert made.certificate.headline.verdict == "team better"
    with pytest.raises(InputError, match="budget_usd"):
        await compose(asked.tasks, asked.inventory, store=office / "s.sqlite")


@pytest.mark.parametrize("composer", ["online-knapsack", "identity"])
async def test_a_model_can_write_the_skills(office, problem, composer):
    rules = (office / "rules.yaml").read_text()
    (office / "rules.yaml").write_text(rules.replace("rules:\n", "rules:\n" + SKILLS))
    asked = problem(composer=composer, skills_by=f"scripted/{office / 'rules.yaml'}")
    made = await compose(asked, store=office / "store.sqlite")
    assert made.certificate.incomplete is None
    rows = {row.category: row for row in made.certificate.spend.rows}
    assert rows["search"].calls >= 1
    if composer != "identity":
        assert made.certificate.settings.options["skills"] == {"products": 0.8, "reversal": 0.2}


async def test_skills_that_cannot_be_read_are_an_error_that_says_what_to_do(office, problem):
    with pytest.raises(InputError, match="label the tasks"):
        await compose(problem(skills_by=f"scripted/{office / 'rules.yaml'}"), store=office / "store.sqlite")


async def test_money_too_short_for_the_skills_is_a_budget_that_ran_out(office, problem):
    asked = problem(skills_by=f"scripted/{office / 'rules.yaml'}")
    with pytest.raises(BudgetError, match="--resume"):
        await compose(asked, search_budget_usd="0.000001", store=office / "store.sqlite")


@pytest.mark.parametrize("composer", ["online-knapsack", "identity"])
async def test_a_budget_too_small_at_any_stage_is_kept_and_said(office, problem, composer):
    asked = problem(composer=composer)
    whole = await compose(asked, store=office / "whole.sqlite")
    dear = whole.certificate.spend.paid_usd
    for share in ("0.02", "0.3", "0.7", "0.95"):
        cap = (dear * Decimal(share)).quantize(Decimal("0.000000001"))
        store = office / f"{share}.sqlite"
        short = await compose(asked, search_budget_usd=cap, store=store)
        assert short.ran_out
        assert short.certificate.incomplete
        assert short.certificate.spend.paid_usd <= cap
    again = await compose(asked, search_budget_usd=1, store=store, resume=short.run_id)
    assert again.ran_out is None
    assert again.certificate.verdict == whole.certificate.verdict
    assert again.certificate.break_even == whole.certificate.break_even


async def test_a_resumed_search_counts_what_it_paid_for_once(office, problem):
    whole = await compose(problem(), store=office / "store.sqlite")
    again = await compose(problem(), store=office / "store.sqlite", resume=whole.run_id)
    assert again.certificate.spend == whole.certificate.spend
    assert again.certificate.break_even == whole.certificate.break_even


async def test_an_optimum_over_all_leaves_every_decision_as_it_was_made(office, problem):
    alone = await compose(problem(candidates=1), store=office / "alone.sqlite")
    made = await compose(problem(candidates=1, try_all=True), store=office / "store.sqlite")
    rows = {row.component: row for row in made.tried}
    assert set(rows) == {component.name for component in problem().inventory.components}
    assert [rows[row.component] for row in alone.tried] == list(alone.tried)
    assert made.optimum.over == "inventory"
    assert made.optimum.value >= made.optimum.reached


@pytest.mark.parametrize("composer", ["online-knapsack", "offline-knapsack"])
async def test_a_latency_limit_is_kept(office, problem, composer):
    text = (office / "inventory.yaml").read_text()
    (office / "inventory.yaml").write_text(text.replace("price_usd", "latency_seconds: 0.4, price_usd"))
    asked = problem(composer=composer, budget_usd=30, latency_limit_seconds=0.9)
    made = await compose(asked, store=office / "store.sqlite")
    assert 0 < len(made.chosen) <= 2
    if composer == "online-knapsack":
        assert "slower than what is left" in {row.reason for row in made.tried}


def test_a_latency_limit_needs_latencies_before_anything_is_spent(problem):
    with pytest.raises(InputError, match="'calculator' states none"):
        problem(latency_limit_seconds=1.0)


@pytest.mark.parametrize("motif", ["star", "vote", "debate", "relay", "solo"])
async def test_a_team_of_agents_takes_any_shape_and_runs(agents, problem, motif):
    made = await compose(
        problem(composer="identity", motif=motif), out=agents / "team.yaml", store=agents / "store.sqlite"
    )
    assert made.certificate.incomplete is None
    assert made.certificate.arm("team").failures == 0
    if motif == "solo":
        assert made.certificate.settings.options["motif"].startswith("star: ")
    task = next(task for task in read_tasks(agents / "tasks.jsonl") if "products" in task.skills)
    settings = Settings(model=f"scripted/{agents / 'rules.yaml'}")
    answered = await answer(read(agents / "team.yaml"), [task], settings=settings, folder=agents, store=agents / "s")
    assert answered.rows[0].error is None
    assert answered.rows[0].reply


async def test_agents_with_tools_are_tried_and_hired(agents, problem):
    made = await compose(problem(budget_usd=6), store=agents / "store.sqlite")
    rows = {row.component: row for row in made.tried}
    assert rows["adder"].value > 0
    assert made.certificate.headline.difference > 0


async def test_chosen_tools_without_agents_debate_as_a_star(agents, problem):
    made = await compose(problem(motif="debate", composer="retrieval", candidates=1), store=agents / "store.sqlite")
    assert made.certificate.settings.options["motif"] in (
        "debate",
        "star: the chosen components cannot form a debate",
    )


def test_a_debate_without_agents_in_the_inventory_is_refused(problem):
    with pytest.raises(InputError, match="a debate needs 2 agents, and the inventory has 0"):
        problem(motif="debate")


async def test_components_may_be_called_what_our_own_nodes_are_called(office, problem):
    for old, new in (("reverser", "answerer"), ("mute", "without"), ("calculator-twin", "ballot")):
        text = (office / "inventory.yaml").read_text()
        (office / "inventory.yaml").write_text(text.replace(f"name: {old}", f"name: {new}"))
    made = await compose(problem(composer="identity", motif="vote"), store=office / "store.sqlite")
    assert made.graph.output == "ballot-2"
    assert made.certificate.arm("team").failures == 0


@pytest.mark.parametrize("out", ["team.txt", "tools.py/team.yaml", "."])
async def test_a_team_that_could_not_be_written_is_refused_before_anything_is_spent(office, problem, out):
    with pytest.raises(InputError, match="written"):
        await compose(problem(), out=office / out, store=office / "store.sqlite")
    assert not (office / "store.sqlite").exists()


async def test_a_scorer_that_is_not_trusted_is_refused_before_anything_is_spent(office, problem):
    text = (office / "tasks.jsonl").read_text()
    (office / "tasks.jsonl").write_text(text.replace('"target"', '"scorer": "posixpath:samefile", "target"', 1))
    with pytest.raises(InputError, match="--trust"):
        await compose(problem(), store=office / "store.sqlite")
