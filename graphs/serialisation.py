"""How a team is written down: YAML and JSON files, and networkx graphs; nothing is lost on the way.

For every graph, runnable or not, `from_json(to_json(graph)) == graph` and `from_yaml(to_yaml(graph)) == graph`. What a
file leaves out has its default; `schema_version` is always written, because absent means 1.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graphs import documents
from graphs.errors import InvalidGraph
from graphs.model import AgentGraph
from graphs.validation import channels_land, unique_channels, unique_ids

if TYPE_CHECKING:
    import networkx

MIGRATIONS: tuple[documents.Migration, ...] = ()
"""Lifts a team file from each `schema_version` to the next; version 1 is the first."""


def read(path: Path | str) -> AgentGraph:
    """The team written in a YAML or JSON file.

    Raises:
        InvalidFile: when it is missing, malformed, or not a team; every mistake is listed. Whether the team can run is
            for `graphs.check` to say.
    """
    return documents.read_value(path, AgentGraph, "team", migrations=MIGRATIONS)


def write(graph: AgentGraph, path: Path | str) -> None:
    """Write `graph` to a YAML or JSON file, by suffix.

    Raises:
        InvalidFile: when the suffix is neither, or the file cannot be written.
    """
    documents.write_value(graph, path)


def to_json(graph: AgentGraph) -> str:
    """`graph` as indented JSON."""
    return documents.to_json(graph)


def from_json(text: str, where: str = "team") -> AgentGraph:
    """The graph that JSON `text` describes.

    Raises:
        InvalidFile: when it describes none; `where` is quoted.
    """
    data = documents.parsed(text, where, is_json=True)
    return documents.value_from(data, AgentGraph, where, migrations=MIGRATIONS)


def to_yaml(graph: AgentGraph) -> str:
    """`graph` as YAML."""
    return documents.to_yaml(graph)


def from_yaml(text: str, where: str = "team") -> AgentGraph:
    """The graph that YAML `text` describes.

    Raises:
        InvalidFile: when it describes none; `where` is quoted.
    """
    data = documents.parsed(text, where, is_json=False)
    return documents.value_from(data, AgentGraph, where, migrations=MIGRATIONS)


def to_networkx(graph: AgentGraph) -> "networkx.DiGraph[str]":
    """`graph` as a networkx `DiGraph` of plain data, which `networkx.node_link_data` can write as JSON.

    Node and edge attributes are the fields of the file format; an edge also has `order`, its place among the channels.
    Whatever belongs to the team as a whole is in `.graph`.

    Raises:
        InvalidGraph: when ids or channels are repeated or lead nowhere, which a `DiGraph` cannot hold.
    """
    import networkx

    if lost := [problem for rule in (unique_ids, channels_land, unique_channels) for problem in rule(graph)]:
        raise InvalidGraph(lost)
    plain = documents.document(graph)
    nodes, channels = plain.pop("nodes", []), plain.pop("channels", [])
    drawn: networkx.DiGraph[str] = networkx.DiGraph(**plain)
    for node in nodes:
        drawn.add_node(node.pop("id"), **node)
    for order, channel in enumerate(channels):
        drawn.add_edge(channel.pop("source"), channel.pop("target"), order=order, **channel)
    return drawn


def from_networkx(drawn: "networkx.DiGraph[str]") -> AgentGraph:
    """The agent graph that a networkx graph describes, in the attributes of `to_networkx`.

    A node without a `kind` is an agent; edges without an `order` follow the others in networkx's order.

    Raises:
        InvalidFile: when attributes are missing, unknown or wrong; every mistake is listed.
    """
    nodes = [{"kind": "agent", **fields, "id": node_id} for node_id, fields in drawn.nodes(data=True)]
    edges = sorted(drawn.edges(data=True), key=lambda edge: edge[2].get("order", drawn.number_of_edges()))
    channels = [{**_without(fields, "order"), "source": source, "target": target} for source, target, fields in edges]
    plain = {**drawn.graph, "nodes": nodes, "channels": channels}
    return documents.value_from(plain, AgentGraph, "networkx graph", migrations=MIGRATIONS)


def json_schema() -> dict[str, Any]:
    """The JSON Schema of a team file."""
    schema = AgentGraph.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "team"}


def _without(fields: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {key: held for key, held in fields.items() if key != name}
