"""What all drawings share: colours by node kind, and the words on a node."""

from collections.abc import Mapping
from decimal import Decimal
from typing import NamedTuple

from graphs.model import AgentGraph, AgentNode, Node, RouterNode


class Look(NamedTuple):
    """Colours of a node kind, as hexadecimal RGB; dark ink on each fill has a contrast of 7:1 or more."""

    fill: str
    line: str


LOOKS: Mapping[str, Look] = {
    "agent": Look(fill="#e3edfb", line="#2f6db5"),
    "tool": Look(fill="#fdf0d5", line="#b9770e"),
    "vote": Look(fill="#e4f5e6", line="#2e8540"),
    "router": Look(fill="#f3e6f8", line="#8e44ad"),
}
"""By node kind."""

INK, QUIET, WIRE = "#1c2733", "#5f6b7a", "#7b8794"
"""Of names, of what stands beside them, and of channels."""


def price(amount: Decimal) -> str:
    """An equipment price: `$3`, `$0.50`, `$0.0125`."""
    exact = amount.normalize()
    digits = -int(exact.as_tuple().exponent)
    return f"${exact:f}" if digits <= 0 or digits > 2 else f"${exact:.2f}"


def note(node: Node) -> str:
    """What stands under a node's name: its own model and tools; empty when there is nothing to say."""
    parts = []
    if isinstance(node, AgentNode | RouterNode) and node.model is not None:
        parts.append(node.model.rsplit("/", 1)[-1])
    if isinstance(node, AgentNode) and node.tools:
        parts.append("uses " + ", ".join(tool.name for tool in node.tools))
    return " · ".join(parts)


def heading(graph: AgentGraph) -> str:
    """One line about the team: its size, price, rounds and model."""
    prices = [node.price_usd for node in graph.nodes if node.price_usd is not None]
    parts = [f"{len(graph.nodes)} node{'s' if len(graph.nodes) != 1 else ''}"]
    if prices:
        parts.append(f"{price(sum(prices, Decimal()))} of equipment")
    if graph.rounds > 1:
        parts.append(f"cycles run {graph.rounds} rounds")
    if graph.model is not None:
        parts.append(graph.model)
    return " · ".join(parts)
