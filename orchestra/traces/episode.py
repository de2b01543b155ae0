"""`Episode`: one play, as evaluation and training read it. Frozen, versioned, loss-free through JSON.

`None` always means *not measured*; zero is a measurement. A failed episode is a valid episode with an error on it.
Episodes are never written by hand: `orchestra.traces.fold` makes them from spans and facts.
"""

from decimal import Decimal
from typing import Literal

from pydantic import Field, JsonValue

from graphs import Value

SCHEMA_VERSION = 1
"""Version of the record this module writes."""

Role = Literal["system", "user", "assistant", "tool"]


class ToolCall(Value):
    """A model's wish to call a tool."""

    id: str | None = None
    """Ties it to its result; `None` where the text protocol has none."""
    name: str
    arguments: str = ""
    """As the model wrote them: JSON text for native function calling."""


class Message(Value):
    """One message a model was sent."""

    role: Role
    content: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    """Of an assistant message."""
    tool_call_id: str | None = None
    """Of a tool message: which call it answers."""


class TurnSampling(Value):
    """How the tokens of a turn were drawn; `None` means not recorded."""

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    max_tokens: int | None = None
    stop: tuple[str, ...] | None = None
    seed: int | None = None


class Usage(Value):
    """Tokens of a turn, as the model counted them; `None` means it did not say."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_input_tokens: int | None = None
    """Part of `input_tokens` read from a prefix cache."""


class FailedAttempt(Value):
    """One try of a model call that was made again."""

    error: str
    booked_usd: Decimal | None = None
    """What the ledger owes for it, besides what the answer cost."""
    served: bool | None = None
    """Whether the model had begun to answer; `None` means nobody knows."""
    retry_after_seconds: float | None = None
    """How long the server asked to wait."""


class Turn(Value):
    """One call of a model."""

    span_id: str
    messages: tuple[Message, ...]
    """What the model was sent."""
    reply: str | None
    """What it said; `None` means it never answered, or its answer was not captured."""
    tool_calls: tuple[ToolCall, ...] = ()
    """What it asked to be called."""
    prompt_token_ids: tuple[int, ...] | None = None
    """Of the prompt as the model read it; `None` means not captured."""
    reply_token_ids: tuple[int, ...] | None = None
    """As sampled; `None` means not captured, and then the turn can be evaluated but not trained on."""
    logprobs: tuple[float, ...] | None = None
    """Natural log, one per id of `reply_token_ids`, of the distribution sampled from; `None` means not captured."""
    sampling: TurnSampling = TurnSampling()
    sample_index: int | None = None
    """Which of several independent samples of the same request it is."""
    model: str | None = None
    """Model that answered, as it calls itself; else the one that was asked."""
    provider: str | None = None
    adapter: str | None = None
    """Name and version of the adapter over the base weights; `None` means none is known."""
    finish_reason: str | None = None
    response_id: str | None = None
    usage: Usage = Usage()
    usage_doubt: str | None = None
    """What was wrong with the server's count of tokens; `None` means it was believed."""
    failed_attempts: tuple[FailedAttempt, ...] = ()
    """The tries that failed before this answer, in order."""
    paid_usd: Decimal | None = None
    """What the ledger paid; 0 for a cache hit."""
    list_usd: Decimal | None = None
    """What it costs uncached."""
    cached: bool | None = None
    """Whether the reply came from the cache or the journal."""
    started_ns: int
    """Unix nanoseconds."""
    latency_seconds: float
    first_token_seconds: float | None = None
    round: int | None = None
    """Round of its node, from 1."""
    step: int | None = None
    """Environment step, from 0; `None` outside of an environment."""
    state_key: str | None = None
    """Equal for turns taken in the same state of the environment."""
    reward: float | None = None
    """Given for this very turn; `None` means none was, which is not a reward of zero."""
    redacted: bool = False
    """A redactor took something out; token ids and log-probabilities are gone."""
    error: str | None = None

    @property
    def trainable(self) -> bool:
        """Whether token ids and log-probabilities of prompt and reply are all there."""
        return None not in (self.prompt_token_ids, self.reply_token_ids, self.logprobs)


class ToolUse(Value):
    """One execution of a tool."""

    span_id: str
    name: str
    call_id: str | None = None
    """The `ToolCall` it answers; `None` for a tool node and for the text protocol."""
    arguments: JsonValue = None
    result: JsonValue = None
    """`None` means it had nothing to say, failed, or was not captured."""
    started_ns: int
    latency_seconds: float
    round: int | None = None
    error: str | None = None


class Transcript(Value):
    """What one node of one seat did, in order."""

    seat: int
    node: str
    kind: str | None = None
    """`agent`, `tool`, `vote` or `router`; `None` means not recorded."""
    turns: tuple[Turn, ...] = ()
    tool_uses: tuple[ToolUse, ...] = ()
    said: tuple[str, ...] = ()
    """What the node passed on, once per round, where that was recorded."""


class Seat(Value):
    """One team at the table: which graph it was, which adapters it played with, and how it did."""

    seat: int
    """From 0."""
    team: str | None = None
    """Name of the team."""
    team_hash: str | None = None
    """Content hash of its agent graph; `None` for an application that has none."""
    graph: dict[str, JsonValue] | None = None
    """Its agent graph as a team file holds it; `None` means not recorded."""
    adapters: tuple[str, ...] = ()
    """Names and versions of the adapters its turns were made with."""
    output: str | None = None
    """What the team said in the end; `None` means nothing."""
    reward: float | None = None
    """`None` means none was given, which is not a reward of zero."""
    error: str | None = None


class Score(Value):
    """Something said about an episode after it ended."""

    name: str
    value: JsonValue
    source: str
    """Who said so."""
    at: float
    """Unix seconds."""
    span_id: str | None = None
    """The span it is about; `None` means the episode."""


class Episode(Value):
    """One play: the teams at the table, everything they said, and what came of it."""

    schema_version: int = SCHEMA_VERSION
    episode_id: str
    run_id: str
    trace_id: str | None = None
    task_id: str | None = None
    environment: str | None = None
    input: JsonValue = None
    """The task as the teams heard it."""
    seats: tuple[Seat, ...] = Field(min_length=1)
    """One for an ordinary task, several for a game."""
    transcripts: tuple[Transcript, ...] = ()
    """Each (seat, node) once, by seat and then by when it first acted."""
    scores: tuple[Score, ...] = ()
    """Facts named `score` and evaluation results, in the order they were learnt."""
    labels: tuple[Score, ...] = ()
    """Every other fact about it."""
    started_ns: int | None = None
    """Unix nanoseconds; `None` when nothing of it was recorded."""
    latency_seconds: float | None = None
    """`None` when it did not end."""
    error: str | None = None
    """`None` means it went well."""
    error_type: str | None = None

    def transcript(self, node: str, seat: int = 0) -> Transcript:
        """The transcript of `node` at `seat`.

        Raises:
            KeyError: when it never acted.
        """
        for transcript in self.transcripts:
            if (transcript.seat, transcript.node) == (seat, node):
                return transcript
        raise KeyError((seat, node))

    @property
    def output(self) -> str | None:
        """What the first seat said in the end."""
        return self.seats[0].output

    @property
    def turns(self) -> tuple[Turn, ...]:
        """Every turn of every node, by time."""
        turns = [turn for transcript in self.transcripts for turn in transcript.turns]
        return tuple(sorted(turns, key=lambda turn: turn.started_ns))

    @property
    def paid_usd(self) -> Decimal | None:
        """What the ledger paid for all turns together; `None` when that of one is not known."""
        amounts = [turn.paid_usd for turn in self.turns]
        return None if None in amounts else sum((amount for amount in amounts if amount is not None), Decimal(0))

    @property
    def list_usd(self) -> Decimal | None:
        """What all turns together cost uncached; `None` when that of one is not known."""
        amounts = [turn.list_usd for turn in self.turns]
        return None if None in amounts else sum((amount for amount in amounts if amount is not None), Decimal(0))

    @property
    def score(self) -> float | None:
        """The last score that is a number; `None` means not scored."""
        for score in reversed(self.scores):
            if isinstance(score.value, bool | int | float):
                return float(score.value)
        return None
