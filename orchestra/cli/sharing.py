"""Options that several commands have in common, declared once as the fields of a dataclass.

```python
@dataclass(frozen=True, kw_only=True)
class Run:
    seed: Annotated[int, typer.Option(help="Seed of everything that is drawn.")] = 0

@spread
def run_command(team: Path, *, run: Run) -> int: ...     # orchestra run TEAM --seed 3
```
"""

import functools
import inspect
import typing
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from typing import Any, ParamSpec, TypeVar

Result = TypeVar("Result")
Parameters = ParamSpec("Parameters")


def spread(command: Callable[Parameters, Result]) -> Callable[..., Result]:
    """`command` as typer sees it: each keyword argument whose type is a dataclass is replaced by that type's fields.

    Options are shown in the order of the arguments, and the fields of a dataclass in their order.
    """
    hints = typing.get_type_hints(command, include_extras=True)
    groups: dict[str, type[Any]] = {}
    shown: list[inspect.Parameter] = []
    for name, parameter in inspect.signature(command).parameters.items():
        kind = hints[name]
        if not (isinstance(kind, type) and is_dataclass(kind)):
            shown.append(parameter.replace(annotation=hints[name], kind=inspect.Parameter.KEYWORD_ONLY))
            continue
        groups[name] = kind
        inside = typing.get_type_hints(kind, include_extras=True)
        shown += [
            inspect.Parameter(
                field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=inside[field.name]
            )
            for field in fields(kind)
        ]

    @functools.wraps(command)
    def gathered(**given: Any) -> Result:
        for name, kind in groups.items():
            given[name] = kind(**{field.name: given.pop(field.name) for field in fields(kind)})
        return command(**given)  # type: ignore[call-arg]  # the signature below says what comes in

    gathered.__signature__ = inspect.Signature(shown)  # type: ignore[attr-defined]  # what `inspect` and typer look at
    gathered.__annotations__ = {parameter.name: parameter.annotation for parameter in shown}
    return gathered
