"""What a composer hands over."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path
from typing import Any, Protocol

from composers.problem import Search
from graphs import AgentGraph
from graphs.serialisation import to_json
from orchestra.agents.inventory import Inventory
from orchestra.benchmarks.tasks import Task
from orchestra.evaluation.certificate import Certificate, Optimum, Trial
from orchestra.evaluation.outcomes import Arm
from orchestra.execution.forecast import Actual, Forecast
from orchestra.ledger import Ledger


@dataclass(frozen=True, slots=True, kw_only=True)
class Composition:
    """A team, and what is known about it."""

    graph: AgentGraph
    chosen: tuple[str, ...]
    """Component names, in the order they were chosen."""
    equipment_usd: Decimal
    tried: tuple[Trial, ...] = ()
    """Every component looked at, in order of arrival."""
    optimum: Optimum | None = None
    """`None` when no values were measured."""
    notes: dict[str, Any] = field(default_factory=dict)
    """What else the composer wants on the certificate."""
    heldout: Mapping[str, Arm] = field(default_factory=dict)
    """Every arm's outcomes on the held-out tasks, as far as they were measured."""
    run_id: str = ""
    certificate: Certificate | None = None
    """`None` until it is certified."""
    ran_out: str | None = None
    """What the search budget ran out on; `None` when it did not."""
    written: tuple[Path, ...] = ()
    forecast: Forecast | None = None
    """What was foreseen when the search began."""
    actual: Actual | None = None
    """What it came to, certificate and all."""

    def with_(self, **changes: Any) -> "Composition":
        """This composition with some fields changed."""
        return replace(self, **changes)

    def document(self) -> dict[str, Any]:
        """As one JSON document."""
        return {
            "run_id": self.run_id,
            "chosen": list(self.chosen),
            "equipment_usd": str(self.equipment_usd),
            "ran_out": self.ran_out,
            "written": [str(path) for path in self.written],
            "forecast": self.forecast.against(self.actual) if self.forecast and self.actual else None,
            "team": to_json(self.graph),
            "certificate": None if self.certificate is None else self.certificate.model_dump(mode="json"),
        }


class Composer(Protocol):
    """A plug-in of the group `orchestra.composers`."""

    async def __call__(
        self, tasks: tuple[Task, ...], inventory: Inventory, ledger: Ledger, *, seed: int, state: Search
    ) -> Composition:
        """A team for `tasks` from `inventory`, paid for by `ledger`.

        Args:
            tasks: the trial split; held-out tasks are not shown to a composer.
            state: the search under way, with the runtime and everything that was asked for.

        Raises:
            CannotAfford: before anything could be chosen.
        """
        ...
