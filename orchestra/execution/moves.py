"""Where in a game a play of a team stands, when the team holds a seat and plays once for each of its moves."""

from dataclasses import dataclass, field

from orchestra.models.protocol import Message


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """One turn of one seat."""

    news: str | None
    """What nodes with memory are told, who heard the rest before; `None` tells them the whole task, as everybody."""
    memories: dict[str, list[Message]] = field(default_factory=dict)
    """Transcript so far of each node with memory, kept from move to move of one seat in one game."""
