"""What a recipe may say. Every field has its meaning beside it; keys that are not here are an error."""

import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, field_validator, model_validator

from graphs.model import Value
from orchestra.plugins import closest
from training.advantages import ADVANTAGES
from training.samples import AGGREGATIONS

_ALWAYS = ("kl", "entropy")
_ABOVE_0, _FROM_0 = ("above 0", lambda value: value > 0), ("0 or more", lambda value: value >= 0)
OPTION_RANGES: Mapping[str, tuple[str, Callable[[float], bool]]] = {
    "cap": _ABOVE_0,
    "decay": ("from 0 to below 1", lambda value: 0 <= value < 1),
    "dual": ("above 1", lambda value: value > 1),
    "entropy": _FROM_0,
    "epsilon_high": _ABOVE_0,
    "epsilon_low": ("above 0 and at most 1", lambda value: 0 < value <= 1),
    "floor": _ABOVE_0,
    "kl": _FROM_0,
    "largest": _ABOVE_0,
    "sharpness": _ABOVE_0,
}
"""Options of losses and estimators whose range is not every number, in words and as a test."""
LOSS_OPTIONS: Mapping[str, tuple[str, ...]] = {
    "advantage-weighted": ("sharpness", "largest", *_ALWAYS),
    "clipped": ("epsilon_low", "epsilon_high", "dual", "cap", *_ALWAYS),
    "imitation": _ALWAYS,
    "rejection-sampling": ("threshold", *_ALWAYS),
}
"""Losses a trainer's loop can take, and their options; `training.losses.LOSSES` holds them, and torch with them."""


def _check_ranges(options: Mapping[str, bool | float]) -> None:
    for option, value in options.items():
        words, holds = OPTION_RANGES.get(option, ("", lambda _: True))
        if not holds(value):
            raise ValueError(f"{option} is {words}, not {value:g}")


class Part(Value):
    """A part of a recipe: its numbers are finite."""

    model_config = ConfigDict(allow_inf_nan=False)


class Make(Part):
    """A small Llama with random weights, made on the spot; its tokenizer is learnt from demonstrations."""

    hidden: int = Field(default=96, ge=8)
    layers: int = Field(default=2, ge=1)
    heads: int = Field(default=4, ge=1)
    vocabulary: int = Field(default=512, ge=300)
    """Tokens, the 256 bytes and the marks of the chat template among them."""
    context_tokens: int = Field(default=1024, ge=64)


class Foundation(Part):
    """The frozen weights that adapters lie over, and how the trainer holds them."""

    model: str = ""
    """As the runtime opens it, such as `local/smollm2-135m-instruct`; empty with `make`."""
    make: Make | None = None
    dtype: Literal["bfloat16", "float32"] = "float32"
    """Of the base while training; adapters and their optimiser's state are float32. Not float16: a token's part of a
    step's gradient is too small for its exponent."""
    device: str = "auto"
    """Of torch; `auto` takes CUDA where there is one."""
    checkpointing: bool = False
    """Keep the inputs of layers alone for the gradient: less memory, a third more time."""
    sharding: Literal["none", "full"] = "none"
    """With several processes: `none` gives each the whole network (DDP), `full` a part (`fully_shard`)."""

    @model_validator(mode="after")
    def _one_of_two(self) -> "Foundation":
        if bool(self.model) == (self.make is not None):
            raise ValueError("name a model, or say how to make one; not both")
        return self


class Learns(Part):
    """Which turns an agent learns from; all that is set must fit. Nothing set: the turns made with its own adapter."""

    every: bool = False
    """Every turn that fits, whoever made it: base weights, another adapter or another application. Says so where
    nothing else is to be said, such as for recorded episodes."""
    nodes: tuple[str, ...] | None = None
    seats: tuple[int, ...] | None = None
    teams: tuple[str, ...] | None = None
    adapters: tuple[str, ...] | None = None


class Agent(Part):
    """One agent that is trained, with an adapter of its own."""

    rank: int = Field(default=16, ge=1)
    alpha: float = Field(default=32.0, gt=0)
    targets: tuple[str, ...] = ()
    """Layers, such as `q_proj`; empty means every linear one but the head."""
    initial_b: float = Field(default=0.0, ge=0)
    """Standard deviation that B begins with; 0 begins as the base."""
    start: str = ""
    """Folder of an adapter to go on from; empty begins a new one."""
    learns: Learns = Learns()


class Source(Part):
    """Where episodes come from: a plug-in of `orchestra.episode_sources`, and what it is given."""

    name: str = "self-play"
    settings: dict[str, Any] = Field(default_factory=dict)
    share: float = Field(default=1.0, gt=0)
    """How large its part of a step's episodes is, beside the other sources'."""


class Credit(Part):
    """How rewards become advantages of tokens, and how tokens are averaged."""

    estimator: str = "mars"
    options: dict[str, bool | float] = Field(default_factory=dict)
    """Of the estimator, such as `by_turn = false` of `mars`."""
    aggregation: str = "turn-mean"
    clip: float | None = Field(default=None, gt=0)
    """Largest size of an advantage; `None` leaves them."""

    @field_validator("estimator")
    @classmethod
    def _known_estimator(cls, name: str) -> str:
        usable = [known for known, estimator in ADVANTAGES.items() if not estimator.needs_values]
        if name not in usable:
            raise ValueError(f"no estimator {name!r} that needs no critic; {closest(name, usable)}")
        return name

    @field_validator("aggregation")
    @classmethod
    def _known_aggregation(cls, name: str) -> str:
        if name not in AGGREGATIONS:
            raise ValueError(f"no aggregation {name!r}; {closest(name, AGGREGATIONS)}")
        return name

    @model_validator(mode="after")
    def _known_options(self) -> "Credit":
        known = ADVANTAGES[self.estimator].options
        for option in self.options:
            if option not in known:
                raise ValueError(f"estimator {self.estimator!r} has no option {option!r}; {closest(option, known)}")
        _check_ranges(self.options)
        return self


class LossTerm(Part):
    """What is minimised."""

    name: str = "clipped"
    options: dict[str, float] = Field(default_factory=dict)
    """As the loss takes them, such as `epsilon_low`, `kl`, `entropy`; `cap` corrects for a sampler that is another
    engine, by truncated importance sampling."""

    @field_validator("name")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in LOSS_OPTIONS:
            raise ValueError(f"no loss {name!r} for a trainer; {closest(name, LOSS_OPTIONS)}")
        return name

    @model_validator(mode="after")
    def _known_options(self) -> "LossTerm":
        for option in self.options:
            known = LOSS_OPTIONS[self.name]
            if option not in known:
                raise ValueError(f"loss {self.name!r} has no option {option!r}; {closest(option, known)}")
        _check_ranges(self.options)
        return self


_Beta = Annotated[float, Field(ge=0, lt=1)]


class Optimiser(Part):
    """AdamW, and its schedule."""

    learning_rate: float = Field(default=1e-5, gt=0)
    minimum: float = Field(default=0.0, ge=0)
    """Learning rate that the cosine ends at."""
    warmup_updates: int = Field(default=0, ge=0)
    betas: tuple[_Beta, _Beta] = (0.9, 0.95)
    epsilon: float = Field(default=1e-8, gt=0)
    weight_decay: float = Field(default=0.0, ge=0)
    gradient_norm: float | None = Field(default=1.0, gt=0)
    """Largest norm of an agent's gradient; `None` leaves it."""


class Steps(Part):
    """How much is done."""

    count: int = Field(default=100, ge=0)
    """Steps: play, credit, update, publish."""
    episodes: int = Field(default=64, ge=1)
    """Of one step."""
    epochs: int = Field(default=1, ge=1)
    """Times a step's episodes are gone through."""
    updates: int = Field(default=1, ge=1)
    """Updates of the optimiser in one epoch; episodes are dealt out among them."""
    row_tokens: int = Field(default=4096, ge=16)
    """Most tokens of one forward pass; strands are packed into rows."""
    longest_tokens: int | None = Field(default=None, ge=16)
    """Strands of more are a counted skip; `None` takes `row_tokens`."""
    breaks: Literal["refuse", "cut"] = "refuse"
    """Where a prompt does not continue its transcript."""
    without_ids: Literal["refuse", "skip"] = "refuse"
    """Turns that were not captured with token ids and log-probabilities."""
    kl_every: int = Field(default=10, ge=0)
    """Steps from one measurement of `kl`, the distance to the frozen base in nats, to the next, beginning with the
    first; each costs a forward pass over the step's rows. With `kl` in the loss it is measured in every step anyway.
    0 never measures."""

    @model_validator(mode="after")
    def _rows_hold_strands(self) -> "Steps":
        if self.longest_tokens is not None and self.longest_tokens > self.row_tokens:
            raise ValueError(
                f"longest_tokens={self.longest_tokens} is more than a row holds; raise row_tokens={self.row_tokens} too"
            )
        return self


class Warmup(Part):
    """Imitation of demonstrations before the first step."""

    steps: int = Field(default=0, ge=0)
    episodes: int = Field(default=64, ge=1)
    learning_rate: float = Field(default=1e-4, gt=0)
    source: Source = Source()
    """Of demonstrations: episodes whose replies are imitated; ids of those that nobody sampled are made here."""


class Publish(Part):
    """How new weights reach what samples with them."""

    name: str = "local"
    """A plug-in of `orchestra.publishers`; empty publishes nowhere, for recorded episodes."""
    settings: dict[str, Any] = Field(default_factory=dict)
    tolerance_nats: float = Field(default=0.1, gt=0)
    """Largest mean difference of log-probabilities between server and trainer."""


class Checkpoints(Part):
    """What a kill may cost."""

    every: int = Field(default=1, ge=1)
    """Steps between two."""
    keep: int = Field(default=2, ge=1)
    """The last so many stay."""


class Recipe(Part):
    """A training run."""

    name: str
    about: str = ""
    cites: dict[str, str] = Field(default_factory=dict)
    """Where each number comes from, by key."""
    seed: int = 0
    base: Foundation
    agents: dict[str, Agent] = Field(min_length=1)
    sources: tuple[Source, ...] = Field(default=(Source(),), min_length=1)
    credit: Credit = Credit()
    loss: LossTerm = LossTerm()
    optimiser: Optimiser = Optimiser()
    steps: Steps = Steps()
    warmup: Warmup = Warmup()
    publish: Publish = Publish()
    checkpoints: Checkpoints = Checkpoints()
    machine_usd_per_hour: Decimal = Field(default=Decimal("0.10"), ge=0)
    """What an hour of the machine that trains costs."""

    @field_validator("agents")
    @classmethod
    def _names_adapters(cls, agents: dict[str, Agent]) -> dict[str, Agent]:
        for name in agents:
            if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
                raise ValueError(f"agent {name!r} names an adapter; use letters, digits, - and _")
        return agents
