"""The knapsack composers' own work: how it grows, how fast exact selection is, and how often it is right.

    python -m benchmarks knapsack [--instances 30]

No model is called: trial results are drawn from a seeded generator. "Equal to brute force" compares with all subsets.
"""

import argparse
import random
import statistics
import time
from collections.abc import Callable, Sequence
from decimal import Decimal
from functools import partial

import numpy as np
from numpy.typing import NDArray

from composers.knapsack import (
    Bm25,
    Candidate,
    Infeasible,
    Item,
    Limit,
    OnlineKnapsack,
    Selection,
    Skill,
    arrivals,
    best_additive,
    best_coverage,
    best_under_limits,
    bounds,
    candidates,
    rank,
)
from orchestra.agents.inventory import Component

TOPICS = ("arithmetic", "weekdays", "conversion", "statistics", "geometry", "timezones")
SKILLS = tuple(
    Skill(name=topic, description=f"{topic}: tasks about {topic}", weight=weight / 21)
    for weight, topic in enumerate(TOPICS, start=1)
)
WEIGHTS = {skill.name: skill.weight for skill in SKILLS}


def inventory(count: int, rng: random.Random) -> tuple[Component, ...]:
    """Components whose descriptions speak of one or two topics."""
    return tuple(
        Component(
            name=f"component-{number}",
            kind="tool",
            description=f"tool {number} for {' and '.join(rng.sample(TOPICS, rng.randint(1, 2)))}",
            price_usd=Decimal(rng.choice((3, 5, 8))),
            call="tools:answer",
        )
        for number in range(count)
    )


def online_seconds(count: int) -> tuple[float, float, int]:
    """Seconds of deciding on `count` candidates without and with retrieving them first, and how many were hired."""
    rng = random.Random(count)
    components = inventory(count, rng)
    gains = {component.name: rng.random() for component in components}
    start = time.perf_counter()
    found = arrivals(candidates(rank(SKILLS, components, similarity=Bm25()), k=count), seed=0)
    retrieved = time.perf_counter()
    limits = bounds(SKILLS, components, 0.1)
    # A budget that grows with the inventory, so that hiring goes on to the end.
    team = OnlineKnapsack(Decimal(count), lowest=limits.lowest, highest=limits.highest, weights=WEIGHTS)
    for each in found:
        component, skill = each.component, each.matches[0].skill
        if team.pass_over(component.name, component.price_usd, each.skills) is None:
            gain = {skill: gains[component.name]}
            team.offer(Candidate(name=component.name, price=component.price_usd, gains=gain))
    end = time.perf_counter()
    return end - retrieved, end - start, len(team.hired)


def tiered(count: int, seed: int, groups: int = 0) -> list[Item]:
    """Items of 3, 5 and 8 USD, each in one group or none."""
    rng = random.Random(seed)
    return [
        Item(
            name=str(number),
            price=rng.choice((3, 5, 8)),
            value=rng.random(),
            groups=(str(rng.randrange(groups)),) if groups else (),
        )
        for number in range(count)
    ]


def generic(count: int, seed: int) -> list[Item]:
    """Items whose prices share no divisor."""
    rng = random.Random(seed)
    return [Item(name=str(number), price=rng.uniform(1, 9), value=rng.random()) for number in range(count)]


def two_more_limits(items: list[Item], seed: int) -> list[Limit]:
    """Expected latency and memory, each allowing about half of all items."""
    rng = random.Random(seed)
    drawn = {name: [rng.randint(1, 100) for _ in items] for name in ("latency_ms", "memory_mib")}
    return [Limit(name=name, amounts=amounts, cap=sum(amounts) // 2) for name, amounts in drawn.items()]


def exact_rows(instances: int) -> list[tuple[str, list[float], int]]:
    """Per kind of instance: its name, seconds of each, and how many were proven optimal."""
    rows: list[tuple[str, list[float], int]] = []
    for name, solve in (
        ("20 x 1, prices 3/5/8, budget 30", lambda seed: best_additive(tiered(20, seed), 30)),
        ("20 x 1, 6 skills to cover", lambda seed: best_additive(tiered(20, seed, 6), 30)),
        ("20 x 1, real prices", lambda seed: best_additive(generic(20, seed), 30.0)),
        ("100 x 1, prices 3/5/8", lambda seed: best_additive(tiered(100, seed), 30)),
        ("100 x 1, 6 skills to cover", lambda seed: best_additive(tiered(100, seed, 6), 30)),
        ("100 x 1, real prices", lambda seed: best_additive(generic(100, seed), 30.0)),
        ("1,000 x 1, real prices", lambda seed: best_additive(generic(1000, seed), 30.0)),
        ("100 x 3 (CP-SAT)", three_constraints),
        ("120 measured candidates, 6 skills", lambda seed: best_coverage(measured(120, seed), WEIGHTS, 30)),
    ):
        solve(-1)
        found = [solve(seed) for seed in range(instances)]
        rows.append((name, [each.seconds for each in found], sum(each.optimal for each in found)))
    return rows


def three_constraints(seed: int) -> Selection:
    """A hundred items under three constraints, each allowing about half of them."""
    rng = random.Random(seed)
    items = [Item(name=str(i), price=rng.randint(1, 100), value=float(rng.randint(1, 100))) for i in range(100)]
    budget = sum(int(item.price) for item in items) // 2
    return best_under_limits(items, budget, two_more_limits(items, seed), deadline_seconds=20)


def measured(count: int, seed: int) -> list[Candidate]:
    """Candidates that were tried on one or two skills, five queries each."""
    rng = random.Random(seed)
    return [
        Candidate(
            name=str(number),
            price=rng.choice((3, 5, 8)),
            gains={topic: rng.randint(-1, 5) / 5 for topic in rng.sample(TOPICS, rng.randint(1, 2))},
        )
        for number in range(count)
    ]


def equal_counts(instances: int) -> list[tuple[str, int, int]]:
    """Per solver: how many instances of 16 equal brute force, of how many."""
    additive = coverage = limited = 0
    taken = (np.arange(1 << 16)[:, None] >> np.arange(16)) & 1
    for seed in range(instances):
        items = tiered(16, seed, 3) if seed % 2 else generic(16, seed)
        additive += _matches(best_additive, items, taken, [])
        limits = two_more_limits(items, seed)
        whole = tiered(16, seed, 3)
        limited += _matches(partial(best_under_limits, limits=limits), whole, taken, limits)
        tried = measured(16, seed)
        gains = np.array([[max(0.0, each.gains.get(topic, 0.0)) for topic in TOPICS] for each in tried])
        worth = np.max(taken[:, :, None] * gains, axis=1) @ np.array([WEIGHTS[topic] for topic in TOPICS])
        best = worth[taken @ np.array([each.price for each in tried]) <= 20].max()
        coverage += abs(best_coverage(tried, WEIGHTS, 20).value - best) < 1e-9
    return [
        ("one constraint, groups covered", additive, instances),
        ("three constraints, groups covered", limited, instances),
        ("measured gains", coverage, instances),
    ]


def _matches(
    solve: Callable[[list[Item], float], Selection], items: list[Item], taken: NDArray[np.int_], limits: list[Limit]
) -> bool:
    budget = 20
    fits = taken @ np.array([item.price for item in items]) <= budget
    for limit in limits:
        fits &= taken @ np.array(limit.amounts) <= limit.cap
    for group in {group for item in items for group in item.groups}:
        fits &= taken @ np.array([group in item.groups for item in items]) > 0
    worth = taken @ np.array([item.value for item in items])
    try:
        found = solve(items, budget)
    except Infeasible:
        return not fits.any()
    return bool(fits.any()) and abs(found.value - worth[fits].max()) < 1e-9


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--instances", type=int, default=30)
    instances: int = parser.parse_args(arguments).instances
    print("| online-knapsack, own work | decisions | each | with retrieval (BM25) | hired |\n|---|---|---|---|---|")
    online_seconds(100)
    for count in (1_000, 10_000, 100_000):
        own, whole, hired = online_seconds(count)
        each = f"{own / count * 1e6:.1f} µs"
        print(f"| {count:,} components | {own * 1e3:.1f} ms | {each} | {whole * 1e3:.0f} ms | {hired} |")
    print("\n| exact selection, items x constraints | median | longest | proven optimal |\n|---|---|---|---|")
    for name, seconds, proven in exact_rows(instances):
        longest = max(seconds) * 1e3
        print(f"| {name} | {statistics.median(seconds) * 1e3:.2f} ms | {longest:.2f} ms | {proven}/{len(seconds)} |")
    print("\n| 16 items | equal to brute force |\n|---|---|")
    for name, right, asked in equal_counts(instances):
        print(f"| {name} | {right}/{asked} |")


if __name__ == "__main__":
    main()
