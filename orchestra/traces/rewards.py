"""What facts say was earned: by a turn, by a seat, and by a seat's move, which is its last turn's up to then."""

from collections.abc import Mapping, Sequence

from orchestra.traces import names
from orchestra.traces.episode import Turn
from orchestra.traces.records import Fact


def rewards_of(facts: Sequence[Fact]) -> dict[str, float]:
    """Rewards by span id, by `seat <number>` where a fact names the seat, and `seat <number> step <number>`."""
    rewards: dict[str, float] = {}
    for fact in facts:
        value = fact.value
        if fact.name != names.FACT_REWARD:
            continue
        if isinstance(value, dict):
            step = "" if value.get("step") is None else f" step {value['step']}"
            rewards[f"seat {value.get('seat', 0)}{step}"] = float(value["reward"])
        elif isinstance(value, int | float):
            rewards[fact.span_id or "seat 0"] = float(value)
    return rewards


def rewarded(seat: int, turns: Sequence[Turn], rewards: Mapping[str, float]) -> tuple[Turn, ...]:
    """Turns of one node with what its seat earned by its moves: each on the last turn up to the move."""
    prefix = f"seat {seat} step "
    earned = {int(name.removeprefix(prefix)): reward for name, reward in rewards.items() if name.startswith(prefix)}
    if not earned:
        return tuple(turns)
    found = list(turns)
    for step, reward in sorted(earned.items()):
        until = [at for at, turn in enumerate(found) if turn.step is not None and turn.step <= step]
        if until:
            turn = found[until[-1]]
            found[until[-1]] = turn.model_copy(update={"reward": (turn.reward or 0.0) + reward})
    return tuple(found)
