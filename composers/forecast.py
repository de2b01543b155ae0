"""What a composition would take, before anything is called."""

from collections.abc import Sequence
from dataclasses import dataclass

from composers.knapsack.assembly import assemble
from composers.knapsack.skills import MOST_SKILLS, from_labels
from composers.problem import Problem
from graphs import AgentNode, Sampling
from orchestra.agents.inventory import Component
from orchestra.agents.prompts import render
from orchestra.execution.forecast import Forecast, Range
from orchestra.execution.nodes import MOST_TOOL_STEPS
from orchestra.models.protocol import Model, Request

MOST_SAMPLES = 3
"""Samples a baseline draws per model call of the team, in the dearest case that is foreseen."""
TOOL_TOKENS = 64
"""Tokens a tool's message is expected to have at most."""
LONGEST_TOKEN = 8
"""Characters per token that prompts are not expected to exceed on average."""


LIKELY_STEPS, LIKELY_SAMPLES = 2, 2
"""Tool steps of an agent, and samples of a baseline per model call of the team, in the case that is expected."""


def foresee(problem: Problem, model: Model) -> Forecast:
    """The forecast of `problem` on `model`, which is not called.

    The least is what the certificate takes when no component needs a trial and no baseline a second sample. The most is
    when every retrieved component (with `try_all`, every component) is tried, agents use all their tool steps, replies
    are as long as they may be, tools say `TOOL_TOKENS` each, and baselines draw `MOST_SAMPLES` per call of the team.
    Expected are `LIKELY_STEPS`, `LIKELY_SAMPLES`, replies of half that length, and nothing measured a second time.
    """
    everything = problem.inventory.components
    bought = everything if problem.composer == "identity" else _affordable(problem)
    rivals = sum(name != problem.composer for name in ("identity", "retrieval"))
    fewest = 3 * len(problem.trial_tasks) + (3 + rivals) * len(problem.heldout_tasks)
    most = _volume(problem, bought, rivals, _Case(MOST_TOOL_STEPS, MOST_SAMPLES, again=True))
    likely = _volume(problem, bought, rivals, _Case(LIKELY_STEPS, LIKELY_SAMPLES, again=False))
    sampling = assemble((), problem.inventory).sampling
    least_prompt, prompt = _prompt_tokens(problem, model, sampling)
    heard = sum(TOOL_TOKENS + len(f"{each.name}{each.description}".encode()) for each in bought)
    read = _ordered(fewest * least_prompt, likely.calls * (prompt + heard // 2), most.calls * (2 * prompt + heard))
    written = _ordered(fewest, likely.calls * sampling.max_tokens // 2, most.calls * sampling.max_tokens)
    tools = sum(each.kind == "tool" for each in bought), sum(each.kind == "tool" for each in everything)
    cash = None
    if model.price is not None:
        ends = zip(
            (read.lower, read.expected, read.upper),
            (written.lower, written.expected, written.upper),
            (fewest, likely.calls, most.calls),
            strict=True,
        )
        cash = _ordered(*(model.price.cost(*end, calls=calls) for *end, calls in ends))
    return Forecast(
        model_calls=_ordered(fewest, likely.calls, most.calls),
        tool_calls=_ordered(0, likely.plays * tools[0], most.plays * tools[1] + most.calls),
        input_tokens=read,
        output_tokens=written,
        list_nano=cash,
        basis="between 1 token and max_tokens: what a search finds is not known before it",
        models=(model.name,),
    )


def _ordered(lower: int, expected: int, upper: int) -> Range:
    return Range(lower, min(max(lower, expected), max(lower, upper)), max(lower, upper))


@dataclass(frozen=True, slots=True)
class _Case:
    """How much is used of what may be used."""

    steps: int
    samples: int
    again: bool
    """Whether the chosen are measured a second time."""


@dataclass(frozen=True, slots=True)
class _Volume:
    calls: int
    plays: int

    def __add__(self, other: "_Volume") -> "_Volume":
        return _Volume(self.calls + other.calls, self.plays + other.plays)


def _volume(problem: Problem, bought: Sequence[Component], rivals: int, case: _Case) -> _Volume:
    """Model calls and plays of trials, baselines and rivals."""
    trial, heldout = len(problem.trial_tasks), len(problem.heldout_tasks)
    everything = problem.inventory.components
    team, own = _calls(bought, problem, case), case.steps if everything else 1
    samples = case.samples * team
    return (
        _trials(problem, len(bought), case)
        + _Volume(trial * (team + 1 + samples + own + samples * own), trial * (3 + 2 * samples))
        + _Volume(heldout * (team + samples + samples * own), heldout * (1 + 2 * samples))
        + _Volume(heldout * rivals * _calls(everything, problem, case), heldout * rivals)
    )


def _trials(problem: Problem, bought: int, case: _Case) -> _Volume:
    """What trials take, those that measure the chosen again included."""
    written = problem.skills_by is not None
    if problem.composer in ("identity", "retrieval", "offline-knapsack"):
        return _Volume(int(written), 0)
    skills = MOST_SKILLS if written else len(from_labels(problem.trial_tasks))
    offered = len(problem.inventory.components)
    pairs = skills * (offered if problem.try_all else min(problem.candidates, offered))
    again = min(pairs, bought * skills) if case.again else 0
    dearest = max(_calls([component], problem, case) for component in problem.inventory.components)
    plays = problem.queries * (pairs + again + 2 * skills)
    return _Volume(problem.queries * ((pairs + again) * dearest + 2 * skills) + written, plays)


def _calls(components: Sequence[Component], problem: Problem, case: _Case) -> int:
    """Model calls of one play of a team with these components."""
    agents = sum(case.steps if each.tools else 1 for each in components if each.kind != "tool")
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
