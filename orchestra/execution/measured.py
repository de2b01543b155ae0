"""How long replies were and how often tools were used, in the runs that ended last."""

import random
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from graphs import Tool
from orchestra.traces import names
from orchestra.traces.store import Store
from orchestra.traces.store.recent import recent_spans

RECENT = 3_000
"""Spans that are looked at: enough for hundreds of replies, and read in a few hundredths of a second."""
ENOUGH = 5
"""Replies of a node from which on its own are taken."""

Source = Literal["team", "model", "nothing"]


@dataclass(slots=True)
class Measured:
    """Replies in tokens, and calls per turn, by the node that took it."""

    by_node: dict[tuple[str, str], list[int]] = field(default_factory=dict)
    """Reply tokens, by team hash and node."""
    turns: dict[tuple[str, str], list[int]] = field(default_factory=dict)
    """Model calls of a turn, by team hash and node."""
    by_model: dict[str, list[list[int]]] = field(default_factory=dict)
    """Reply tokens by model, and there by node: nodes differ more than the replies of one."""

    by_tool: dict[str, list[int]] = field(default_factory=dict)
    """Bytes of a tool's answers, by its name."""

    def answers(self, tools: Sequence[Tool]) -> Sequence[int]:
        """Bytes of what these tools answered."""
        found = [size for name in sorted({tool.name for tool in tools}) for size in self.by_tool.get(name, ())]
        return found if len(found) >= ENOUGH else ()

    def replies(self, team: str, node_id: str, model: str, rng: random.Random) -> tuple[Sequence[int], Source]:
        """Reply lengths that a node's next may be like: its own, else those of some node with the same model."""
        own = self.by_node.get((team, node_id), ())
        if len(own) >= ENOUGH:
            return own, "team"
        likely = [lengths for lengths in self.by_model.get(model, ()) if len(lengths) >= ENOUGH]
        return (rng.choice(likely), "model") if likely else ((), "nothing")

    def steps(self, team: str, node_id: str) -> Sequence[int]:
        """Model calls of the node's earlier turns."""
        own = self.turns.get((team, node_id), ())
        return own if len(own) >= ENOUGH else ()


def measured(store: Store) -> Measured:
    """What the last runs in `store` tell."""
    spans = recent_spans(store, RECENT)
    parents = {(span.run_id, span.span_id): span for span in spans}
    found, calls = Measured(), Counter[tuple[str, str, str]]()
    nodes: dict[tuple[str, str, str], list[int]] = defaultdict(list)
    for span in spans:
        if span.attributes.get(names.OPERATION_NAME) != names.CHAT or names.OUTPUT_TOKENS not in span.attributes:
            continue
        turn = parents.get((span.run_id, span.parent_id or ""))
        play = None if turn is None else parents.get((turn.run_id, turn.parent_id or ""))
        if turn is None or play is None or names.TEAM_HASH not in play.attributes:
            continue  # its play has not ended, or lies further back
        team, node_id = str(play.attributes[names.TEAM_HASH]), str(turn.attributes.get(names.NODE))
        model = str(span.attributes.get(names.REQUEST_MODEL))
        nodes[team, node_id, model].append(_number(span.attributes[names.OUTPUT_TOKENS]))
        calls[team, node_id, f"{turn.run_id}/{turn.span_id}"] += 1
    for span in spans:
        said = span.attributes.get(names.TOOL_CALL_RESULT)
        if span.attributes.get(names.OPERATION_NAME) == names.EXECUTE_TOOL and said is not None:
            found.by_tool.setdefault(str(span.attributes.get(names.TOOL_NAME)), []).append(_size(store, str(said)))
    for (team, node_id, model), lengths in nodes.items():
        found.by_node.setdefault((team, node_id), []).extend(lengths)
        found.by_model.setdefault(model, []).append(lengths)
    for (team, node_id, _), count in calls.items():
        found.turns.setdefault((team, node_id), []).append(count)
    return found


def _size(store: Store, digest: str) -> int:
    try:
        said = store.blob_value(digest)
    except KeyError:  # pruned since
        return 0
    return len(said.encode("utf-8", "surrogatepass")) if isinstance(said, str) else 0


def _number(value: object) -> int:
    return int(value) if isinstance(value, int | float) else 0
