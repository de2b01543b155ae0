"""Forecasts of runs: made before anything is sent, kept with the run, and compared with what it came to."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from graphs import AgentGraph, check
from orchestra.agents.tools import check_trusted
from orchestra.errors import InputError, UnknownPrice
from orchestra.execution.estimates import estimate
from orchestra.execution.forecast import FORECAST, Actual, Forecast, kept_forecast, total
from orchestra.execution.measured import Measured, measured
from orchestra.execution.play import Spent
from orchestra.execution.runtime import Runtime
from orchestra.execution.settings import STATE_PRICE, Settings, opened_model
from orchestra.execution.teams import check_allowances, models_of, tools_of
from orchestra.models.protocol import Model
from orchestra.traces.store import Fact, Store


@dataclass(frozen=True, slots=True)
class Plan:
    """A team that is to be played at some tasks."""

    graph: AgentGraph
    texts: Sequence[str]
    samples: int = 1
    folder: Path | None = None


def foresee(
    plans: Sequence[Plan], settings: Settings, *, store: str | Path | None = None, capped: bool = False
) -> Forecast:
    """What playing `plans` would take; no model is called, no tool run, and nothing written.

    Args:
        plans: teams and their tasks.
        settings: as the run would have.
        store: earlier runs are looked up there, if it exists.
        capped: whether the run would have a cap, which a model without a price is refused under.

    Raises:
        InputError: what the run itself would refuse before it spends.
    """
    check_allowances(settings.allowances, [plan.graph for plan in plans])
    for plan in plans:
        check(plan.graph)
        for tool in tools_of(plan.graph):
            check_trusted(tool, plan.folder, settings.trust)
    models: dict[str, Model] = {}

    def model(name: str) -> Model:
        if name not in models:
            models[name] = opened_model(name, settings)
        return models[name]

    if capped:
        named = sorted({name for plan in plans for name in models_of(plan.graph, settings.model)})
        unpriced = next((name for name in named if model(name).price is None), None)
        if unpriced is not None:
            raise UnknownPrice(f"the price of model {unpriced!r} is not known, so a cap cannot be kept; {STATE_PRICE}")
    known = _looked_up(store)
    return total(
        estimate(
            plan.graph,
            plan.texts,
            model,
            default_model=settings.model,
            samples=plan.samples,
            measured=known,
            allowances=settings.allowances,
        )
        for plan in plans
    )


def note_forecast(runtime: Runtime, plans: Sequence[Plan]) -> Forecast:
    """The forecast of a run that is about to begin, kept as a fact; of one that goes on, the one it began with.

    Raises:
        InputError: an allowance is for a node or tool that no team has.
    """
    check_allowances(runtime.settings.allowances, [plan.graph for plan in plans])

    def made() -> Forecast:
        known = measured(runtime.store)
        settings = runtime.settings
        return total(
            estimate(
                plan.graph,
                plan.texts,
                runtime.model,
                default_model=settings.model,
                samples=plan.samples,
                measured=known,
                allowances=settings.allowances,
            )
            for plan in plans
        )

    return keep_forecast(runtime, made)


def keep_forecast(runtime: Runtime, made: Callable[[], Forecast]) -> Forecast:
    """What `made` foresees of a run that is about to begin, kept as a fact; of one that goes on, what it began with."""
    kept = kept_forecast(runtime.store.facts(runtime.run_id)) if runtime.journal.resumed else None
    document = runtime.noted(FORECAST, lambda: (kept or made()).document())
    if kept is None:
        runtime.store.post(Fact(runtime.run_id, None, FORECAST, document, "orchestra"))
    return Forecast.read(document)


def came_to(runtime: Runtime) -> Actual:
    """What the plays of a run came to so far."""
    spent = Spent()
    for tally in runtime.tallies.values():
        spent.merge(tally)
    return Actual(
        model_calls=spent.calls,
        tool_calls=spent.tool_calls,
        input_tokens=spent.input_tokens,
        output_tokens=spent.output_tokens,
        list_nano=spent.list_nano,
    )


def _looked_up(store: str | Path | None) -> Measured:
    try:
        with Store.open(store, read_only=True) as opened:
            return measured(opened)
    except InputError:  # there is none yet
        return Measured()
