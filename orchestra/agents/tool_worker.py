"""The process a tool runs in: a script that answers one call after another and imports none of Orchestra.

It is started as `python -I -B tool_worker.py FD`, where `FD` is one end of a socket pair. Requests and replies are
lines of JSON on that socket; standard input, output and error belong to the tool, lead nowhere, and what the tool
prints last is quoted with its errors. Whatever a tool does, the process answers in order or dies: it never answers the
wrong call. A call that outlives its time is killed from outside; should the parent be gone, a watchdog ends it.
"""

import faulthandler
import importlib
import io
import json
import mmap
import os
import socket
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

MIB = 1024 * 1024
MOST_OUTPUT_BYTES = 64 * 1024
"""A longer answer is an error: it would fill every prompt it reaches."""
MOST_PRINTED = 2_000
"""Characters of what a tool prints that are kept, counted from the end."""
GRACE_SECONDS = 5.0
"""How long after its time limit a call is ended from inside, when nobody outside did."""


class Printed(io.TextIOBase):
    """A text stream that keeps the end of what is written to it."""

    def __init__(self) -> None:
        self.tail = ""

    def writable(self) -> bool:
        """Always: printing never fails."""
        return True

    def write(self, text: str) -> int:
        """Keep the end of `text`."""
        self.tail = (self.tail + text[-MOST_PRINTED:])[-MOST_PRINTED:]
        return len(text)


class NoSuchFunction(Exception):
    """A request names a function that its module does not have."""


class Modules:
    """Modules by the folder they came from, so that two inventories may both have a `tools.py`."""

    def __init__(self, search_path: list[str]) -> None:
        self.search_path = search_path
        self.folder: str | None = None
        self.aside: dict[str | None, dict[str, ModuleType]] = {}

    def enter(self, folder: str | None) -> None:
        """Make `folder` the first place modules are looked for, and the working directory."""
        if folder != self.folder:
            own = {} if self.folder is None else self._beside(self.folder)
            for name in own:
                del sys.modules[name]
            self.aside[self.folder] = own
            sys.modules.update(self.aside.get(folder, {}))
            self.folder = folder
        sys.path[:] = [*([folder] if folder else []), *self.search_path]
        importlib.invalidate_caches()
        os.chdir(folder or "/")

    def load(self, module: str) -> ModuleType:
        """The module, from the folder entered if it is there."""
        if self.folder is not None:
            found = sys.modules.get(module)
            # The worker's own imports must not hide a tool file of the same name, such as `json.py`.
            if found is not None and not _lies_in(found, self.folder):
                return _loaded_from_file(module, self.folder)
        return importlib.import_module(module)

    def _beside(self, folder: str) -> dict[str, ModuleType]:
        return {name: module for name, module in list(sys.modules.items()) if _lies_in(module, folder)}


def _lies_in(module: ModuleType, folder: str) -> bool:
    places = [getattr(module, "__file__", None), *list(getattr(module, "__path__", []))[:1]]
    return any(isinstance(place, str) and os.path.abspath(place).startswith(folder + os.sep) for place in places)


def _loaded_from_file(module: str, folder: str) -> ModuleType:
    from importlib.util import module_from_spec, spec_from_file_location

    alias = f"_tool_{module}"
    if alias not in sys.modules:
        path = Path(folder, *module.split("."))
        file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        spec = spec_from_file_location(alias, file)
        if spec is None or spec.loader is None:
            raise ModuleNotFoundError(f"no module {module!r} in {folder}")
        sys.modules[alias] = module_from_spec(spec)
        try:
            spec.loader.exec_module(sys.modules[alias])
        except BaseException:
            del sys.modules[alias]
            raise
    return sys.modules[alias]


def address_space_bytes() -> int | None:
    """Size of this process's address space; `None` where the system does not say (other than Linux)."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return None
    return pages * mmap.PAGESIZE


def limit_growth(memory_mib: int | None) -> None:
    """Let the address space grow by `memory_mib` from what it is now; `None` lifts the limit."""
    now = address_space_bytes()
    if now is None:
        return
    import resource  # there is none on Windows, where the process that starts this one reads this file too

    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    soft = hard if memory_mib is None else now + memory_mib * MIB
    if hard != resource.RLIM_INFINITY:
        soft = min(soft, hard) if soft != resource.RLIM_INFINITY else hard
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def described(error: BaseException) -> str:
    """Type, message and place of whatever a tool raised."""
    try:
        text = f"{type(error).__name__}: {error}"
    except Exception:
        text = type(error).__name__
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if frame.filename != __file__ and not frame.filename.startswith("<frozen")]
    return f"{text[:1000]} ({os.path.basename(own[-1].filename)}, line {own[-1].lineno})" if own else text[:1000]


def function_named(modules: Modules, module: str, function: str) -> Callable[[str], object]:
    """The function a request names.

    Raises:
        NoSuchFunction: when the module has none of that name.
    """
    value: Any = modules.load(module)
    for part in function.split("."):
        try:
            value = getattr(value, part)
        except AttributeError:
            raise NoSuchFunction(f"module {module!r} has no function {function!r}") from None
    if not callable(value):
        raise NoSuchFunction(f"{module}:{function} is a {type(value).__name__}, not a function")
    return value  # type: ignore[no-any-return]  # a stranger's function


def answer(modules: Modules, request: dict[str, Any], printed: Printed) -> dict[str, Any]:
    """The reply to one request: `{"text": ...}` or `{"error": kind, "detail": ...}`."""
    sys.stdout = sys.stderr = printed
    sys.setrecursionlimit(1000)
    try:
        limit_growth(request["memory_mib"])
        modules.enter(request["folder"])
        try:
            function = function_named(modules, request["module"], request["function"])
        except NoSuchFunction as missing:
            return {"error": "missing", "detail": str(missing)}
        except (ImportError, SyntaxError) as broken:
            return {"error": "import", "detail": described(broken)}
        value = function(request["text"]) if request["takes"] == "text" else from_messages(function, request["text"])
    except MemoryError:
        return {"error": "memory", "detail": ""}
    except BaseException as error:  # SystemExit too: a tool must not end the worker politely
        return {"error": "raise", "detail": described(error)}
    finally:
        limit_growth(None)
    return checked(value)


def from_messages(function: Callable[[Any], object], transcript: str) -> object:
    """What a node or path function of LangGraph says, given the messages of `transcript`, as text.

    Raises:
        ValueError: when it answers with what a text cannot carry.
    """
    import asyncio
    import inspect

    from langchain_core.messages import convert_to_messages

    value = function({"messages": convert_to_messages(json.loads(transcript))})
    if inspect.isawaitable(value):

        async def awaited(pending: Any) -> object:
            return await pending

        value = asyncio.run(awaited(value))
    if isinstance(value, dict):
        return _only_message(value)
    chosen = [value] if value is None or isinstance(value, str) else value
    if not isinstance(chosen, list | tuple) or not all(each is None or isinstance(each, str) for each in chosen):
        raise ValueError(f"it returned a {type(value).__name__}; only a state update or names of nodes are understood")
    return ",".join(each for each in chosen if each not in (None, "__end__"))


def _only_message(update: dict[str, Any]) -> str | None:
    from langchain_core.messages import AIMessage, convert_to_messages

    surplus = sorted(set(update) - {"messages"})
    if surplus:
        raise ValueError(f"it updates {', '.join(surplus)}; only `messages` is carried")
    said = update.get("messages") or []
    messages = convert_to_messages(said if isinstance(said, list) else [said])
    if not messages:
        return None
    if len(messages) > 1 or not isinstance(messages[0], AIMessage) or messages[0].tool_calls:
        raise ValueError("it must add one assistant message without tool calls; nothing else is carried")
    return messages[0].text


def checked(value: object) -> dict[str, Any]:
    """`value` as a reply, if it is text that fits."""
    if value is None:
        return {"text": None}
    if not isinstance(value, str):
        return {"error": "rubbish", "detail": type(value).__name__}
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        return {"error": "rubbish", "detail": "str that is not valid Unicode"}
    if size > MOST_OUTPUT_BYTES:
        return {"error": "huge", "detail": f"{size} bytes"}
    return {"text": str(value)}


def serve(channel: socket.socket) -> None:
    """Answer requests until the other end is closed."""
    for standard in (0, 1, 2):
        os.dup2(os.open(os.devnull, os.O_RDWR), standard)
    with open(os.devnull, encoding="utf-8") as empty, open(os.devnull, "w", encoding="utf-8") as watched:
        sys.stdin = empty
        lines = channel.makefile("rb")
        start = json.loads(lines.readline())
        modules, first_size = Modules(start["search_path"]), address_space_bytes() or 0
        channel.sendall(b'{"ready": true}\n')
        for line in lines:
            request, printed = json.loads(line), Printed()
            faulthandler.dump_traceback_later(request["timeout_seconds"] + GRACE_SECONDS, exit=True, file=watched)
            reply = answer(modules, request, printed)
            faulthandler.cancel_dump_traceback_later()
            reply["id"] = request["id"]
            if "error" in reply:
                reply["printed"] = printed.tail
            reply["grown_mib"] = ((address_space_bytes() or 0) - first_size) // MIB
            channel.sendall(json.dumps(reply).encode() + b"\n")


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
