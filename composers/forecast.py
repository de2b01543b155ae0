"""What a composition would take, before anything is called."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from composers.knapsack.assembly import assemble
from composers.knapsack.skills import MOST_SKILLS, from_labels
from composers.problem import Problem
from graphs import AgentNode, Sampling
from orchestra.agents.inventory import Component
from orchestra.agents.prompts import render
from orchestra.execution.nodes import MOST_TOOL_STEPS
from orchestra.ledger import show_usd
from orchestra.models.protocol import Model, Request

MOST_SAMPLES = 3
"""Samples a baseline draws per model call of the team, in the dearest case that is foreseen."""
TOOL_TOKENS = 64
"""Tokens a tool's message is expected to have at most."""
LONGEST_TOKEN = 8
"""Characters per token that prompts are not expected to exceed on average."""


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


def _range(ends: tuple[int, int], show: Callable[[int], str] = "{:,}".format) -> str:
    return f"{show(ends[0])} to {show(ends[1])}"


def foresee(problem: Problem, model: Model) -> Forecast:
    """The forecast of `problem` on `model`, which is not called.

    The least is what the certificate takes when no component needs a trial and no baseline a second sample. The most is
    when every retrieved component (with `try_all`, every component) is tried, agents use all their tool steps, replies
    are as long as they may be, tools say `TOOL_TOKENS` each, and baselines draw `MOST_SAMPLES` per call of the team.
    """
    everything = problem.inventory.components
    bought = everything if problem.composer == "identity" else _affordable(problem)
    rivals = sum(name != problem.composer for name in ("identity", "retrieval"))
    trial, heldout = len(problem.trial_tasks), len(problem.heldout_tasks)
    team, own = _calls(bought, problem), MOST_TOOL_STEPS if everything else 1
    samples = MOST_SAMPLES * team
    fewest = 3 * trial + (3 + rivals) * heldout
    most = sum(
        (
            _trial_calls(problem, len(bought)),
            trial * (team + 1 + samples + own + samples * own),
            heldout * (team + samples + samples * own),
            heldout * rivals * _calls(everything, problem),
        )
    )
    sampling = assemble((), problem.inventory).sampling
    least_prompt, prompt = _prompt_tokens(problem, model, sampling)
    largest = 2 * prompt + sum(TOOL_TOKENS + len(f"{each.name}{each.description}".encode()) for each in bought)
    inputs = (fewest * least_prompt, most * largest)
    outputs = (fewest, most * sampling.max_tokens)
    cash = None
    if model.price is not None:
        cash = (model.price.cost(inputs[0], outputs[0]), model.price.cost(inputs[1], outputs[1]))
    return Forecast(calls=(fewest, most), input_tokens=inputs, output_tokens=outputs, list_nano=cash, model=model.name)


def _trial_calls(problem: Problem, bought: int) -> int:
    """Most model calls that trials take, those that measure the chosen again included."""
    written = problem.skills_by is not None
    if problem.composer in ("identity", "retrieval", "offline-knapsack"):
        return int(written)
    skills = MOST_SKILLS if written else len(from_labels(problem.trial_tasks))
    offered = len(problem.inventory.components)
    pairs = skills * (offered if problem.try_all else min(problem.candidates, offered))
    again = min(pairs, bought * skills)
    dearest = max(_calls([component], problem) for component in problem.inventory.components)
    return problem.queries * ((pairs + again) * dearest + 2 * skills) + written


def _calls(components: Sequence[Component], problem: Problem) -> int:
    """Most model calls of one play of a team with these components."""
    agents = sum(MOST_TOOL_STEPS if each.tools else 1 for each in components if each.kind == "agent")
    rounds = 2 if problem.motif in ("debate", "relay") else 1
    return rounds * agents + 1


def _affordable(problem: Problem) -> list[Component]:
    """The most components that fit the budget together: the cheapest, agents before tools."""
    left, bought = problem.budget_usd, []
    for component in sorted(problem.inventory.components, key=lambda each: (each.price_usd, each.kind)):
        if component.price_usd <= left:
            left -= component.price_usd
            bought.append(component)
    return bought


def _prompt_tokens(problem: Problem, model: Model, sampling: Sampling) -> tuple[int, int]:
    """Least and mean prompt of the base agent over the trial tasks, at most 20 of them."""
    node = assemble((), problem.inventory).nodes[0]
    assert isinstance(node, AgentNode), "without components, a team is its agent"
    asked = [render(node, task.input, ()) for task in problem.trial_tasks[:20]]
    bounds = [model.prompt_tokens_bound(Request(messages=messages, sampling=sampling)) for messages in asked]
    shortest = min(sum(len(message.content) for message in messages) for messages in asked)
    return max(1, shortest // LONGEST_TOKEN), max(1, sum(bounds) // len(bounds))
