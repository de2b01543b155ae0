"""What is known of a team's prompts before anybody has spoken: their tokens, by each model's own tokenizer."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from graphs import AgentGraph, AgentNode, RouterNode, Tool, ToolNode
from graphs.model import Node
from orchestra.agents.prompts import render
from orchestra.agents.protocol import instructions
from orchestra.models.protocol import Message, Model, Request, ToolSchema

PROMPTS = 100
"""Tasks whose prompts are counted; of more, these stand for the others."""
BYTES_PER_TOKEN = (2.0, 4.0, 8.0)
"""Of text, where the tokenizer is not at hand: least, likely, most."""


@dataclass(slots=True)
class Seat:
    """What is known of a node before anything is said."""

    node: Node
    model: Model | None = None
    max_tokens: int = 0
    by_text: bool = False
    prompts: list[tuple[float, float, float]] = field(default_factory=list)
    """Tokens of its prompt by task, before anything is heard: least, likely, most."""
    signature: tuple[float, float] = (0.0, 0.0)
    """Tokens of its name over a message: likely, most."""
    opening: tuple[float, float] = (0.0, 0.0)
    """Tokens that the first message it hears adds beside its text: likely, most."""
    exchange: float = 0.0
    """Tokens of the marks around a reply of its own and the answer to it."""
    hears: bool = True
    tool_nano: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Price of a call of one of its tools: least, likely, most."""
    targets: tuple[str, ...] = ()
    task: tuple[float, float] = (0.0, 0.0)
    """Tokens of the task's text alone: likely, most."""

    @property
    def tools(self) -> int:
        """How many functions it may call."""
        return len(self.node.tools) if isinstance(self.node, AgentNode) else 0


def seated(
    graph: AgentGraph,
    texts: Sequence[str],
    model_of: Callable[[str], Model],
    default_model: str,
    tool_nano: Mapping[str, int],
) -> dict[str, Seat]:
    """Every node of `graph`, with its prompts at the tasks `texts`; of many tasks, some stand for all."""
    asked = texts if len(texts) <= PROMPTS else [texts[i * len(texts) // PROMPTS] for i in range(PROMPTS)]
    seats = {}
    for node in graph.nodes:
        seat = Seat(node, signature=(len(node.id.encode()) / BYTES_PER_TOKEN[1] + 2, len(node.id.encode()) + 6))
        prices = [tool_nano.get(tool.name, 0) for tool in _tools(node)] or [0]
        seat.tool_nano = min(prices), sum(prices) / len(prices), max(prices)
        size = max(len(text.encode()) for text in asked) if asked else 0
        seat.task = size / BYTES_PER_TOKEN[1], size
        seat.targets = tuple(channel.target for channel in graph.channels if channel.source == node.id)
        if isinstance(node, AgentNode) or (isinstance(node, RouterNode) and node.call is None):
            seat.model = model_of(node.model or graph.model or default_model)
            seat.max_tokens = (node.sampling or graph.sampling).max_tokens
            seat.by_text = isinstance(node, AgentNode) and bool(node.tools) and not seat.model.capabilities.tools
            seat.hears = not isinstance(node, AgentNode) or "{messages}" in node.layout
            seat.prompts = [_prompt(seat, text) for text in asked]
            _measure_marks(seat, asked)
        else:
            seat.prompts = [_tokens(text) for text in asked]
        seats[node.id] = seat
    return seats


def _tools(node: Node) -> tuple[Tool, ...]:
    if isinstance(node, AgentNode):
        return node.tools
    if isinstance(node, ToolNode):
        return (node.tool,)
    return (node.call,) if isinstance(node, RouterNode) and node.call is not None else ()


def _prompt(seat: Seat, text: str) -> tuple[float, float, float]:
    """Tokens of what a node is asked with before anybody has spoken."""
    node, model = seat.node, seat.model
    assert model is not None, "only nodes that ask a model have a prompt"
    offered: tuple[ToolSchema, ...] = ()
    if isinstance(node, AgentNode):
        messages = list(render(node, text, ()))
        if seat.by_text:
            messages.insert(0, Message(role="system", content=instructions(node.tools)))
        else:
            offered = tuple(ToolSchema(name=tool.name, description=tool.description) for tool in node.tools)
        shortest = messages
    else:
        assert isinstance(node, RouterNode), "agents and routers ask models"
        system = [Message(role="system", content=node.role)] if node.role else []
        choice = f"\n\nAnswer with one of: {', '.join(seat.targets)}"
        messages = [*system, Message(role="user", content=text + choice)]
        shortest = [*system, Message(role="user", content=choice)]  # who hears somebody is not shown the task
    bound = model.prompt_tokens_bound(Request(messages=tuple(messages), tools=offered))
    if model.capabilities.token_ids:
        least = bound if shortest is messages else model.prompt_tokens_bound(Request(messages=tuple(shortest)))
        return least, bound, bound
    characters = sum(len(message.content.encode()) for message in messages)
    fewest = sum(len(message.content.encode()) for message in shortest)
    return fewest / BYTES_PER_TOKEN[2], min(bound, 4 * len(messages) + characters / BYTES_PER_TOKEN[1]), bound


def _measure_marks(seat: Seat, texts: Sequence[str]) -> None:
    """Count, by the seat's own tokenizer, what stands around words in a prompt."""
    node, model = seat.node, seat.model
    assert model is not None, "only a model reads prompts"

    def count(*messages: Message) -> int:
        return model.prompt_tokens_bound(Request(messages=messages))

    alone, mark = count(Message(role="user", content="x")), len("x: x") - len("x")
    answered = count(
        Message(role="user", content="x"), Message(role="assistant", content="x"), Message(role="user", content="x")
    )
    seat.exchange = max(0, answered - alone - 2)
    seat.opening = (2.0, 8.0)
    if model.capabilities.token_ids:
        tokens = [count(Message(role="user", content=text)) - alone + 1 for text in texts]
        seat.task = sum(tokens) / len(tokens), max(tokens)
        seat.signature = count(Message(role="user", content=f"{node.id}: x\nx")) - alone - 1, seat.signature[1]
        if isinstance(node, AgentNode):
            added = count(*render(node, "x", (("x", "x"),))) - count(*render(node, "x", ()))
            seat.opening = max(0, added - 1 - (count(Message(role="user", content="x: x")) - alone)), 8.0 + mark


def _tokens(text: str) -> tuple[float, float, float]:
    """Tokens of a text whose reader is not known."""
    size = len(text.encode())
    return size / BYTES_PER_TOKEN[2], size / BYTES_PER_TOKEN[1], size
