"""Every error the runtime raises on purpose, in one tree.

    OrchestraError
    ├── InputError (ValueError)          what a person wrote is wrong: exit code 2, nothing was spent
    │   ├── UnknownPlugin                no plug-in of that name
    │   ├── Untrusted                    code outside the inventory's folder and the plug-ins, without --trust
    │   └── MissingExtra (ImportError)   an optional dependency is not installed
    ├── BudgetError                      a cap was reached: exit code 3, partial results are kept
    │   ├── CannotAfford                 the call could never fit under the cap
    │   ├── OutOfTime (TimeoutError)     the time limit of a node or a run
    │   └── UnknownPrice                 a cap is set and the model's price is not known
    ├── Paused                           a person has to answer before it can go on: exit code 4
    └── EpisodeError                     something failed while a team ran; the boundary it crossed names it
        ├── ModelError                   the model or its server
        │   └── TooLong                  prompt and reply do not fit into its context
        ├── ToolError                    a tool: raised, hung, crashed, or answered with what is not text
        ├── TeamError                    the graph: nothing reached the output, a router named no target
        └── EnvironmentFailed            the game itself, or a program at its table

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


class OutOfTime(BudgetError, TimeoutError):
    """A node or a run took longer than it was allowed to."""


class UnknownPrice(BudgetError, InputError):
    """A cap is set and a model has no known price."""


class Paused(OrchestraError):
    """A person has to answer before the run can go on; everything up to there is kept.

    Attributes:
        question: what the person is asked.
        key: of the call in the run's journal.
    """

    def __init__(self, question: str, key: str) -> None:
        super().__init__(f"waits for a person to answer: {question}")
        self.question, self.key = question, key

    def __reduce__(self) -> tuple[type["Paused"], tuple[str, str]]:
        return type(self), (self.question, self.key)


class EpisodeError(OrchestraError):
    """Something failed while a team ran; the episode carries it."""


class ModelError(EpisodeError):
    """A model or its server failed.

    Attributes:
        retryable: whether the same call may succeed later.
        retry_after_seconds: how long the server asked to wait; `None` when it did not say.
        served: `False` when it is certain that nothing was served (the server refused, or was never reached), so that
            nothing is owed; `None` when it may have been, and the call stays booked at its reservation.
        busy: whether the server said that it has too much to do: it pays to ask it more often.
    """

    def __init__(
        self,
        message: str,
        *,
        retryable: bool = False,
        retry_after_seconds: float | None = None,
        served: bool | None = None,
        busy: bool = False,
    ) -> None:
        super().__init__(message)
        self.retryable = retryable
        self.retry_after_seconds = retry_after_seconds
        self.served = served
        self.busy = busy


class TooLong(ModelError):
    """A prompt and the reply it asks for do not fit into the model's context: nothing was served."""


class ToolError(EpisodeError):
    """A tool failed."""


class TeamError(EpisodeError):
    """The graph itself could not finish."""


class EnvironmentFailed(EpisodeError):
    """A game, or a program that plays it, failed by itself; no team is to blame."""


@contextmanager
def blame(error: type[EpisodeError], what: str) -> Iterator[None]:
    """Attribute whatever escapes the block to `error`, unless something closer already did."""
    try:
        yield
    except OrchestraError:
        raise
    except Exception as cause:
        raise error(f"{what}: {type(cause).__name__}: {cause}") from cause
