"""The state of one play: what a team has said so far about one task.

A `Play` belongs to exactly one episode and is never shared; what outlives it is in the `Runtime` that made it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path

from graphs import AgentGraph
from graphs.schedule import Progress
from orchestra.execution.calls import Calls, Reply
from orchestra.ledger import Ledger
from orchestra.models.protocol import Message


@dataclass(slots=True)
class Spent:
    """What the calls of one play came to."""

    calls: int = 0
    """Model calls answered, wherever the answer came from."""
    cached_calls: int = 0
    """Of `calls`, how many the cache answered."""
    input_tokens: int = 0
    output_tokens: int = 0
    list_nano: int = 0
    """What they cost uncached, in nano-USD."""
    borrowed_nano: int = 0
    """List cost of what other runs had paid for; with what was paid, the cost of the same run on an empty cache."""

    def add(self, reply: Reply) -> None:
        """Count one reply."""
        usage = reply.completion.usage
        self.calls += 1
        self.cached_calls += reply.source == "cache"
        if usage is not None:
            self.input_tokens += usage.input_tokens
            self.output_tokens += usage.output_tokens
        self.list_nano += reply.list_nano
        self.borrowed_nano += reply.borrowed_nano

    def merge(self, other: "Spent") -> None:
        """Add everything that `other` counted."""
        for name in _FIELDS:
            setattr(self, name, getattr(self, name) + getattr(other, name))


_FIELDS = tuple(field_.name for field_ in fields(Spent))


@dataclass(slots=True)
class Play:
    """One team at one task."""

    graph: AgentGraph
    task: str
    """The task's text, as the entry nodes hear it."""
    key: str
    """Prefix of the journal keys of its calls; the same on every attempt of a run."""
    calls: Calls
    ledger: Ledger
    default_model: str
    folder: Path | None = None
    """Where tools' code is looked up first."""
    seed: int | None = None
    sample_index: int = 0
    deadline_seconds: float | None = None
    """Time limit of each model call; `None` waits."""
    progress: Progress = field(init=False)
    said: dict[str, str] = field(default_factory=dict)
    """Last reply by node; a node with nothing to say is absent."""
    said_in: dict[tuple[str, int], str] = field(default_factory=dict)
    """Reply by node and round: in a debate, a fast speaker may be a round ahead of a slow listener."""
    memories: dict[str, list[Message]] = field(default_factory=dict)
    """Transcript so far of each agent with memory."""
    spent: Spent = field(default_factory=Spent)
    faults: list[str] = field(default_factory=list)
    """What went wrong without ending the episode: tools that failed."""

    def __post_init__(self) -> None:
        self.progress = Progress(self.graph)

    def heard(self, node_id: str) -> Sequence[tuple[str, str]]:
        """(sender, text) of every message waiting for `node_id`, in channel order."""
        return [
            (spoken[0], self.said_in[spoken])
            for spoken in self.progress.inbox_rounds(node_id)
            if spoken in self.said_in
        ]

    def say(self, node_id: str, round_number: int, text: str | None) -> None:
        """Note what `node_id` said in a round; `None` or nothing means it had nothing to say."""
        if text:
            self.said[node_id] = self.said_in[node_id, round_number] = text
        else:
            self.said.pop(node_id, None)
