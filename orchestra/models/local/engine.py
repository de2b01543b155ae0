"""The thread that answers: rows join and leave between tokens, and every pass serves all of them.

Always true: a row is touched by this thread alone once submitted; a cancelled row is gone before the next token; an
error of the model reaches every caller it concerns and never kills the thread.

Source:
    Yu et al. 2022, "Orca", OSDI 2022, section 4.1 (iteration-level scheduling).
    Deviation: a prompt may be read in several passes (Agrawal et al. 2023, "SARATHI", arXiv:2308.16369, section 4), so
    long prompts do not hold up the tokens of others; and a row whose prompt begins like one being read right now waits
    for it and copies, instead of computing the same beginning twice.
"""

import atexit
import contextlib
import ctypes
import sys
import threading
from asyncio import AbstractEventLoop
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, TypeVar
from weakref import WeakSet

import torch
from torch import Tensor

from orchestra.errors import ModelError
from orchestra.models.local.lora import Lora
from orchestra.models.local.packed import PackedDecoder, Part
from orchestra.models.local.prefixes import WORTH_COPYING, Kept, PrefixStore, shared_length
from orchestra.models.local.rows import Row
from orchestra.models.local.sampling import draw
from orchestra.models.local.solo import SoloDecoder

Decoder = PackedDecoder | SoloDecoder
T = TypeVar("T")
NO_NUMBERS = (
    "the local model's scores are no numbers: its weights or its adapter overflow in this number format; open it in "
    "another (`dtype`), or take the adapter of an earlier step"
)
GIVE_BACK_BYTES = 512 << 20
"""Of transcripts dropped, after which their memory is returned: between those that are kept it lies in pieces."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much the engine takes on at once."""

    rows: int = 64
    """Most rows in one pass; 1 makes every pass independent of other requests."""
    prompt_tokens: int = 512
    """Most prompt tokens read in one pass."""
    active_bytes: int = 4 << 30
    """Most memory promised to rows in progress; a single row is always taken. Where they lie, half as much again may be
    empty, and be held twice for a moment, since what holds them grows by halves; where most rows have left, up to twice
    as much may be empty."""
    kept_bytes: int = 512 << 20
    """Most memory of transcripts kept after their reply; 0 computes every prompt anew."""


class Engine:
    """One model's decode loop.

    Args:
        decoder: runs the passes.
        limits: how much at once.
        threads: of one pass; `None` leaves torch's choice.
    """

    def __init__(self, decoder: Decoder, limits: Limits, *, threads: int | None = None) -> None:
        self._decoder = decoder
        self._limits = limits
        self._threads = threads
        self._waiting: deque[Row] = deque()
        self._active: list[Row] = []
        self._given_back = 0
        self._prefixes = PrefixStore(limits.kept_bytes if isinstance(decoder, PackedDecoder) else 0)
        self._changed = threading.Condition()
        self._closing = False
        self._told: list[tuple[Row, Any]] = []
        self._errands: deque[tuple[Callable[[], Any], Future[Any]]] = deque()
        self._withdrawn: WeakSet[Lora] = WeakSet()
        self._thread = threading.Thread(target=self._run, name="orchestra-local", daemon=True)
        self._thread.start()
        # A thread inside torch while the interpreter is torn down would crash the process.
        atexit.register(self.close)

    def submit(self, row: Row) -> None:
        """Queue a row; it joins before the next token if there is room."""
        with self._changed:
            if self._closing:
                raise ModelError("the local model is closed; open it again with open_model")
            self._waiting.append(row)
            self._changed.notify()

    def between_passes(self, errand: Callable[[Decoder], T]) -> T:
        """What `errand` returns, called with the decoder on the engine's thread; waits for the pass under way.

        Raises:
            ModelError: the engine is closed, or was before the errand's turn came.
        """
        done: Future[T] = Future()
        with self._changed:
            if self._closing:
                raise ModelError("the local model is closed; open it again with open_model")
            self._errands.append((lambda: errand(self._decoder), done))
            self._changed.notify()
        return done.result()

    def withdraw(self, lora: Lora) -> None:
        """Keep no transcript of `lora` any more; rows it was begun with end with it. Needs no pass to end."""
        self._withdrawn.add(lora)
        with contextlib.suppress(ModelError):  # a closed engine keeps nothing anyway
            self.between_passes(lambda _: self._prefixes.forget(lora))

    def close(self) -> None:
        """End the thread; rows in progress hear a `ModelError`. Calling it twice is harmless."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        if self._thread is not threading.current_thread():
            self._thread.join()
        atexit.unregister(self.close)

    @property
    def kept_bytes(self) -> int:
        """Memory of the transcripts kept at the moment."""
        return self._prefixes.bytes

    def _run(self) -> None:
        if self._threads is not None:
            torch.set_num_threads(self._threads)
        with torch.inference_mode():
            while self._wait_for_work():
                self._run_errands()
                try:
                    self._step()
                except Exception as cause:
                    self._fail_all(f"the local model failed: {type(cause).__name__}: {cause}")
                self._deliver()
            self._fail_all("the local model was closed while it answered; open it again and repeat the call")
        self._deliver()
        for _, done in self._errands:
            done.set_exception(ModelError("the local model was closed; open it again and repeat the call"))
        self._prefixes.clear()
        give_back_memory()

    def _wait_for_work(self) -> bool:
        with self._changed:
            while not (self._closing or self._waiting or self._active or self._errands):
                self._changed.wait()
            return not self._closing

    def _run_errands(self) -> None:
        while self._errands:
            errand, done = self._errands.popleft()
            try:
                done.set_result(errand())
            except Exception as cause:  # the errand's, for whoever sent it
                done.set_exception(cause)

    def _step(self) -> None:
        for row in [r for r in self._active if r.cancelled]:
            self._leave(row)
        self._admit()
        if not self._active:
            return
        parts, readers = self._parts()
        logits_RV = self._decoder.forward(parts)
        for row, part in zip(readers, parts, strict=True):
            row.length = part.start + len(part.token_ids)
        ready = [n for n, row in enumerate(readers) if row.length == len(row.ids)]
        if not ready:
            return
        if len(ready) < len(readers):
            logits_RV = logits_RV[ready]
        rows, logits_RV = self._sound([readers[n] for n in ready], logits_RV)
        for row, token_id, logprob in zip(rows, *draw(logits_RV, [r.chooser for r in rows]), strict=True):
            piece = row.take(token_id, logprob)
            if row.wants_pieces:
                self._told.append((row, piece))
            if row.end is not None:
                self._leave(row)
                self._told.append((row, row))

    def _sound(self, rows: list[Row], logits_RV: Tensor) -> tuple[list[Row], Tensor]:
        """Rows whose scores are numbers, and these scores; the others end with an error of their own."""
        finite = logits_RV.amax(dim=-1).isfinite().tolist()  # of what is no number, the greatest is none either
        if all(finite):
            return rows, logits_RV
        for row, is_finite in zip(rows, finite, strict=True):
            if not is_finite:
                self._turn_away(row, NO_NUMBERS)
        return [row for row, is_finite in zip(rows, finite, strict=True) if is_finite], logits_RV[finite]

    def _parts(self) -> tuple[list[Part], list[Row]]:
        """New tokens of every row: one each where a reply is under way, as many as allowed where a prompt is read."""
        parts, readers = [], []
        # A state that is not keys and values may only be right when the whole prompt is read at once.
        allowed = self._limits.prompt_tokens if isinstance(self._decoder, PackedDecoder) else sys.maxsize
        for row in self._active:
            missing = len(row.ids) - row.length
            count = 1 if missing == 1 else min(missing, allowed)
            if count == 0:
                continue
            if missing > 1:
                allowed -= count
            parts.append(Part(row.place, row.ids[row.length : row.length + count], row.length))
            readers.append(row)
        return parts, readers

    def _admit(self) -> None:
        with self._changed:
            waiting = [r for r in self._waiting if not r.cancelled]
            self._waiting.clear()
        left: list[Row] = []
        for number, row in enumerate(waiting):
            if len(self._active) >= self._limits.rows or not self._has_memory_for(row):
                left.extend(waiting[number:])
                break
            try:
                if not self._enter(row):
                    left.append(row)
            except Exception as cause:  # such as no memory for its arena: the others go on, and hear nothing of it
                self._turn_away(row, f"the local model cannot take this request: {type(cause).__name__}: {cause}")
        with self._changed:
            self._waiting.extendleft(reversed(left))

    def _has_memory_for(self, row: Row) -> bool:
        if not self._active or not isinstance(self._decoder, PackedDecoder):
            return True
        promised = sum(self._decoder.room(r.capacity) for r in (*self._active, row))
        return promised * self._decoder.shape.bytes_per_token <= self._limits.active_bytes

    def _enter(self, row: Row) -> bool:
        """Give a row its place and whatever beginning is known; `False` when it should wait for a neighbour's."""
        if not isinstance(self._decoder, PackedDecoder) or self._limits.kept_bytes == 0:
            row.place = self._decoder.enter(row.capacity, row.lora)
            self._active.append(row)
            return True
        most = len(row.prompt_ids) - 1  # the last token must be computed: its logits are the answer
        kept_length, kept = self._prefixes.match(row.prompt_ids[:most], row.lora)
        source, shared = self._best_neighbour(row.prompt_ids[:most], row.lora)
        there = 0 if source is None else min(shared, source.length)  # of what it will have, what it has computed
        if shared > max(kept_length, there) and shared - kept_length >= WORTH_COPYING:
            return False
        row.place = self._decoder.enter(row.capacity, row.lora)
        if source is not None and there > kept_length:
            self._decoder.share(source.place, row.place, there)
            row.length = there
        elif kept is not None:
            self._decoder.restore(row.place, kept.tensors, kept_length)
            self._prefixes.touch(kept)
            row.length, row.grown_from = kept_length, kept.key
        row.cached_tokens = row.length
        self._active.append(row)
        return True

    def _turn_away(self, row: Row, why: str) -> None:
        """End a row with an error of its own."""
        if row.place is not None:
            with contextlib.suppress(Exception):
                self._decoder.leave(row.place, {r.place: r.length for r in self._active})
        if row in self._active:
            self._active.remove(row)
        row.place = row.lora = row.grown_from = None
        self._told.append((row, ModelError(why)))

    def _best_neighbour(self, prompt_ids: tuple[int, ...], lora: Lora | None) -> tuple[Row | None, int]:
        """The row of the same adapter in progress that shares most with a prompt, and how much of it there will be."""
        best: Row | None = None
        best_length = WORTH_COPYING - 1
        for row in self._active:
            if row.lora is not lora:
                continue
            length = shared_length(row.prompt_ids, prompt_ids)
            if length > best_length:
                best, best_length = row, length
        return best, best_length if best is not None else 0

    def _leave(self, row: Row) -> None:
        worth_keeping = row.length >= WORTH_COPYING and row.lora not in self._withdrawn
        if isinstance(self._decoder, PackedDecoder) and self._limits.kept_bytes and worth_keeping:
            kept = Kept(tuple(row.ids[: row.length]), self._decoder.snapshot(row.place, row.length), row.lora)
            self._prefixes.add(kept, instead_of=row.grown_from)
        self._decoder.leave(row.place, {r.place: r.length for r in self._active})
        self._active.remove(row)
        row.place = row.lora = row.grown_from = None
        if self._prefixes.dropped_bytes - self._given_back >= GIVE_BACK_BYTES:
            self._given_back = self._prefixes.dropped_bytes
            give_back_memory()

    def _fail_all(self, why: str) -> None:
        with self._changed:
            failed = [*self._active, *self._waiting]
            self._waiting.clear()
        for row in failed:
            self._told.append((row, ModelError(why)))  # one each: every caller adds its own traceback
            if row.place is not None:
                with contextlib.suppress(Exception):
                    self._decoder.leave(row.place, {})
        self._active.clear()

    def _deliver(self) -> None:
        """Tell callers what happened in this pass, with one wake-up per event loop."""
        told, self._told = self._told, []
        by_loop: dict[AbstractEventLoop, list[tuple[Callable[[Any], None], Any]]] = {}
        for row, what in told:
            if row.loop is None:
                row.tell(what)
            else:
                by_loop.setdefault(row.loop, []).append((row.tell, what))
        for loop, calls in by_loop.items():
            try:
                loop.call_soon_threadsafe(_tell_all, calls)
            except RuntimeError:  # the loop was closed: nobody listens any more
                for row in self._active:
                    row.cancelled = row.cancelled or row.loop is loop


def _tell_all(calls: Sequence[tuple[Callable[[Any], None], Any]]) -> None:
    for tell, what in calls:
        tell(what)


def give_back_memory() -> None:
    """Return freed memory to the system where the C library can; glibc keeps hundreds of MiB of it otherwise."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)
