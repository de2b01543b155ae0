"""The state of one play: what a team has said so far about one task.

A `Play` belongs to exactly one episode and is never shared; what outlives it is in the `Runtime` that made it.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path

from graphs import AgentGraph, Tool
from graphs.schedule import Progress
from orchestra.errors import BudgetError, EpisodeError, Paused, ToolError
from orchestra.execution.allowances import Allowances
from orchestra.execution.calls import Calls, Reply
from orchestra.execution.events import Asked, Listener, Said
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
    tool_calls: int = 0
    """Calls of functions and of people, those that failed included."""
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
    task_id: str | None = None
    deadline_seconds: float | None = None
    """Time limit of each model call; `None` waits."""
    node_seconds: float | None = None
    """Time limit of one turn of a node; `None` waits."""
    listener: Listener | None = None
    """Told what happens as it happens; `None` for nobody."""
    allowances: Allowances = field(default_factory=Allowances)
    """What single agents and tools may use up in it."""
    news: str | None = None
    """What a node with a memory of earlier plays is told in place of the task; `None` tells it the task."""
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
    due: int = 0
    """Nodes whose turn it is, those that are speaking included."""
    failure: EpisodeError | BudgetError | None = None
    """What ended it; whoever is speaking finishes, and nobody begins any more."""
    paused: Paused | None = None
    """The first question a person has not answered; whoever does not wait for that answer goes on."""

    _purses: dict[str, Ledger] = field(default_factory=dict)
    _uses: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.progress = Progress(self.graph)

    def purse_of(self, node_id: str) -> Ledger:
        """What pays for the calls of `node_id`: a child named after it where it has a cap of its own."""
        cap = self.allowances.agent_nano.get(node_id)
        if cap is None:
            return self.ledger
        if node_id not in self._purses:
            self._purses[node_id] = self.ledger.child(node_id, cap)
        return self._purses[node_id]

    def count_use(self, tool: Tool, key: str) -> None:
        """Count one call of `tool`.

        Raises:
            ToolError: it was called as often as it may be, and no earlier attempt has its answer to this call.
        """
        self.spent.tool_calls += 1
        most = self.allowances.tool_calls.get(tool.name)
        if most is None:
            return
        self._uses[tool.name] += 1
        if self._uses[tool.name] > most and self.calls.journal.finished(key) is None:
            raise ToolError(
                f"tool {tool.name!r} may be called {most} time{'s' * (most != 1)} in an episode, and was; "
                f"answer without it (--max-calls-tool allows more)"
            )

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
        if self.listener is not None:
            self.listener(Said(node_id, round_number, text or None))

    def halt(self, node_id: str, why: EpisodeError | BudgetError | Paused) -> None:
        """Note that `node_id` could not finish its turn; the first to fail tells why the play did."""
        if not isinstance(why, Paused):
            self.failure = self.failure or why
            return
        self.paused = self.paused or why
        if self.listener is not None:
            self.listener(Asked(node_id, why.question, why.key))

    def best_words(self) -> str | None:
        """The most that is there of a reply: what the output said last, else whoever stands nearest to it.

        Of several equally near the one that spoke last counts. Routers only pass on what they heard, and do not.
        """
        last = {node_id: text for (node_id, _), text in self.said_in.items()}
        kinds = {node.id: node.kind for node in self.graph.nodes}
        spoke_last = list(reversed(dict.fromkeys(reversed([node_id for node_id, _ in self.said_in]))))
        nearest, seen = [self.graph.output], {self.graph.output}
        while nearest:
            for node_id in reversed(spoke_last):
                if node_id in nearest and kinds[node_id] != "router":
                    return last[node_id]
            heard = {c.source for c in self.graph.channels if c.target in nearest} - seen
            seen |= heard
            nearest = list(heard)
        return None
