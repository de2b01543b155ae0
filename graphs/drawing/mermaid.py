"""A team as Mermaid text, which GitHub and most editors show as a picture."""

from graphs.drawing.appearance import LOOKS, note, price
from graphs.model import AgentGraph, Node
from graphs.schedule import carried, cycles

_SHAPES = {"agent": ("(", ")"), "tool": ("[[", "]]"), "vote": ("{{", "}}"), "router": ("{", "}")}


def mermaid(graph: AgentGraph) -> str:
    """`graph` as a Mermaid flow chart; dashed arrows are heard in the next round, a thick border marks the output."""
    name = {node.id: f"n{position}" for position, node in enumerate(graph.nodes)}
    lines = ["flowchart LR"]
    boxed = {member for cycle in cycles(graph) for member in cycle}
    for number, cycle in enumerate(cycles(graph), start=1):
        rounds = f"{graph.rounds} round{'s' if graph.rounds != 1 else ''}"
        lines.append(f'    subgraph cycle{number}["{rounds}"]')
        lines += [f"        {name[member]}{_shape(graph.node(member))}" for member in cycle]
        lines.append("    end")
    lines += [f"    {name[node.id]}{_shape(node)}" for node in graph.nodes if node.id not in boxed]
    later = set(carried(graph))
    for channel in graph.channels:
        arrow = "-.->" if channel in later else "-->"
        lines.append(f"    {name[channel.source]} {arrow} {name[channel.target]}")
    for kind, look in LOOKS.items():
        if members := [name[node.id] for node in graph.nodes if node.kind == kind]:
            lines.append(f"    classDef {kind} fill:{look.fill},stroke:{look.line},color:#1c2733")
            lines.append(f"    class {','.join(members)} {kind}")
    if graph.output in name:
        lines.append(f"    style {name[graph.output]} stroke-width:4px")
    return "\n".join(lines) + "\n"


def _shape(node: Node) -> str:
    opening, closing = _SHAPES[node.kind]
    words = [node.id, *([note(node)] if note(node) else [])]
    words += [price(node.price_usd)] if node.price_usd is not None else []
    return f'{opening}"{"<br/>".join(_escaped(word) for word in words)}"{closing}'


def _escaped(text: str) -> str:
    for sign, code in (("#", "#35;"), ('"', "#quot;"), ("<", "#lt;"), (">", "#gt;"), ("\n", " ")):
        text = text.replace(sign, code)
    return text
