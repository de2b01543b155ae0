"""What composing is worth: `online-knapsack` beside retrieval, identity and the single-agent baselines.

    python -m benchmarks office --seeds 1 2 3 4 5

Every seed is an office that nobody has seen (`examples/office/generate.py`), with its own inventory, prices, tasks and
order of arrival; each is composed for and certified once. The table gives each arm's success per seed; below it stand
the differences between the team and each other arm, paired task by task and pooled over all seeds.

`identity, tools alone` is identity without the inventory's agents, which know no more than the model they run on and
mislead the one that answers: what everything on the shelf is worth when nobody chatters.

Whatever was answered before is taken from the store, so an interrupted run goes on where it stopped.
"""

import argparse
import asyncio
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

from composers import Problem, compose
from composers.knapsack.assembly import assemble
from graphs import Provenance
from graphs.serialisation import write
from orchestra import evaluate
from orchestra.evaluation.certificate import EQUIPPED, IDENTITY, RETRIEVAL, SINGLE, TEAM, Certificate
from orchestra.evaluation.intervals import score_interval, success_interval

GENERATOR = Path(__file__).parent.parent / "examples" / "office" / "generate.py"
TOOLS = "identity, tools alone"
ARMS = (TEAM, RETRIEVAL, IDENTITY, TOOLS, SINGLE, EQUIPPED)


async def composed(seed: int, folder: Path, budget_usd: Decimal) -> tuple[Certificate, dict[str, dict[str, float]]]:
    """The certificate of one office, and the score of every held-out task by arm."""
    office = folder / f"office-{seed}"
    words = [sys.executable, str(GENERATOR), "--seed", str(seed), "--out", str(office)]
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
    problem = Problem.read(office / "tasks.jsonl", office / "inventory.yaml", budget_usd=budget_usd, seed=seed)
    files = (office / "certificate.json", office / "certificate.html")
    made = await compose(problem, out=office / "team.yaml", reports=files, store=folder / "office.sqlite")
    assert made.certificate is not None
    tools = [component for component in problem.inventory.components if component.kind == "tool"]
    provenance = Provenance(composer=TOOLS, inventory="inventory.yaml")
    everything = assemble(tools, problem.inventory, model=problem.settings.model, provenance=provenance)
    write(everything, office / "tools.yaml")
    heard = await evaluate(
        [office / "tools.yaml"], problem.heldout_tasks, settings=problem.settings, store=folder / "office.sqlite"
    )
    scores = {arm.name: {each.task_id: each.success or 0.0 for each in arm} for arm in made.heldout.values()}
    scores[TOOLS] = {each.task_id: each.success or 0.0 for each in heard.teams[0].arm}
    return made.certificate, scores


def percent(share: float) -> str:
    """A share for the table."""
    return f"{100 * share:.1f} %"


def main(arguments: list[str] | None = None) -> None:
    """Compose for every seed and print the tables."""
    parser = argparse.ArgumentParser(description="online-knapsack on offices that nobody has seen")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    parser.add_argument("--budget", type=Decimal, default=Decimal(30))
    parser.add_argument(
        "--folder", type=Path, default=Path("bench-office"), help="where offices and the store are kept"
    )
    chosen = parser.parse_args(arguments)
    chosen.folder.mkdir(parents=True, exist_ok=True)
    pooled: dict[str, list[float]] = {arm: [] for arm in ARMS}
    print("| seed | " + " | ".join(ARMS) + " | equipment | of identity's | ratio reached | verdict |")
    print("|---" * (len(ARMS) + 5) + "|")
    for seed in chosen.seeds:
        certificate, scores = asyncio.run(composed(seed, chosen.folder, chosen.budget))
        team = scores[TEAM]
        for arm in ARMS:
            pooled[arm] += [scores[arm][task] for task in team]
        shares = " | ".join(percent(sum(scores[arm].values()) / len(scores[arm])) for arm in ARMS)
        spent, whole = certificate.team.equipment_usd, certificate.arm(IDENTITY).equipment_usd or Decimal(0)
        ratio = certificate.optimum.ratio if certificate.optimum else None
        verdict = certificate.headline.verdict if certificate.headline else "none"
        reached = "–" if ratio is None else f"{ratio:.2f}"
        print(f"| {seed} | {shares} | ${spent} | {percent(float(spent / whole))} | {reached} | {verdict} |", flush=True)
    print(f"\n| all seeds, {len(pooled[TEAM])} tasks | success | 95 % interval | team minus it | 95 % interval |")
    print("|---|---|---|---|---|")
    for arm in ARMS:
        own = success_interval(pooled[arm])
        differences = [a - b for a, b in zip(pooled[TEAM], pooled[arm], strict=True)]
        low, high = score_interval(differences, low=-1.0, high=1.0)
        mean = sum(differences) / len(differences)
        against = "–" if arm == TEAM else f"{100 * mean:+.1f} points"
        interval = "–" if arm == TEAM else f"{100 * low:+.1f} to {100 * high:+.1f}"
        print(f"| {arm} | {percent(own.mean)} | {percent(own.low)} to {percent(own.high)} | {against} | {interval} |")


if __name__ == "__main__":
    main()
