"""A composition as it might have gone: made-up outcomes, everything else measured from them."""

import math
import random
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from graphs.model import AgentGraph, AgentNode, Channel, Provenance, Tool, ToolNode
from orchestra.evaluation.certificate import Certificate, Interval, Optimum, Settings, SpendRow, Team, Trial
from orchestra.evaluation.findings import arm_result, break_even_result, headline, spend, verdict_line
from orchestra.evaluation.outcomes import Arm, Outcome
from orchestra.ledger import usd

CHOSEN = ("calculator", "unit-converter", "weekday-of-date", "roman-numerals")
TASKS = 120
BUDGET = 30


def simulated_arm(name, rate, nano_per_task, *, seed, tasks=TASKS, prefix="h"):
    """An arm that solves about `rate` of its tasks; one episode in sixty fails."""
    rng = random.Random(f"{name} {seed}")
    outcomes = []
    for index in range(tasks):
        failed = rng.random() < 1 / 60
        nano = int(nano_per_task * rng.uniform(0.7, 1.3))
        outcomes.append(
            Outcome(
                task_id=f"{prefix}{index}",
                score=None if failed else float(rng.random() < rate),
                list_nano=nano,
                paid_nano=nano if rng.random() < 0.9 else 0,
                latency_seconds=rng.uniform(0.2, 0.9),
                error="tool 'unit-converter' exceeded 10 s" if failed else None,
            )
        )
    return Arm.of(name, outcomes)


def tool(name, price):
    return ToolNode(
        id=name, component=name, price_usd=Decimal(price), tool=Tool(name=name, call=f"tools:{name.replace('-', '_')}")
    )


def team_graph():
    prices = {trial.component: trial.price_usd for trial in trials()}
    return AgentGraph(
        name="office",
        model="local/smollm2-135m-instruct",
        nodes=(*(tool(name, prices[name]) for name in CHOSEN), AgentNode(id="writer", role="Answer in a few words.")),
        channels=tuple(Channel(source=name, target="writer") for name in CHOSEN),
        output="writer",
        provenance=Provenance(composer="online-knapsack", seed=7),
    )


def trials():
    """Twenty-four components in order of arrival, decided by the threshold rule."""
    lowest, highest, spent = 1 / 8 / 10, 1.0, 0
    rng = random.Random(4)
    values = {"calculator": 0.9, "unit-converter": 0.8, "weekday-of-date": 0.7, "roman-numerals": 0.85}
    values |= {"word-counter": 0.6, "coin-flipper": 0.01, "sloppy-calculator": 0.03, "date-guess": 0.05}
    names = ["coin-flipper", "calculator", "slow-lookup", "sloppy-calculator", "unit-converter", "poet", "date-guess"]
    names += ["weekday-of-date", "calculator-twin", "crashing-parser", "roman-numerals", "mime-types", "horoscope"]
    names += ["unit-rounder", "word-counter", "letter-counter", "stop-watch", "echo", "hex-only", "city-table"]
    names += ["string-reverser", "tide-table", "never-returns", "percent-helper"]
    made = []
    for index, name in enumerate(names):
        price = (3, 5, 8)[index % 3]
        threshold = (highest * math.e / lowest) ** (spent / BUDGET) * lowest / math.e
        common = {"component": name, "skills": ("arithmetic", "dates", "units")[index % 3 : index % 3 + 1]}
        common |= {"price_usd": price, "spent_before_usd": spent, "value_source": "trials"}
        if name in ("crashing-parser", "never-returns"):
            reason = "raised ValueError: bad digit" if index == 9 else "exceeded 10 s and was killed"
            made.append(Trial(**common, threshold=threshold, decision="broken", reason=reason, queries=1))
            continue
        if name == "calculator-twin":
            made.append(Trial(**common, decision="skipped", reason="every skill it was retrieved for is covered"))
            continue
        value = values.get(name, round(max(-0.1, rng.gauss(0.05, 0.08)), 2))
        density = value / price
        accepted = density >= threshold and price <= BUDGET - spent
        reason = "density reaches the threshold" if accepted else "density is below the threshold"
        fresh = {"fresh_value": value - 0.06, "fresh_interval": Interval(low=value - 0.25, high=value + 0.1)}
        made.append(
            Trial(
                **common,
                value=value,
                interval=Interval(low=value - 0.2, high=value + 0.15),
                queries=10,
                density=density,
                threshold=threshold,
                decision="accepted" if accepted else "rejected",
                reason=reason,
                **(fresh if accepted else {}),
            )
        )
        spent += price if accepted else 0
    return tuple(made)


@pytest.fixture(scope="session")
def certificate():
    return made_certificate(team_rate=0.83)


@pytest.fixture(scope="session")
def certificate_of():
    """Makes certificates with other success rates."""
    return made_certificate


def made_certificate(*, team_rate, single_rate=0.06, equipped_rate=0.31):
    cost = 21_400  # nano-USD per task
    team = simulated_arm("team", team_rate, cost, seed=1)
    single = simulated_arm("single agent", single_rate, cost, seed=2)
    equipped = simulated_arm("single agent with components", equipped_rate, cost, seed=3)
    retrieval, identity = (
        simulated_arm("retrieval", 0.42, 26_000, seed=4),
        simulated_arm("identity", 0.79, 190_000, seed=5),
    )
    rates = (("single agent", single_rate), ("single agent with components", equipped_rate))
    trial = {name: simulated_arm(name, rate, cost, seed=9, tasks=80, prefix="t") for name, rate in rates}
    found = headline(team, equipped, chosen_because="the better of the two baselines on the trial split")
    success = (
        arm_result(team, description="four tools, one agent", equipment_usd=Decimal(20)),
        arm_result(retrieval, description="the closest component per skill", equipment_usd=Decimal(41)),
        arm_result(identity, description="the whole inventory", equipment_usd=Decimal(398)),
        arm_result(single, description="no components", samples_per_task=2.4, trial=trial["single agent"]),
        arm_result(
            equipped,
            description="all chosen components at hand",
            samples_per_task=1.7,
            equipment_usd=Decimal(20),
            trial=trial["single agent with components"],
        ),
    )
    rows, booked = spend_rows({arm.name: arm for arm in (team, retrieval, identity, single, equipped)})
    search = 61_250_000
    return Certificate(
        verdict=verdict_line(found, success),
        team=Team(
            graph=team_graph(),
            components=CHOSEN,
            equipment_usd=sum(t.price_usd for t in trials() if t.decision == "accepted"),
            budget_usd=BUDGET,
            expected_cash_usd=usd(cost),
        ),
        success=success,
        headline=found,
        break_even=(break_even_result(search, team, equipped), break_even_result(search, team, identity)),
        components=trials(),
        optimum=made_optimum(),
        spend=spend(rows, settled_nano=booked - 12_000, unknown_nano=12_000, cap_nano=500_000_000),
        settings=made_settings(),
    )


def made_optimum():
    optimum, reached = 3.42, 3.25
    lowest, highest = 1 / 8 / 10, 1.0
    return Optimum(
        over="tried",
        reached=reached,
        value=optimum,
        bound=optimum,
        gap=0,
        components=(*CHOSEN, "date-guess"),
        ratio=optimum / reached,
        guarantee=math.log(highest / lowest) + 1,
        lowest_density=lowest,
        highest_density=highest,
        clipped=3,
        largest_price_share=8 / BUDGET,
    )


def made_settings():
    return Settings(
        composer="online-knapsack",
        seed=7,
        model="local/smollm2-135m-instruct",
        fingerprint="b179c952/bfloat16",
        run_id="run-5f0c7d",
        store="sqlite:///orchestra.sqlite",
        started=datetime(2026, 3, 2, 9, 14, 5, tzinfo=UTC),
        finished=datetime(2026, 3, 2, 9, 19, 48, tzinfo=UTC),
        tasks="examples/office/tasks.jsonl",
        inventory="examples/office/inventory.yaml",
        search_budget_usd=Decimal("0.5"),
        version="0.1.0",
        options={"margin": 0.02, "try_all": False, "latency_limit_seconds": None},
    )


def spend_rows(arms):
    """A row per category, and their paid sum in nano-USD."""
    amounts = [("trials", 1_460, 310, 61_250_000), ("re-estimates", 100, 0, 4_100_000)]
    amounts += [(f"held-out: {name}", len(arm) * 2, 40, arm.paid_nano) for name, arm in arms.items()]
    amounts.append(("unknown", 1, 0, 12_000))
    rows = [
        SpendRow(
            category=category,
            calls=calls,
            cached_calls=cached,
            input_tokens=calls * 214,
            output_tokens=calls * 19,
            list_usd=usd(paid * 5 // 4),
            paid_usd=usd(paid),
        )
        for category, calls, cached, paid in amounts
    ]
    return rows, sum(amount[3] for amount in amounts)
