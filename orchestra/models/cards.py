"""The card of an adapter: what is known of it beside its weights, in a file that people read and programs check."""

from pathlib import Path

from pydantic import Field, ValidationError

from graphs.model import Usd, Value
from orchestra.errors import InputError
from orchestra.models import weights

CARD = "adapter.json"
NAME = r"^[A-Za-z0-9_.\-]+$"
"""What an adapter may be called: no `@` and no `+`, which set it apart in a model's name."""


class Measured(Value):
    """What an adapter was found to be worth."""

    what: str
    """Of what, against what: `return on tic-tac-toe against random, over the base`."""
    mean: float
    low: float
    """Lower end of its 95 % interval."""
    high: float
    """Upper end of it."""
    count: int = Field(ge=1)
    """Games or tasks it is the mean of."""


class Card(Value):
    """What is known of an adapter beside its weights; the file `adapter.json`."""

    schema_version: int = 1
    name: str = Field(pattern=NAME)
    version: str = Field(pattern=NAME)
    base: str
    """Name of the base model it was trained over, as it was opened."""
    base_sha256: str = ""
    """Of the base's weights; empty means not known, and then shapes alone tell another base."""
    recipe: str = ""
    """Name of the recipe, or its file."""
    runs: tuple[str, ...] = ()
    """Training runs it comes from, the latest last."""
    episodes: tuple[str, ...] = ()
    """Episodes it was trained on, as far as they are listed."""
    episode_count: int = Field(default=0, ge=0)
    """How many there were, listed or not."""
    value: Measured | None = None
    """`None` means it was not measured."""
    price_usd: Usd | None = None
    """What having it in a team costs; `None` means not stated."""
    created: str = ""
    """When, in ISO 8601 and UTC."""

    @property
    def served(self) -> str:
        """Name and version."""
        return f"{self.name}@{self.version}"

    def write(self, folder: Path) -> None:
        """Put it beside the weights in `folder`."""
        weights.write_whole(folder / CARD, self.model_dump_json(indent=2) + "\n")


def card_at(path: Path) -> Card | None:
    """The card of the adapter at `path`; `None` when it has none.

    Raises:
        InputError: it is damaged.
    """
    if not (path / CARD).is_file():
        return None
    try:
        return Card.model_validate_json((path / CARD).read_bytes())
    except ValidationError as cause:
        first = cause.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise InputError(f"{str(path / CARD)!r} is no card of an adapter: {where}: {first['msg']}") from cause
