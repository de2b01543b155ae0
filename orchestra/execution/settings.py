"""How a run is carried out, and the models it opens accordingly."""

from dataclasses import dataclass
from decimal import Decimal

from orchestra.ledger import Price
from orchestra.models import open_model
from orchestra.models.protocol import Model

DEFAULT_MODEL = "local/smollm2-135m-instruct"
STATE_PRICE = "state it with --price INPUT,OUTPUT in USD per million tokens (in Python: Settings.price)"
"""What to do about a model whose price nobody knows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How a run is carried out; none of it changes what a team is."""

    model: str = DEFAULT_MODEL
    """Model of every agent that names none, in teams that name none."""
    deterministic: bool = False
    """float32 and a batch of one: slower, and exact."""
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

    def inputs(self) -> dict[str, object]:
        """What replies depend on; a resumed run must be given the same."""
        return {"model": self.model, "deterministic": self.deterministic}


def opened_model(name: str, settings: Settings) -> Model:
    """The model called `name`, opened as the settings say.

    Raises:
        InputError: there is no such model.
    """
    chosen = {"deterministic": settings.deterministic, "machine_usd_per_hour": settings.machine_usd_per_hour}
    model = open_model(name, **chosen)
    if model.price is None and settings.price is not None:
        model = open_model(name, **chosen, price=settings.price)
    return model
