"""The inventory: every component a composer may choose from, with its price.

An inventory file is data. Reading it imports nothing; a component's code is imported in a worker process when it is
first called (`orchestra.agents.tools`).
"""

from pathlib import Path
from typing import Literal

from pydantic import Field

from graphs import Sampling, Usd
from graphs.model import Value


class Component(Value):
    """Something a team can be equipped with."""

    name: str = Field(min_length=1, pattern=r"^[A-Za-z0-9_.\-]+$")
    """Unique in its inventory."""
    kind: Literal["tool", "agent", "adapter"]
    description: str = Field(min_length=1)
    """What it does; retrieval compares it with the skills a task needs."""
    price_usd: Usd
    """Equipment price: what having it in the team costs, whatever it is used for."""
    latency_seconds: float | None = Field(default=None, ge=0)
    """Expected time of one call; `None` means not stated."""
    categories: tuple[str, ...] = ()
    call: str | None = None
    """Of a tool: `module:function` beside the inventory file, an installed plug-in's name, or `mcp:server/tool` of an
    MCP server that the file `mcp.json` beside the inventory lists."""
    timeout_seconds: float = Field(default=10.0, gt=0)
    """Of a tool: its worker is killed after this long."""
    memory_mib: int = Field(default=512, ge=64)
    """Of a tool: address space its worker may grow by, in MiB."""
    idempotent: bool = True
    """Of a tool: whether calling it twice is harmless."""
    prompt: str | None = None
    """Of an agent: its system prompt. An adapter with a prompt is an agent of its own; without one, the agent that
    answers for the team runs with it."""
    model: str | None = None
    """Of an agent: its model; `None` takes the team's."""
    tools: tuple[str, ...] = ()
    """Of an agent: names of tool components it may call."""
    sampling: Sampling | None = None
    """Of an agent: `None` takes the team's."""
    base: str | None = None
    """Of an adapter: the model it was trained over, `local/NAME` or `vllm/NAME@URL`; `None` takes the team's."""
    path: str | None = None
    """Of an adapter: its folder, beside the inventory file; `None` looks for its name in the user's folder."""
    version: str | None = None
    """Of an adapter: the one meant; `None` takes the newest, or the one at `path`."""
    value: float | None = None
    """Of an adapter: what it was measured to be worth; `None` takes its card's in a search. Of several for one agent
    the most valuable is its own."""


class Inventory(Value):
    """A priced list of components."""

    schema_version: int = 1
    name: str = "inventory"
    components: tuple[Component, ...]
    path: Path | None = Field(default=None, exclude=True)
    """File it was read from; `None` means it was made in Python. Its folder is where tools' code is looked up."""
