"""The adapters of an engine: loaded by name and version, from memory or from a folder, and gone when nobody needs them.

Live weights, which a trainer publishes without writing them anywhere, are known to every engine of the same base in
this process: each takes its own copy when it is first asked. A name and version always means one set of numbers.

An adapter from a folder with a probe beside it is loaded only if the engine computes with it what its trainer computed;
who publishes live weights compares them himself.
"""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from weakref import WeakSet

import torch
from safetensors.torch import load_file
from torch import Tensor

from orchestra.errors import InputError, ModelError
from orchestra.gate import TOLERANCE_NATS, check
from orchestra.models import adapters, weights
from orchestra.models.local.engine import Decoder, Engine
from orchestra.models.local.lora import Layers, Lora, digest, watched
from orchestra.models.local.packed import PackedDecoder, Part
from orchestra.models.peft_files import TENSORS, Adapter, defects
from orchestra.models.serving.probes import FILE, Probe
from orchestra.plugins import closest

SCORED_TOKENS = 64
"""Tokens scored in one pass; their logits are `[64, vocabulary]`."""


@dataclass(frozen=True, slots=True)
class _Live:
    """Weights in memory, as a trainer gave them."""

    tensors: Mapping[str, Tensor]
    scale: float
    digest: str


@dataclass(slots=True)
class _Base:
    """What all engines of one base in this process share."""

    live: dict[str, _Live] = field(default_factory=dict)
    shelves: "WeakSet[Shelf]" = field(default_factory=WeakSet)


_BASES: dict[str, _Base] = {}
_LOCK = threading.RLock()
"""Held for loading too: an adapter is copied in milliseconds, and never twice."""


def publish(root: Path, served: str, tensors: Mapping[str, Tensor], scale: float) -> None:
    """Make weights in memory known to every engine of the base at `root`, those opened later too.

    Args:
        root: folder of the base, resolved.
        served: name and version.
        tensors: by peft's names; copied.
        scale: what `B A x` is multiplied by.

    Raises:
        InputError: other numbers are known by that name and version.
    """
    fresh = digest(tensors, scale)
    with _LOCK:
        base = _BASES.setdefault(str(root), _Base())
        known = base.live.get(served)
        if known is not None and known.digest != fresh:
            raise InputError(f"adapter {served!r} is published already with other numbers; give these a new version")
        if known is None:
            copies = {name: tensor.detach().clone() for name, tensor in tensors.items()}
            base.live[served] = _Live(copies, scale, fresh)


def withdraw(root: Path, served: str) -> bool:
    """Forget live weights everywhere; rows begun with them end with them. Whether there were any."""
    with _LOCK:
        base = _BASES.get(str(root), _Base())
        there = base.live.pop(served, None) is not None
        shelves = list(base.shelves)
    for shelf in shelves:
        shelf.drop(served)
    return there


@dataclass(slots=True)
class _Loaded:
    lora: Lora
    holders: int = 0
    """Open models that were opened with it from a folder; live weights are held by whoever published them."""


class Shelf:
    """What one engine has loaded.

    Args:
        engine: serves it.
        layers: of its network.
        root: folder of the base, resolved.
        hashes: of the base's weights, in every form they have; empty believes every card.
        vocabulary: ids the base has; `None` believes every probe's.
    """

    def __init__(
        self,
        engine: Engine,
        layers: Layers,
        root: Path,
        hashes: Sequence[str] = (),
        *,
        vocabulary: int | None = None,
    ) -> None:
        self._engine, self._layers, self._root, self._hashes = engine, layers, root, tuple(hashes)
        self._vocabulary = vocabulary
        self._loaded: dict[str, _Loaded] = {}
        self._proven: set[str] = set()
        self._base = _BASES.setdefault(str(root), _Base())
        self._base.shelves.add(self)

    def named(self, wanted: str) -> str:
        """Name and version of `wanted`: live weights first, the latest of them for a bare name, then the user's folder.

        Raises:
            InputError: there is none.
        """
        with _LOCK:
            live = [served for served in self._base.live if wanted in (served, served.partition("@")[0])]
        if live:
            return live[-1]
        if wanted in self._loaded:
            return wanted
        try:
            return adapters.found(wanted).served
        except InputError as cause:
            near = {served.partition("@")[0] for served in self._base.live}
            raise InputError(f"{cause}; live: {closest(wanted, near)}") if near else cause from None

    def hold(self, wanted: str) -> str:
        """Load the adapter `wanted` and keep it until it is let go; its name and version.

        Raises:
            InputError: there is none, or it is not for this base; every reason is told.
            orchestra.gate.NotPublished: it computes something else than the probe beside it says.
        """
        with _LOCK:
            served = self.named(wanted)
            self._take(served, wanted).holders += 1
            return served

    def let_go(self, served: str) -> None:
        """Undo one `hold`; the last one frees its memory unless it is live."""
        with _LOCK:
            loaded = self._loaded.get(served)
            if loaded is None:
                return
            loaded.holders -= 1
            if loaded.holders > 0 or served in self._base.live:
                return
            del self._loaded[served]
        self._engine.withdraw(loaded.lora)

    def lora(self, served: str) -> Lora:
        """The adapter called `served`, if it is loaded or live.

        Raises:
            ModelError: it is neither.
        """
        with _LOCK:
            if served in self._loaded or served in self._base.live:
                return self._take(served, served).lora
            known = sorted({*self._loaded, *self._base.live})
        raise ModelError(
            f"adapter {served!r} is not loaded: it was withdrawn, or never published here; {closest(served, known)}"
        )

    def has(self, served: str) -> bool:
        """Whether `lora` would give it."""
        return served in self._loaded or served in self._base.live

    def drop(self, served: str) -> None:
        """Forget the adapter and what was computed with it."""
        with _LOCK:
            loaded = self._loaded.pop(served, None)
        if loaded is not None:
            self._engine.withdraw(loaded.lora)

    def logprobs(self, served: str | None, token_ids: Sequence[int]) -> tuple[float, ...]:
        """Natural log-probability of each id but the first after all before it, as the engine computes it.

        Args:
            served: with this adapter; `None` is the base alone.
            token_ids: at least two.
        """
        lora = None if served is None else self.lora(served)
        return self._engine.between_passes(lambda decoder: _scored(decoder, token_ids, lora))

    def _take(self, served: str, wanted: str) -> _Loaded:
        live = self._base.live.get(served)
        if served not in self._loaded:
            probe: Probe | None = None
            if live is None:
                adapter = adapters.found(wanted)
                lora, probe = self._read(adapter), self._probe_of(adapter)
            else:
                lora = self._layers.lora(served, live.tensors, live.scale)
            self._layers.touch(lora)
            if not lora.factors.keys() <= self._proven:
                self._engine.between_passes(lambda decoder: _reached(decoder, lora))
                self._proven |= lora.factors.keys()
            if probe is not None:
                self._admit(lora, probe)
            self._loaded[served] = _Loaded(lora)
        elif Path(wanted).is_dir() and self._read(adapters.found(wanted)).digest != self._loaded[served].lora.digest:
            raise InputError(f"another adapter {served!r} than that at {wanted!r} is loaded; give one a new version")
        return self._loaded[served]

    def _read(self, adapter: Adapter) -> Lora:
        card = adapter.card
        if card is not None and card.base_sha256 and self._hashes and card.base_sha256 not in self._hashes:
            raise InputError(
                f"adapter {adapter.served!r} was trained over {card.base!r} with the weights "
                f"{card.base_sha256[:12]}…, and this base has {self._hashes[0][:12]}…; open it over its own base"
            )
        broken = defects(adapter, None)
        if broken:
            raise InputError(f"adapter {adapter.served!r} at {str(adapter.path)!r} cannot be used: {'; '.join(broken)}")
        return self._layers.lora(adapter.served, load_file(adapter.path / TENSORS), adapter.scale)

    def _probe_of(self, adapter: Adapter) -> Probe | None:
        """What its trainer left beside it; `None` when it left nothing."""
        place = adapter.path / FILE
        if not place.is_file():
            return None
        probe = Probe.read(place)
        if self._vocabulary is not None and not 0 <= min(probe.token_ids) <= max(probe.token_ids) < self._vocabulary:
            raise InputError(
                f"the probe {str(place)!r} holds ids that this base does not have (it has {self._vocabulary}): "
                f"adapter {adapter.served!r} was trained over another base; open it over its own"
            )
        return probe

    def _admit(self, lora: Lora, probe: Probe) -> None:
        """Refuse an adapter that computes otherwise than its trainer says; the lock is held, as for `_reached`."""
        # One errand, not `logprobs` twice: the adapter is not loaded yet, and is nobody's to find before it passed.
        found, base = self._engine.between_passes(
            lambda decoder: tuple(
                _scored(decoder, probe.token_ids, worn)[-len(probe.logprobs) :] for worn in (lora, None)
            )
        )
        check(lora.served, expected=probe.logprobs, found=found, base=base, tolerance_nats=TOLERANCE_NATS)


def hashes_of(path: Path, dense: Path) -> tuple[str, ...]:
    """What a card may call the base at `path`: its hash, and that of the folder it was unpacked to."""
    return tuple(dict.fromkeys(weights.content_hash(place) for place in (path, dense)))


def _scored(decoder: Decoder, token_ids: Sequence[int], lora: Lora | None) -> tuple[float, ...]:
    place: Any = decoder.enter(len(token_ids), lora)
    found: list[float] = []
    try:
        # A state that is not keys and values may only be right when it is read whole.
        step = SCORED_TOKENS if isinstance(decoder, PackedDecoder) else len(token_ids)
        for start in range(0, len(token_ids) - 1, step):
            stop = min(start + step, len(token_ids) - 1)
            logits_TV = decoder.forward_all(Part(place, tuple(token_ids[start:stop]), start))
            wanted_T = torch.tensor(token_ids[start + 1 : stop + 1], device=logits_TV.device)
            logprobs_TV = torch.log_softmax(logits_TV.float(), dim=-1)
            found.extend(logprobs_TV.gather(1, wanted_T[:, None])[:, 0].tolist())
    finally:
        decoder.leave(place, {})
    return tuple(min(0.0, value) for value in found)


def _reached(decoder: Decoder, lora: Lora) -> None:
    """See that every layer the adapter changes is asked in a pass: some networks read a layer's weights themselves."""
    with watched() as seen:
        try:
            _scored(decoder, (0, 1, 2), lora)
        except NotImplementedError as cause:
            raise InputError(f"adapter {lora.served!r} cannot be used: {cause}") from cause
    unreached = sorted(lora.factors.keys() - seen)
    if unreached:
        raise InputError(
            f"adapter {lora.served!r} cannot be used: this network reads the weights of {unreached[0]!r} itself, "
            f"where no adapter can reach them ({len(unreached)} such layers); train others"
        )
