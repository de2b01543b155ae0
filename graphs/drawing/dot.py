"""A team as DOT text, for Graphviz."""

from graphs.drawing.appearance import INK, LOOKS, QUIET, WIRE, heading, note, price
from graphs.model import AgentGraph, Node
from graphs.schedule import carried, cycles

_SHAPES = {"agent": "box", "tool": "component", "vote": "hexagon", "router": "diamond"}


def dot(graph: AgentGraph) -> str:
    """`graph` as a DOT digraph; dashed edges are heard in the next round, a thick border marks the output."""
    title = _quoted(f"{graph.name}\n{heading(graph)}")
    lines = [
        f"digraph {_quoted(graph.name)} {{",
        f'    graph [rankdir=LR, fontname="Helvetica", fontcolor="{INK}", labelloc=t, label={title}]',
        f'    node [fontname="Helvetica", fontcolor="{INK}", style="filled,rounded"]',
        f'    edge [color="{WIRE}", fontname="Helvetica"]',
    ]
    for number, cycle in enumerate(cycles(graph), start=1):
        rounds = f"{graph.rounds} round{'s' if graph.rounds != 1 else ''}"
        members = "; ".join(_quoted(member) for member in cycle)
        lines.append(f"    subgraph cluster_{number} {{")
        lines.append(f'        label="{rounds}"; fontcolor="{QUIET}"; style="rounded,dashed"; color="{QUIET}"')
        lines.append(f"        {members}")
        lines.append("    }")
    lines += [f"    {_quoted(node.id)} [{_attributes(node, graph)}]" for node in graph.nodes]
    later = set(carried(graph))
    for channel in graph.channels:
        drawn = " [style=dashed, constraint=false]" if channel in later else ""
        lines.append(f"    {_quoted(channel.source)} -> {_quoted(channel.target)}{drawn}")
    return "\n".join([*lines, "}"]) + "\n"


def _attributes(node: Node, graph: AgentGraph) -> str:
    look = LOOKS[node.kind]
    words = [node.id, *([note(node)] if note(node) else [])]
    words += [price(node.price_usd)] if node.price_usd is not None else []
    style = "filled,rounded" if node.kind == "agent" else "filled"
    width = ", penwidth=3" if node.id == graph.output else ""
    shape = _SHAPES[node.kind]
    label = _quoted("\n".join(words))
    return f'label={label}, shape={shape}, style="{style}", fillcolor="{look.fill}", color="{look.line}"{width}'


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
