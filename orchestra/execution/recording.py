"""Recordings: everything a run heard from outside, in one file, so that it repeats byte for byte with no network.

A recording is lines of JSON. The first says which run it is of, the last that the run ended; between them stand, as
they came, every model the run opened, every reply and tool result by the key of its call with digests of what was
asked, what the ledger booked for it, and every clock reading or stored result that reaches an output. Nothing of how a
model is reached is written: no address, header or key.

A replay opens no model, runs no tool and reads no store. It answers each call by its key, and refuses one that is not
in the file or that asks something else. Lines are handed to the system one by one: a run that is killed leaves a file
that is whole up to its last full line.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

from graphs import Tool
from orchestra.errors import InputError
from orchestra.execution.asking import Reply
from orchestra.execution.digests import first_difference, request_parts, tool_digest
from orchestra.execution.recorded import (
    Line,
    RecordedModel,
    ReplayLedger,
    book,
    call_of,
    described,
    error_from,
    error_record,
    whole_lines,
)
from orchestra.execution.settings import Settings
from orchestra.ledger import Entry, Ledger
from orchestra.models.cache import from_record, to_record
from orchestra.models.protocol import Model, Request
from orchestra.traces.store import Store

VERSION = 1
"""Of the file format."""
CUT_SECONDS = 60.0
"""How long a replay waits for a call to be cut off as it was; a sixtieth of it where the recording ends early."""

Value = TypeVar("Value")


class RecordingDiffers(InputError):
    """A replayed run asks for something that the recorded one did not."""


class Recorder:
    """Writes a recording.

    Args:
        path: file to write; it must not exist.

    Raises:
        InputError: it exists, or cannot be written.
    """

    def __init__(self, path: Path) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("x", encoding="utf-8")
        except FileExistsError:
            raise InputError(f"{str(path)!r} exists already; name another file with --record, or remove it") from None
        except OSError as cause:
            raise InputError(f"{str(path)!r} cannot be written: {cause}; name another file with --record") from cause
        self._models: dict[str, Model] = {}
        self._described: set[str] = set()
        self._reserved: dict[str, int] = {}
        self._booked: dict[str, list[list[object]]] = {}
        self.run_id: str | None = None
        """Always `None`: a recorded run gets an id like any other."""

    def begin(self, run_id: str, command: str, inputs: Mapping[str, object], resumed: bool) -> None:
        """Write the first line."""
        self._write(recording=VERSION, run_id=run_id, command=command, inputs=dict(inputs), resumed=resumed)

    def end(self) -> None:
        """Write the last line and close the file."""
        self._write(end=True)
        self._file.close()

    def abandon(self) -> None:
        """Close the file of a run that did not end."""
        self._file.close()

    def ledger(self, cap_nano: int | None, past: Iterator[Entry], sink: Callable[[Entry], None]) -> Ledger:
        """The run's ledger, of which every booking is recorded with its call."""

        def both(entry: Entry) -> None:
            sink(entry)
            self._note_booking(entry)

        entries = list(past)
        if entries:
            self._write(past=[asdict(entry) for entry in entries])
        ledger = Ledger(cap_nano, name="run", sink=both)
        ledger.replay(entries)
        return ledger

    def model(self, name: str, opened: Callable[[], Model]) -> Model:
        """The model called `name`, and what is known of it before it was met."""
        self._models[name] = model = opened()
        self._write(model=name, **described(model))
        return model

    async def completed(
        self, model: Model, request: Request, key: str, ledger: Ledger, ask: Callable[[], Awaitable[Reply]]
    ) -> Reply:
        """What `ask` says, written down, however it ends."""
        asked = request_parts(model.name, request)
        try:
            reply = await ask()
        except BaseException as error:
            self._write(call=key, asked=asked, booked=self._bookings(key), **error_record(error))
            raise
        self._describe(model)
        self._write(
            call=key,
            asked=asked,
            source=reply.source,
            paid_nano=reply.paid_nano,
            list_nano=reply.list_nano,
            borrowed_nano=reply.borrowed_nano,
            booked=self._bookings(key),
            completion=to_record(reply.completion),
        )
        return reply

    async def used(
        self, tool: Tool, text: str, key: str, purse: Ledger | None, ask: Callable[[], Awaitable[str | None]]
    ) -> str | None:
        """What the tool says, written down, however it ends."""
        line = {"tool": key, "name": tool.name, "asked": tool_digest(tool, text)}
        try:
            said = await ask()
        except BaseException as error:
            self._write(**line, booked=self._bookings(key), **error_record(error))
            raise
        self._write(**line, booked=self._bookings(key), said=said)
        return said

    def noted(self, name: str, measure: Callable[[], Value]) -> Value:
        """A clock reading, or anything else that JSON can say and a second run would find otherwise."""
        value = measure()
        self._write(note=name, value=value)
        return value

    async def heard(self, name: str, ask: Callable[[], Awaitable[Value]]) -> Value:
        """What a server that is neither a model nor a tool says, written down, however it ends."""
        try:
            value = await ask()
        except Exception as error:
            self._write(note=name, **error_record(error))
            raise
        self._write(note=name, value=value)
        return value

    def _describe(self, model: Model) -> None:
        """Write what a model is once it has answered: a server that was not met would be asked here, and all wait."""
        name = next((name for name, opened in self._models.items() if opened is model), model.name)
        if name not in self._described:
            self._described.add(name)
            self._write(model=name, **described(model), fingerprint=model.fingerprint)

    def _note_booking(self, entry: Entry) -> None:
        if entry.event == "reserve":
            self._reserved[entry.reservation_id] = entry.nano
        elif entry.event in ("settle", "unknown"):
            reserved = self._reserved.pop(entry.reservation_id, entry.nano)
            self._booked.setdefault(call_of(entry.what), []).append([reserved, entry.event, entry.nano])

    def _bookings(self, key: str) -> list[list[object]]:
        return self._booked.pop(key, [])

    def _write(self, **line: object) -> None:
        if not self._file.closed:  # what is cancelled while the run ends has nobody left to tell
            self._file.write(json.dumps(line, ensure_ascii=False, separators=(",", ":")) + "\n")
            self._file.flush()


class Replay:
    """Tells a recording again.

    Args:
        path: file that `Recorder` wrote.

    Raises:
        InputError: it cannot be read, or is no recording, or of a later version.
    """

    def __init__(self, path: Path) -> None:
        self._where = repr(str(path))
        lines, self._cut = whole_lines(path)
        if not lines or lines[0].get("recording") != VERSION:
            found = lines[0].get("recording") if lines else None
            hint = f"it is of version {found!r}, this reads {VERSION}" if found else "its first line does not say so"
            raise InputError(f"{self._where} is no recording: {hint}; write one with --record")
        self._header = lines[0]
        self.run_id: str | None = str(self._header["run_id"])
        """Of the recorded run; its replay has the same."""
        self._count = len(lines)
        self._ended = lines[-1].get("end") is True
        self._told: dict[tuple[str, str], Line] = {}
        for line in lines[1:]:
            for kind in ("call", "tool", "note", "model"):
                if kind in line:
                    self._told[kind, str(line[kind])] = line
        self._past: list[Entry] = [Entry(**entry) for line in lines for entry in line.get("past", ())]

    @property
    def inputs(self) -> Mapping[str, Any]:
        """What the recorded run depended on."""
        inputs: Mapping[str, Any] = self._header["inputs"]
        return inputs

    @property
    def ending(self) -> str:
        """Where the file ends, in words."""
        if self._ended:
            return f"it is whole, with {self._count} lines"
        cut = ", in the middle of the next" if self._cut else ""
        return f"it ends after line {self._count}{cut}: the recorded run was interrupted there"

    def begin(self, run_id: str, command: str, inputs: Mapping[str, object], resumed: bool) -> None:
        """Refuse another command, or other inputs, than were recorded.

        Raises:
            InputError: naming what differs.
        """
        if self._header["command"] != command:
            raise InputError(
                f"{self._where} is a recorded {self._header['command']!r}, not a {command!r}; replay it with that"
            )
        before = self.inputs
        now = json.loads(json.dumps(dict(inputs), default=str))
        changed = sorted(name for name in {*before, *now} if before.get(name) != now.get(name))
        if changed:
            raise RecordingDiffers(f"{self._where} was recorded with other {', '.join(changed)}; give the same")

    def end(self) -> None:
        """Nothing is left to do."""

    abandon = end

    def ledger(self, cap_nano: int | None, past: Iterator[Entry], sink: Callable[[Entry], None]) -> Ledger:
        """A ledger that starts where the recorded one did and refuses nothing: refusals are replayed as well."""
        ledger = ReplayLedger(cap_nano, name="run", sink=sink)
        ledger.replay(self._past)
        return ledger

    def model(self, name: str, opened: Callable[[], Model]) -> Model:
        """What the recording tells of the model; it is not opened."""
        return RecordedModel(name, self._found("model", name, f"model {name!r}"))

    async def completed(
        self, model: Model, request: Request, key: str, ledger: Ledger, ask: Callable[[], Awaitable[Reply]]
    ) -> Reply:
        """The recorded reply, booked as it was.

        Raises:
            RecordingDiffers: it was not recorded, or another request was.
            OrchestraError: as it was recorded.
        """
        line = self._found("call", key, f"model call {key!r}")
        difference = first_difference(line["asked"], request_parts(model.name, request), request)
        if difference is not None:
            raise RecordingDiffers(f"model call {key!r} is not the one recorded in {self._where}: {difference}")
        book(line, ledger, key)
        await self._retell(line)
        return Reply(
            completion=from_record(line["completion"]),
            paid_nano=line["paid_nano"],
            list_nano=line["list_nano"],
            borrowed_nano=line["borrowed_nano"],
            source=line["source"],
        )

    async def used(
        self, tool: Tool, text: str, key: str, purse: Ledger | None, ask: Callable[[], Awaitable[str | None]]
    ) -> str | None:
        """What the tool said then; it is not called.

        Raises:
            RecordingDiffers: it was not recorded, or with another text.
            OrchestraError: as it was recorded.
        """
        line = self._found("tool", key, f"call {key!r} of tool {tool.name!r}")
        if line["asked"] != tool_digest(tool, text):
            raise RecordingDiffers(
                f"call {key!r} of tool {tool.name!r} is not the one recorded in {self._where}: "
                f"now it is asked {text[:80]!r}"
            )
        if "Paused" in line.get("error", {}).get("types", ()):
            return await ask()  # writes the question down again, and pauses
        if purse is not None:
            book(line, purse, key)
        await self._retell(line)
        said: str | None = line["said"]
        return said

    def noted(self, name: str, measure: Callable[[], Value]) -> Value:
        """The recorded value."""
        value: Value = self._found("note", name, name)["value"]
        return value

    async def heard(self, name: str, ask: Callable[[], Awaitable[Value]]) -> Value:
        """What it said then.

        Raises:
            OrchestraError: as it was recorded.
        """
        line = self._found("note", name, name)
        await self._retell(line)
        value: Value = line["value"]
        return value

    async def _retell(self, line: Line) -> None:
        """Let others run, then fail as the recorded call did, if it failed.

        Raises:
            RecordingDiffers: it was cut off, and nobody cuts it off now.
        """
        await asyncio.sleep(0)
        if line.get("cut"):
            # Whoever cancelled the recorded call cancels this one.
            await asyncio.sleep(CUT_SECONDS if self._ended else CUT_SECONDS / 60)
            raise RecordingDiffers(
                f"a call in the recording {self._where} was cut off, and nothing cuts it off now: {self.ending}; give "
                "the limits of time that it was recorded with, such as --node-seconds"
            )
        if "error" in line:
            raise error_from(line["error"])

    def _found(self, kind: str, key: str, what: str) -> Line:
        if (kind, key) not in self._told:
            raise RecordingDiffers(f"{what} is not in the recording {self._where}: {self.ending}")
        return self._told[kind, key]


Recording = Recorder | Replay
"""What a run is recorded to, or told again from."""


def check_asked(settings: Settings, resume: str | None) -> None:
    """Refuse a run that is to be replayed and something else at once.

    Raises:
        InputError: naming the options.
    """
    if settings.replay is not None and (settings.record is not None or resume is not None):
        raise InputError("a replay cannot be recorded or resumed: give --replay without --record and --resume")
    if settings.record is not None and settings.redact is not None:
        raise InputError("a recording keeps every word as it was said: leave out --record, or --redact")


def opened_recording(settings: Settings) -> Recording | None:
    """The recording that the settings ask for; `None` when they ask for none.

    Raises:
        InputError: the file will not do.
    """
    if settings.replay is not None:
        return Replay(Path(settings.replay))
    return None if settings.record is None else Recorder(Path(settings.record))


def recorded_inputs(path: Path) -> Mapping[str, Any]:
    """What the recorded run depended on, as it was resolved then.

    Raises:
        InputError: the file is no recording.
    """
    return Replay(path).inputs


@contextmanager
def store_for(target: str | Path | None, settings: Settings) -> Iterator[Store]:
    """The store a run uses: the one named, the user's own, or for a replay a passing one."""
    if settings.replay is None or target is not None:
        with Store.open(target) as store:
            yield store
        return
    with TemporaryDirectory(prefix="orchestra-replay-") as folder, Store.open(Path(folder, "replay.sqlite")) as store:
        yield store
