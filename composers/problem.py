"""The problem a composer solves: tasks, an inventory, a budget, and how the search may be carried out."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Self

from composers.knapsack.assembly import FEWEST_AGENTS, agents_among, valued
from composers.knapsack.similarity import similarity_for
from graphs.motifs import MOTIFS
from orchestra.agents.inventory import Inventory
from orchestra.agents.inventory_file import read_inventory
from orchestra.benchmarks.tasks import Task, check_ids, of_split, read_tasks, tasks_hash
from orchestra.errors import InputError
from orchestra.evaluation.paired import MARGIN
from orchestra.execution.recording import recorded_inputs
from orchestra.execution.runtime import Runtime
from orchestra.execution.settings import Settings
from orchestra.ledger import Ledger
from orchestra.plugins import closest

Money = Decimal | str | int

Started = Callable[[str, int], Callable[[], None]]
"""Takes a title and a number of steps; what it returns is called after each step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """What is to be composed, checked before anything is spent."""

    tasks: tuple[Task, ...]
    inventory: Inventory
    budget_usd: Decimal
    """Most the equipment may cost together, in the inventory's unit."""
    composer: str = "online-knapsack"
    """Plug-in name, or `package.module:attribute`."""
    skills_by: str | None = None
    """Model that writes the skills; `None` takes the tasks' labels."""
    latency_limit_seconds: float | None = None
    """Most the chosen components' expected latencies may add up to; `None` sets no limit."""
    motif: str = "star"
    """Shape of the team, one of `graphs.motifs.MOTIFS`."""
    similarity: str = "auto"
    """What retrieval compares texts with: `embeddings`, `bm25`, or `auto` for the best that is installed."""
    try_all: bool = False
    """Try the whole inventory, so that the optimum over it is known."""
    queries: int = 8
    """Trial tasks per skill that a component is tried on."""
    candidates: int = 10
    """Components retrieved per skill; the paper's K."""
    margin: float = MARGIN
    """Lead in success that counts as none, as a share."""
    seed: int = 0
    settings: Settings = field(default_factory=lambda: Settings(use_cache=True))
    tasks_path: Path | None = None

    @classmethod
    def read(
        cls, tasks: Path | str | Sequence[Task], inventory: Path | str | Inventory, *, budget_usd: Money, **chosen: Any
    ) -> Self:
        """The problem in a task file and an inventory file; either may be given as values instead.

        An adapter whose value the inventory leaves out has the one that its card says was measured.

        Args:
            tasks: file, or tasks.
            inventory: file, or inventory.
            budget_usd: most the equipment may cost together.
            chosen: the other fields.

        Raises:
            InputError: with every defect of the file that is wrong, or of the two together; or an adapter is not here.
        """
        named: Path | None = None
        if isinstance(tasks, str | Path):
            named = Path(tasks)
            tasks = read_tasks(named)
        problem = cls(
            tasks=tuple(tasks),
            inventory=inventory if isinstance(inventory, Inventory) else read_inventory(Path(inventory)),
            budget_usd=Decimal(budget_usd),
            tasks_path=named,
            **chosen,
        )
        problem.check()
        return replace(problem, inventory=valued(problem.inventory))

    def check(self) -> None:
        """Refuse what cannot be composed.

        Raises:
            InputError: no components, a budget below the cheapest, a motif the inventory has no agents for, a latency
                limit on components that state none, tasks without target or without one of the splits.
        """
        if not self.inventory.components:
            raise InputError("the inventory is empty; list at least one component under `components:`")
        if self.motif not in MOTIFS:
            raise InputError(f"there is no motif {self.motif!r}; {closest(self.motif, MOTIFS)}")
        cheapest = min(self.inventory.components, key=lambda component: component.price_usd)
        if self.budget_usd < cheapest.price_usd:
            raise InputError(
                f"budget {self.budget_usd} is below the cheapest component ({cheapest.name!r} at "
                f"{cheapest.price_usd}); raise --budget or add a cheaper component"
            )
        self.similarity_used()
        fewest = FEWEST_AGENTS.get(self.motif, 0)
        agents = agents_among(self.inventory.components)
        if agents < fewest:
            raise InputError(
                f"a {self.motif} needs {fewest} agents, and the inventory has {agents}; "
                f"add components of `kind: agent`, or use --motif star"
            )
        mute = [component.name for component in self.inventory.components if component.latency_seconds is None]
        if self.latency_limit_seconds is not None and mute:
            raise InputError(
                f"a latency limit needs latency_seconds on every component; {mute[0]!r} states none "
                f"({len(mute)} in all)"
            )
        check_ids(self.tasks)
        untargeted = [task.id for task in self.tasks if task.target is None]
        if untargeted:
            raise InputError(
                f"composing needs a target on every task; {untargeted[0]!r} has none ({len(untargeted)} in all)"
            )
        for split in ("trial", "heldout"):
            if not of_split(self.tasks, split):
                raise InputError(
                    f'no task falls into the {split} split; mark some with {{"split": "{split}"}} '
                    f"or add tasks, which are split by a hash of their id"
                )

    def similarity_used(self) -> str:
        """`embeddings` or `bm25`; a replay takes the recorded one, which need not be installed.

        Raises:
            InputError: there is no such similarity, or it is not installed or pulled.
        """
        if self.settings.replay is None:
            return similarity_for(self.similarity)
        if self.similarity == "auto":
            return str(recorded_inputs(self.settings.replay).get("similarity"))
        return self.similarity

    @property
    def trial_tasks(self) -> tuple[Task, ...]:
        """Tasks the search may look at."""
        return of_split(self.tasks, "trial")

    @property
    def heldout_tasks(self) -> tuple[Task, ...]:
        """Tasks only the certificate looks at."""
        return of_split(self.tasks, "heldout")

    def inputs(self) -> dict[str, object]:
        """What the result depends on; a resumed search must be given the same."""
        inventory = hashlib.sha256(self.inventory.model_dump_json().encode()).hexdigest()
        return {
            "tasks": tasks_hash(self.tasks),
            "inventory": inventory,
            "budget": str(self.budget_usd),
            "composer": self.composer,
            "skills_by": self.skills_by,
            "latency_limit": self.latency_limit_seconds,
            "motif": self.motif,
            "similarity": self.similarity_used(),  # weights may be pulled between two attempts
            "try_all": self.try_all,
            "queries": self.queries,
            "candidates": self.candidates,
            "seed": self.seed,
            **self.settings.inputs(),
        }


def moment(runtime: Runtime, name: str) -> datetime:
    """Now, or when it was in the recorded run.

    Args:
        name: of the moment, unique within the run.
    """
    return datetime.fromisoformat(runtime.noted(name, lambda: datetime.now(UTC).isoformat()))


@dataclass(slots=True, kw_only=True)
class Search:
    """A search under way: the problem, and what it may use."""

    problem: Problem
    runtime: Runtime
    on_start: Started
    started: datetime = field(default_factory=lambda: datetime.now(UTC))
    purses: list[Ledger] = field(default_factory=list)
    """Every purse opened, in order; together they are the run's ledger."""
    found: dict[str, Any] = field(default_factory=dict)
    """What a composer worked out and another composer of the same search need not work out again."""

    def open_purse(self, name: str, cap_nano: int | None = None) -> Ledger:
        """A part of the run's ledger with a name of its own, so that the certificate can say what it was spent on."""
        purse = self.runtime.ledger.child(name, cap_nano)
        self.purses.append(purse)
        return purse

    @property
    def purse(self) -> Ledger:
        """Pays for the search itself: the first that was opened."""
        return self.purses[0]
