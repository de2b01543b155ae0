"""What a team is: `AgentGraph`, its nodes and its channels, as frozen values.

An agent graph says *who* may speak and *who hears whom*; it never says how it is run. Every composer writes this
record, the runtime reads it, and an episode quotes its content hash. Values are frozen and refuse unknown keys;
change returns a new value (`graphs.edits`), and a graph may be written down although it cannot run:
`graphs.validation` says why not.
"""

from decimal import Decimal
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer

SCHEMA_VERSION = 1
"""Version of the team file this module writes."""


def _plain_number(amount: Decimal) -> int | float:
    return int(amount) if amount == amount.to_integral_value() else float(amount)


Usd = Annotated[Decimal, Field(ge=0), PlainSerializer(_plain_number, return_type=int | float, when_used="json")]
"""A price in USD, exact; written to files as a plain number."""


PERSON = "person"
"""A tool whose `call` is this asks a person: the run pauses until somebody answers."""


class Value(BaseModel):
    """A frozen record that refuses keys it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Sampling(Value):
    """How tokens are drawn. The defaults are greedy."""

    temperature: float = Field(default=0.0, ge=0.0)
    """0 takes the most probable token; otherwise logits are divided by it before `top_k` and `top_p`."""
    top_p: float = Field(default=1.0, gt=0.0, le=1.0)
    """Smallest set of tokens whose probability reaches this; 1 keeps all."""
    top_k: int = Field(default=0, ge=0)
    """Number of most probable tokens kept; 0 keeps all."""
    max_tokens: int = Field(default=256, ge=1)
    """Most tokens of one reply; the ledger reserves this many."""
    stop: tuple[str, ...] = ()
    """Strings that end a reply; the string itself is not part of the reply."""


class Tool(Value):
    """A Python function an agent may call, or a tool node is."""

    name: str = Field(min_length=1)
    """Name the model calls it by; unique within its agent."""
    call: str = Field(min_length=1)
    """`module:function`, looked up beside the inventory file first, the name of an installed plug-in, or `person`."""
    description: str = ""
    """What it does, in a sentence a model can read."""
    takes: Literal["text", "messages"] = Field(default="text", exclude_if=lambda takes: takes == "text")
    """`messages`: a node function of LangGraph, called with `{"messages": [...]}`, the task and everything said so far;
    only a tool node or a router may have one."""
    timeout_seconds: float = Field(default=10.0, gt=0)
    """Its worker process is killed after this long."""
    memory_mib: int = Field(default=512, ge=64)
    """Address space its worker may grow by, in MiB, before the call fails."""
    idempotent: bool = True
    """Whether calling it again with the same input is harmless; others are not re-run on resume without being asked."""


class _Node(Value):
    id: str = Field(min_length=1, pattern=r"^[A-Za-z0-9_.\-]+$")
    """Name of the node, unique in its graph; messages are signed with it."""
    component: str | None = None
    """Inventory component this node was made from; `None` means written by hand."""
    price_usd: Usd | None = None
    """Equipment price of that component; `None` means it has none."""


class AgentNode(_Node):
    """A role played by a language model."""

    kind: Literal["agent"] = "agent"
    role: str = ""
    """System prompt; empty means none is sent."""
    layout: str = "{task}\n\n{messages}"
    """User prompt: `{task}` is the task's text, `{messages}` what arrived, each under its sender's name."""
    model: str | None = None
    """Model name; `None` takes the team's."""
    tools: tuple[Tool, ...] = ()
    """Functions the model may call."""
    sampling: Sampling | None = None
    """`None` takes the team's."""
    memory: Literal["none", "transcript"] = "none"
    """`transcript`: it sees its own earlier turns across rounds and environment steps."""


class ToolNode(_Node):
    """A function that reads the task (or what arrives) and adds a message; no model is called."""

    kind: Literal["tool"] = "tool"
    tool: Tool
    """The function: `str -> str | None`, where `None` means it has nothing to say."""


class VoteNode(_Node):
    """Counts the answers that arrive; no model is called."""

    kind: Literal["vote"] = "vote"
    extract: Literal["whole", "last-line", "last-number", "pattern"] = "whole"
    """What of a reply counts as its answer; compared without regard to case and surrounding white space."""
    pattern: str | None = None
    """For `extract: pattern`, a regular expression; its first group, else the whole match, is the answer."""
    weights: dict[str, float] = Field(default_factory=dict)
    """Weight by sender; absent means 1. Ties go to the answer heard first, in channel order."""


class RouterNode(_Node):
    """Chooses which of its channels fire."""

    kind: Literal["router"] = "router"
    call: Tool | None = None
    """A function `str -> str`: target ids separated by commas, or nothing to end there; `None` asks the model."""
    role: str = ""
    """System prompt of a router that asks a model; it is shown the targets and answers with one id."""
    model: str | None = None
    """Model name; `None` takes the team's."""
    sampling: Sampling | None = None
    """`None` takes the team's."""
    default: tuple[str, ...] = ()
    """Targets that fire when the answer names none of its targets; empty makes that an error of the episode."""


Node = Annotated[AgentNode | ToolNode | VoteNode | RouterNode, Field(discriminator="kind")]


class Channel(Value):
    """Carries the last reply of `source` to `target`."""

    source: str
    target: str
    next_round: bool = False
    """Inside a cycle: what is said in one round is heard in the next, so the target does not wait for it."""


class Provenance(Value):
    """Where a graph came from; not part of its content hash."""

    composer: str
    """Plug-in name of the composer."""
    seed: int | None = None
    budget_usd: Usd | None = None
    """Equipment budget it was composed under."""
    price_usd: Usd | None = None
    """Equipment price of the chosen components together."""
    run_id: str | None = None
    """The search that made it, as `orchestra traces show` finds it."""
    inventory: str | None = None
    """Inventory file, relative to the team file where both lie in one tree; its folder holds the tools' code."""


class AgentGraph(Value):
    """A team: nodes, channels and the node that speaks for all of them.

    Nodes without an incoming channel hear the task. Agents always see the task as well as what arrives.
    """

    schema_version: int = SCHEMA_VERSION
    name: str = "team"
    model: str | None = None
    """Model of every agent that names none."""
    sampling: Sampling = Sampling()
    """Sampling of every agent that names none."""
    nodes: tuple[Node, ...] = ()
    channels: tuple[Channel, ...] = ()
    output: str
    """Id of the node whose last reply is the team's."""
    rounds: int = Field(default=1, ge=1)
    """How often a cycle (a strongly connected component) runs, unless a router in it leaves early."""
    provenance: Provenance | None = None
    """`None` means written by hand."""

    def node(self, node_id: str) -> "AgentNode | ToolNode | VoteNode | RouterNode":
        """The node called `node_id`.

        Raises:
            KeyError: when there is none.
        """
        for node in self.nodes:
            if node.id == node_id:
                return node
        raise KeyError(node_id)
