"""How much a team would take: a forecast from its structure, its prompts, and what is known of its replies.

What is known beforehand is counted: the tokens of each agent's prompt as far as the task fills it, by its model's own
tokenizer. What is not known is drawn: the schedule is played many times without a model (`graphs.schedule`), and each
reply, each tool's answer, each router's choice and each use of a tool gets a length or a target by chance.

- *Nothing measured*: the ends are what the structure allows. At most, every channel fires, every cycle runs all its
  rounds, every agent uses all its tool steps and says `max_tokens`; at least, what no router can turn away runs once
  and says one token. The expected value takes every length as equally likely.
- *Measured* (the store has replies of this team, or else of its models): 95 % of the draws.

Both are of a run in which nothing fails; of a model that is asked outside this machine, `RETRIED` of the calls are
taken to be paid twice at most.

Source: the draws are those of conformal prediction, Vovk, Gammerman and Shafer 2005, "Algorithmic Learning in a Random
    World", chapter 2: the next of n+1 exchangeable values is equally likely to fall between any two of the n seen.
Deviation: the gaps are weighed anew for every simulation (the Bayesian bootstrap, Rubin 1981), so that few measurements
    make a wide interval also for a sum of many. The replies of one play are drawn at one rank: they are long together
    or short together, because they are about one task, and as many as they are they count as one measurement of it.
"""

import random
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from graphs import AgentGraph, AgentNode, RouterNode, ToolNode, VoteNode
from graphs.certainty import surely_run
from graphs.identity import content_hash
from graphs.schedule import Progress
from orchestra.execution.allowances import Allowances
from orchestra.execution.forecast import Forecast, Range
from orchestra.execution.measured import Measured
from orchestra.execution.nodes import MOST_CALLS_AT_ONCE, MOST_TOOL_STEPS
from orchestra.execution.seats import Seat, seated
from orchestra.execution.teams import tools_of
from orchestra.models.protocol import Model

SIMULATIONS = 200
PLAYS = 16
"""Plays drawn in one simulation; of more, these stand for the others."""
TOOL_TOKENS = (0, 32, 256)
"""Of a tool's answer, where it is not known: least, likely, most."""
RETRIED = 0.05
REREAD = 1.25
"""Most tokens that a token of a reply is taken to become where another prompt quotes it."""


@dataclass(slots=True)
class _Count:
    """What the turns of one node came to in one play, its prompts apart."""

    calls: float = 0.0
    tool_calls: float = 0.0
    heard_tokens: float = 0.0
    """Prompt tokens beyond those that are known."""
    output_tokens: float = 0.0

    def add(self, other: "_Count", factor: float = 1.0) -> None:
        self.calls += factor * other.calls
        self.tool_calls += factor * other.tool_calls
        self.heard_tokens += factor * other.heard_tokens
        self.output_tokens += factor * other.output_tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class _Draw:
    """Where the unknown comes from in one simulation."""

    reply: Callable[[Seat], float]
    begin: Callable[[], None]
    """Called before each play."""
    steps: Callable[[Seat], int]
    parallel: Callable[[Seat], int]
    tool: Callable[[], float]
    choose: Callable[[Seat], tuple[str, ...] | None]
    """Targets of a router; `None` fires all."""
    reread: float
    """Tokens that a token of a reply becomes where another prompt quotes it."""
    at_most: bool = False


def estimate(
    graph: AgentGraph,
    texts: Sequence[str],
    model_of: Callable[[str], Model],
    *,
    default_model: str,
    samples: int = 1,
    measured: Measured | None = None,
    allowances: Allowances | None = None,
    seed: int = 0,
) -> Forecast:
    """The forecast of `graph` played `samples` times at each of the tasks `texts`; no model is called.

    Args:
        graph: passes `graphs.check`.
        texts: the tasks.
        model_of: opens a model by name.
        default_model: of agents that name none, in teams that name none.
        samples: plays per task.
        measured: what earlier runs left; `None` means nothing.
        allowances: prices of tools; `None` means that they cost nothing.
        seed: of what is drawn; the same forecast for the same question.
    """
    seats = seated(graph, texts, model_of, default_model, (allowances or Allowances()).tool_nano)
    plays = len(texts) * samples
    most = _weighed(seats, _played(graph, seats, _all), plays, end=2)
    least = _weighed(seats, _least(graph, seats), plays, end=0)
    rng = random.Random(seed)
    drawn = []
    for _ in range(SIMULATIONS):
        draw = _by_chance(graph, seats, measured, rng)
        some = min(plays, PLAYS)
        counts = {node_id: _Count() for node_id in seats}
        for _ in range(some):
            for node_id, count in _played(graph, seats, draw).items():
                counts[node_id].add(count, 1 / some)
        drawn.append(_weighed(seats, counts, plays, end=1))
    basis, known = _basis(graph, seats, measured)
    names = sorted({seat.model.name for seat in seats.values() if seat.model is not None})
    ranges = [_range(least[i], [one[i] for one in drawn], most[i], known=known) for i in range(5)]
    priced = all(seat.model is None or seat.model.price is not None for seat in seats.values())
    return Forecast(
        model_calls=ranges[0],
        tool_calls=ranges[1],
        input_tokens=ranges[2],
        output_tokens=ranges[3],
        list_nano=ranges[4] if priced else None,
        basis=basis,
        models=tuple(names),
    )


def _range(least: float, drawn: Sequence[float], most: float, *, known: bool) -> Range:
    """The middle 95 % of what was drawn where replies are known, else all there can be."""
    ordered = sorted(min(max(value, least), most) for value in drawn)
    expected = sum(ordered) / len(ordered)
    tail = len(ordered) // 40
    lower, upper = (ordered[tail], ordered[-1 - tail]) if known else (least, most)
    low, high = int(lower), -int(-upper // 1)
    return Range(low, min(max(round(expected), low), high), high)


def _weighed(
    seats: Mapping[str, Seat], counts: Mapping[str, _Count], plays: int, *, end: int
) -> tuple[float, float, float, float, float]:
    """Model calls, tool calls, prompt tokens, reply tokens and nano-USD of `plays` plays like `counts`."""
    calls = tool_calls = read = written = nano = 0.0
    for node_id, count in counts.items():
        seat = seats[node_id]
        tool_calls += plays * count.tool_calls
        nano += plays * count.tool_calls * seat.tool_nano[end]
        if seat.model is None:
            continue
        known = sum(prompt[end] for prompt in seat.prompts) / len(seat.prompts)
        tokens = plays * (count.calls * known + count.heard_tokens), plays * count.output_tokens
        calls += plays * count.calls
        read += tokens[0]
        written += tokens[1]
        if seat.model.price is not None:
            cost = seat.model.price.cost(round(tokens[0]), round(tokens[1]), calls=max(1, round(plays * count.calls)))
            if end == 2:  # each call is rounded up, and some are paid twice
                cost = round(cost * (1 + RETRIED * seat.model.external)) + round(plays * count.calls)
            nano += cost
    return calls, tool_calls, read, written, nano


def _played(graph: AgentGraph, seats: Mapping[str, Seat], draw: _Draw) -> dict[str, _Count]:
    """One play without a model."""
    draw.begin()
    progress, said = Progress(graph), dict[tuple[str, int], float]()
    counts = {node_id: _Count() for node_id in seats}
    remembered = dict[str, float]()
    due = list(progress.start())
    while due:
        node_id = due.pop()
        seat, round_number = seats[node_id], progress.round_of(node_id)
        inbox = progress.inbox_rounds(node_id)
        heard = sum(draw.reread * said.get(spoken, 0.0) + seats[spoken[0]].signature[draw.at_most] for spoken in inbox)
        heard += seat.opening[draw.at_most] if inbox else 0.0
        longest = max((said.get(spoken, 0.0) for spoken in inbox), default=0.0)
        fired = None
        if seat.model is not None:
            words = _asked(seat, heard, draw, counts[node_id], remembered)
        elif isinstance(seat.node, VoteNode):
            words = longest
        else:
            words = draw.tool()
            counts[node_id].tool_calls += 1
        if isinstance(seat.node, RouterNode):
            fired = draw.choose(seat)
            words = heard or seat.task[draw.at_most]  # it passes on what it was given
        said[node_id, round_number] = words
        due.extend(progress.deliver(node_id, fired))
    return counts


def _asked(seat: Seat, heard: float, draw: _Draw, count: _Count, remembered: dict[str, float]) -> float:
    """One turn of a node that asks a model: all its tool steps; the length of its last reply."""
    known = sum(prompt[1] for prompt in seat.prompts) / len(seat.prompts)
    keeps = isinstance(seat.node, AgentNode) and seat.node.memory == "transcript"
    before = remembered.get(seat.node.id, 0.0) if keeps else 0.0
    grown = before + (heard if seat.hears else 0.0)
    steps = draw.steps(seat) if seat.tools else 1
    reply = 0.0
    for step in range(steps):
        reply = draw.reply(seat)
        count.calls += 1
        count.heard_tokens += grown
        count.output_tokens += reply
        grown += reply + seat.exchange
        if seat.tools and (step + 1 < steps or steps == MOST_TOOL_STEPS):
            for _ in range(draw.parallel(seat)):
                count.tool_calls += 1
                grown += draw.tool() + (seat.exchange if draw.at_most else 0.0)
    if keeps:
        remembered[seat.node.id] = grown + known
    return reply


_all = _Draw(
    reply=lambda seat: seat.max_tokens,
    begin=lambda: None,
    steps=lambda seat: MOST_TOOL_STEPS,
    parallel=lambda seat: 1 if seat.by_text else MOST_CALLS_AT_ONCE,
    tool=lambda: TOOL_TOKENS[2],
    choose=lambda seat: None,
    reread=REREAD,
    at_most=True,
)


def _least(graph: AgentGraph, seats: Mapping[str, Seat]) -> dict[str, _Count]:
    """What runs whatever routers choose, with the shortest of everything."""
    counts = {}
    for node_id, runs in surely_run(graph).items():
        seat = seats[node_id]
        tool = runs * isinstance(seat.node, ToolNode | RouterNode) if seat.model is None else 0
        counts[node_id] = _Count(runs if seat.model else 0, tool, 0.0, runs if seat.model else 0)
    return counts


def _by_chance(graph: AgentGraph, seats: Mapping[str, Seat], measured: Measured | None, rng: random.Random) -> _Draw:
    """One simulation's world: what replies are like in it, and what routers prefer."""
    team, known = content_hash(graph), measured or Measured()
    lengths, steps, taste = {}, {}, {}
    ranks: list[float] = []
    answers, width = known.answers(tools_of(graph)), rng.uniform(2.0, 6.0)
    for node_id, seat in seats.items():
        if seat.model is not None:
            own, _ = known.replies(team, node_id, seat.model.name, rng)
            lengths[node_id] = _world(sorted(min(value, seat.max_tokens) for value in own), 1, seat.max_tokens, rng)
            used = known.steps(team, node_id) or (1, 2, 2, 3)
            steps[node_id] = _world(sorted(used), 1, MOST_TOOL_STEPS, rng)
        if isinstance(seat.node, RouterNode):
            taste[node_id] = [rng.expovariate(1.0) for _ in seat.targets]

    def choose(seat: Seat) -> tuple[str, ...] | None:
        if not seat.targets:
            return None
        return tuple(rng.choices(seat.targets, taste[seat.node.id]))

    return _Draw(
        reply=lambda seat: lengths[seat.node.id](ranks[-1]),
        begin=lambda: ranks.append(rng.random()),
        steps=lambda seat: round(steps[seat.node.id]()),
        parallel=lambda seat: 1,
        tool=_world(sorted(min(size / width, TOOL_TOKENS[2]) for size in answers), 0, TOOL_TOKENS[2], rng)
        if answers
        else lambda: rng.triangular(TOOL_TOKENS[0], TOOL_TOKENS[2], TOOL_TOKENS[1]),
        choose=choose,
        reread=rng.uniform(0.9, 1.1),
    )


def _world(seen: Sequence[float], low: float, high: float, rng: random.Random) -> Callable[..., float]:
    """Draws the next value after `seen`, all between `low` and `high`: any gap between two of them, weighed anew."""
    edges = [low, *seen, high]
    shares, total = [], 0.0
    for _ in range(len(edges) - 1):
        total += rng.expovariate(1.0)
        shares.append(total)

    def value(rank: float | None = None) -> float:
        gap = bisect_left(shares, (rng.random() if rank is None else rank) * total)
        return rng.uniform(edges[gap], edges[gap + 1])

    return value


def _basis(graph: AgentGraph, seats: Mapping[str, Seat], measured: Measured | None) -> tuple[str, bool]:
    """In words, what reply lengths were taken from, and whether all of them were measured."""
    team, rng = content_hash(graph), random.Random(0)
    found = [
        (measured or Measured()).replies(team, node_id, seat.model.name, rng)
        for node_id, seat in seats.items()
        if seat.model is not None
    ]
    if not found:
        return "there are none", True
    kinds = {kind for _, kind in found}
    if "nothing" in kinds:
        return "between 1 token and max_tokens: none was measured", False
    count = sum(len(values) for values, _ in found)
    return f"{count} replies of {'this team' if kinds == {'team'} else 'its models'} in the store", True
