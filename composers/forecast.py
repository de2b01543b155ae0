"""What a composition would take, before anything is called."""

from dataclasses import dataclass

from composers.knapsack.assembly import assemble
from composers.knapsack.retrieval import candidates, rank
from composers.knapsack.similarity import best_similarity
from composers.knapsack.skills import from_labels
from composers.problem import Problem
from graphs import Sampling
from orchestra.execution.runtime import Runtime
from orchestra.ledger import show_usd
from orchestra.models.protocol import Message, Request


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """Calls, tokens and cash, from the least to the most."""

    calls: tuple[int, int]
    input_tokens: tuple[int, int]
    output_tokens: tuple[int, int]
    list_nano: tuple[int, int] | None
    """`None` when the model's price is not known."""
    model: str

    def document(self) -> dict[str, object]:
        """As one JSON document."""
        return {
            "model": self.model,
            "calls": list(self.calls),
            "input_tokens": list(self.input_tokens),
            "output_tokens": list(self.output_tokens),
            "list_usd": None if self.list_nano is None else [show_usd(amount) for amount in self.list_nano],
        }

    def lines(self) -> tuple[str, ...]:
        """For people."""
        cash = "unknown: the model has no price" if self.list_nano is None else _range(self.list_nano, show_usd)
        return (
            f"model          {self.model}",
            f"calls          {_range(self.calls)}",
            f"input tokens   {_range(self.input_tokens)}",
            f"output tokens  {_range(self.output_tokens)}",
            f"cash           {cash}",
            "nothing was called",
        )


def _range(ends: tuple[int, int], show: "object" = None) -> str:
    low, high = (show(end) if callable(show) else f"{end:,}" for end in ends)
    return f"{low} to {high}"


def foresee(problem: Problem, runtime: Runtime) -> Forecast:
    """The forecast of `problem`.

    The least is what the certificate takes when every trial is answered from the store; the most is when every
    retrieved component (with `try_all`, every component) is tried, each reply is as long as it may be, and each
    baseline draws three samples per task.
    """
    model = runtime.model(problem.settings.model)
    skills = from_labels(problem.trial_tasks)
    tried = 0
    if problem.composer in ("online-knapsack", "offline-trials"):
        _, similarity = best_similarity()
        found = candidates(rank(skills, problem.inventory.components, similarity=similarity), problem.candidates)
        pairs = sum(len(each.skills) for each in found)
        if problem.try_all:
            pairs = len(problem.inventory.components) * len(skills)
        tried = problem.queries * (pairs + 2 * len(skills))
    trial, heldout = len(problem.trial_tasks), len(problem.heldout_tasks)
    fewest, most = 3 * trial + 5 * heldout, tried + 9 * trial + 9 * heldout
    sampling = assemble((), problem.inventory).sampling
    prompt = _prompt_tokens(problem, runtime, sampling)
    inputs = (fewest * prompt, 2 * most * prompt)
    outputs = (fewest * 4, most * sampling.max_tokens)
    cash = None
    if model.price is not None:
        cash = (model.price.cost(inputs[0], outputs[0]), model.price.cost(inputs[1], outputs[1]))
    return Forecast(calls=(fewest, most), input_tokens=inputs, output_tokens=outputs, list_nano=cash, model=model.name)


def _prompt_tokens(problem: Problem, runtime: Runtime, sampling: Sampling) -> int:
    """Mean prompt of the base agent over the trial tasks, at most 20 of them."""
    from orchestra.agents.prompts import render

    node = assemble((), problem.inventory).nodes[0]
    model = runtime.model(problem.settings.model)
    some = problem.trial_tasks[:20]
    sizes = []
    for task in some:
        messages: tuple[Message, ...] = render(node, task.input, ())  # type: ignore[arg-type]
        sizes.append(model.prompt_tokens_bound(Request(messages=messages, sampling=sampling)))
    return max(1, sum(sizes) // len(sizes))
