"""What a team is: agents, tools, votes and routers, who hears whom, and when each of them speaks.

Everything here is loaded on first use; `import graphs` itself loads nothing. What each module alone decides:

- `graphs.model`: what a team consists of. Frozen values, no behaviour.
- `graphs.validation`: whether a team can run, and everything that stands in its way.
- `graphs.schedule`: who speaks when, and how often.
- `graphs.edits`: how one team becomes another.
- `graphs.motifs`: the well-known shapes.
- `graphs.identity`: when two teams are the same.
- `graphs.documents`: how a file becomes a value, and how its mistakes are told.
- `graphs.serialisation`: how a team is written down.
- `graphs.drawing`: how a team looks.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from graphs.errors import GraphError, InvalidEdit, InvalidFile, InvalidGraph, Problem
    from graphs.identity import content_hash
    from graphs.model import (
        PERSON,
        AgentGraph,
        AgentNode,
        Channel,
        Node,
        Provenance,
        RouterNode,
        Sampling,
        Tool,
        ToolNode,
        Usd,
        Value,
        VoteNode,
    )
    from graphs.motifs import MOTIFS
    from graphs.schedule import Progress
    from graphs.serialisation import read, write
    from graphs.validation import RULES, check, problems

_HOME = {
    "errors": ("GraphError", "InvalidEdit", "InvalidFile", "InvalidGraph", "Problem"),
    "identity": ("content_hash",),
    "model": (
        "PERSON",
        "AgentGraph",
        "AgentNode",
        "Channel",
        "Node",
        "Provenance",
        "RouterNode",
        "Sampling",
        "Tool",
        "ToolNode",
        "Usd",
        "Value",
        "VoteNode",
    ),
    "motifs": ("MOTIFS",),
    "schedule": ("Progress",),
    "serialisation": ("read", "write"),
    "validation": ("RULES", "check", "problems"),
}

__all__ = [
    "MOTIFS",
    "PERSON",
    "RULES",
    "AgentGraph",
    "AgentNode",
    "Channel",
    "GraphError",
    "InvalidEdit",
    "InvalidFile",
    "InvalidGraph",
    "Node",
    "Problem",
    "Progress",
    "Provenance",
    "RouterNode",
    "Sampling",
    "Tool",
    "ToolNode",
    "Usd",
    "Value",
    "VoteNode",
    "check",
    "content_hash",
    "problems",
    "read",
    "write",
]

if not TYPE_CHECKING:  # a type checker must still notice a name that does not exist

    def __getattr__(name):
        for module, names in _HOME.items():
            if name in names:
                value = globals()[name] = getattr(import_module(f"graphs.{module}"), name)
                return value
        raise AttributeError(f"module 'graphs' has no attribute {name!r}")

    def __dir__():
        return __all__
