"""How a run is carried out, and the models it opens accordingly."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

from orchestra.errors import InputError
from orchestra.execution.allowances import Allowances
from orchestra.ledger import Price
from orchestra.models import open_model
from orchestra.models.limits import Limits
from orchestra.models.protocol import Model
from orchestra.models.retry import RetryPolicy
from orchestra.traces.redaction import Redactor

if TYPE_CHECKING:
    from orchestra.traces.otlp import Exported

DEFAULT_MODEL = "local/smollm2-135m-instruct"
STATE_PRICE = "state it with --price INPUT,OUTPUT in USD per million tokens (in Python: Settings.price)"
"""What to do about a model whose price nobody knows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How a run is carried out; none of it changes what a team is.

    Raises:
        InputError: no episode could ever be played.
    """

    model: str = DEFAULT_MODEL
    """Model of every agent that names none, in teams that name none."""
    deterministic: bool = False
    """float32 and a batch of one: slower, and exact."""
    engine: Mapping[str, object] = field(default_factory=dict)
    """Of embedded models, as `orchestra.models.local.open_local` takes them, such as `rows` and `dtype`."""
    machine_usd_per_hour: Decimal = Decimal("0.10")
    """Price of this machine, for models that run on it."""
    price: Price | None = None
    """Of models whose price is not known otherwise; `None` leaves it unknown, which a cap refuses."""
    concurrency: int = 32
    """Episodes played at once."""
    tool_workers: int = 2
    """Worker processes for tools."""
    use_cache: bool = False
    """Answer a call from the store when the same call was answered before."""
    trust: bool = False
    """Let files name code outside their own folder and the installed plug-ins."""
    call_seconds: float | None = 120.0
    """Time limit of one model call; `None` waits."""
    node_seconds: float | None = None
    """Time limit of one turn of a node, with all its calls; `None` waits."""
    run_seconds: float | None = None
    """Time limit of each attempt at a run, counted from its start; `None` waits."""

    allowances: Allowances = field(default_factory=Allowances)
    """What single agents and tools may use up in an episode, below the run's cap."""
    limits: Mapping[str, Limits] = field(default_factory=dict)
    """By model name, what it may be asked for at once and per minute; `*` holds for each model without its own."""
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    """When a model call that failed is made again; each try is reserved and booked by itself."""
    rerun_tools: bool = False
    """On resume, call tools again that are not idempotent and were cut off."""
    redact: Redactor | None = None
    """Shown every text before it is written down, and returns what may be; `None` writes everything. A turn it changes
    loses its token ids and log-probabilities and is not cached, and a resumed run hears what was written."""
    record: Path | None = None
    """File to write down everything the run hears, so that it can be replayed; `None` writes none."""
    replay: Path | None = None
    """Recording to tell again in place of models, tools and network; `None` asks them."""
    otlp: str | None = None
    """Collector that spans are sent to besides the store, such as `http://localhost:6006`; `None` sends none."""
    on_exported: Callable[["Exported"], None] | None = None
    """Told at the end of a run how many spans the collector took; `None` tells nobody."""

    def __post_init__(self) -> None:
        if self.concurrency < 1:  # nobody would ever have a turn, and the run would wait for ever
            raise InputError(f"concurrency is at least 1 episode at once, not {self.concurrency}")

    def inputs(self) -> dict[str, object]:
        """What replies depend on; a resumed run must be given the same."""
        return {"model": self.model, "deterministic": self.deterministic}


def opened_model(name: str, settings: Settings) -> Model:
    """The model called `name`, opened as the settings say.

    Raises:
        InputError: there is no such model.
    """
    chosen: dict[str, object] = {
        "deterministic": settings.deterministic,
        "machine_usd_per_hour": settings.machine_usd_per_hour,
    }
    if name.startswith("local/"):
        chosen |= settings.engine
    model = open_model(name, **chosen)
    if model.price is None and settings.price is not None:
        model = open_model(name, **chosen, price=settings.price)
    return model
