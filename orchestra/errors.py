"""Every error the runtime raises on purpose, in one tree.

    OrchestraError
    ├── InputError (ValueError)          what a person wrote is wrong: exit code 2, nothing was spent
    │   ├── UnknownPlugin                no plug-in of that name
    │   ├── Untrusted                    code outside the inventory's folder and the plug-ins, without --trust
    │   └── MissingExtra (ImportError)   an optional dependency is not installed
    ├── BudgetError                      a cap was reached: exit code 3, partial results are kept
    │   ├── CannotAfford                 the call could never fit under the cap
    │   └── UnknownPrice                 a cap is set and the model's price is not known
    └── EpisodeError                     something failed while a team ran; the boundary it crossed names it
        ├── ModelError                   the model or its server
        ├── ToolError                    a tool: raised, hung, crashed, or answered with what is not text
        └── TeamError                    the graph: nothing reached the output, a router named no target

Leaves also inherit the standard error they specialise and carry their data as attributes. A message has three parts:
what is wrong, where, and what to do about it.
"""

from collections.abc import Iterator
from contextlib import contextmanager


class OrchestraError(Exception):
    """Anything Orchestra raises on purpose."""


class InputError(OrchestraError, ValueError):
    """A file, name or option is wrong; the message says which and how to mend it."""


class UnknownPlugin(InputError):
    """No plug-in of that name is installed."""


class Untrusted(InputError):
    """A file asks for code that lies outside its own folder and the installed plug-ins."""


class MissingExtra(InputError, ImportError):
    """An optional dependency is not installed."""

    def __init__(self, extra: str, needed_for: str) -> None:
        self.extra, self.needed_for = extra, needed_for
        super().__init__(f"{needed_for} needs an extra: pip install 'orchestra-mas[{extra}]'")

    def __reduce__(self) -> tuple[type["MissingExtra"], tuple[str, str]]:
        return type(self), (self.extra, self.needed_for)


class BudgetError(OrchestraError):
    """A cap was reached."""


class CannotAfford(BudgetError):
    """The call could never fit under the cap, whatever else is refunded."""


class UnknownPrice(BudgetError, InputError):
    """A cap is set and a model has no known price."""


class EpisodeError(OrchestraError):
    """Something failed while a team ran; the episode carries it."""


class ModelError(EpisodeError):
    """A model or its server failed.

    Attributes:
        retryable: whether the same call may succeed later.
        retry_after_seconds: how long the server asked to wait; `None` when it did not say.
    """

    def __init__(self, message: str, *, retryable: bool = False, retry_after_seconds: float | None = None) -> None:
        super().__init__(message)
        self.retryable = retryable
        self.retry_after_seconds = retry_after_seconds


class ToolError(EpisodeError):
    """A tool failed."""


class TeamError(EpisodeError):
    """The graph itself could not finish."""


@contextmanager
def blame(error: type[EpisodeError], what: str) -> Iterator[None]:
    """Attribute whatever escapes the block to `error`, unless something closer already did."""
    try:
        yield
    except OrchestraError:
        raise
    except Exception as cause:
        raise error(f"{what}: {type(cause).__name__}: {cause}") from cause
