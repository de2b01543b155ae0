"""LoRA inside a pass: the tokens of each row are changed by their row's own adapter, or by none.

A layer adds `B (A x)`, with the scale already in `B`, to the tokens of each adapter's rows; the decoder lays rows of
one adapter side by side, so that these are a slice. A layer is touched when the first adapter that changes it is
loaded, and a pass in which no row has an adapter does nothing more than see that there is none: base replies are
bit-equal to those of an engine that never saw an adapter.

Source:
    Hu et al. 2021, "LoRA: Low-Rank Adaptation of Large Language Models", arXiv:2106.09685, equation 3; Chen et al.
    2023, "Punica: Multi-Tenant LoRA Serving", arXiv:2310.18547, section 4 (one pass, many adapters).
    Deviation: two products per adapter and layer instead of a gathered kernel, which is enough for the handful of
    adapters of a team; the scale is multiplied into B; on a CPU A and B are float32 whatever the base weights are.
"""

import hashlib
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from orchestra.errors import InputError
from orchestra.plugins import closest

PREFIX, DOWN, UP = "base_model.model.", ".lora_A.weight", ".lora_B.weight"
"""How peft names the two matrices of a layer."""


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Lora:
    """One adapter, ready for passes; two of them are never equal, whatever their numbers."""

    served: str
    """Name and version."""
    digest: str
    """SHA-256 of its numbers and scale as they were given."""
    factors: Mapping[str, tuple[Tensor, Tensor]]
    """By layer: A, `[inputs, rank]`, and B with the scale in it, `[rank, outputs]`."""

    @property
    def bytes(self) -> int:
        """Memory it holds."""
        return sum(t.numel() * t.element_size() for pair in self.factors.values() for t in pair)


Group = tuple[int, int, Lora]
"""Tokens from the first number to before the second are changed by the adapter."""


class _Pass(threading.local):
    """The adapters of the pass this thread is in; layers have no other way to hear of them."""

    groups: tuple[Group, ...] = ()
    tokens: int = 0
    seen: set[str] | None = None
    """Layers that changed something, for whoever wants to know."""
    read: Tensor | None = None
    """What the latest layer read; those of one block read the same."""
    converted: Tensor | None = None
    """The same in the adapters' number format, `[T, D]`."""


_PASS = _Pass()


@contextmanager
def applied(groups: Sequence[Group], tokens: int) -> Iterator[None]:
    """Layers change their tokens by `groups` while the block runs.

    Args:
        groups: in the order of the sequence, apart from each other.
        tokens: of the sequence.
    """
    _PASS.groups, _PASS.tokens = tuple(groups), tokens
    try:
        yield
    finally:
        _PASS.groups, _PASS.read, _PASS.converted = (), None, None


@contextmanager
def watched() -> Iterator[set[str]]:
    """The layers that adapters reach while the block runs."""
    _PASS.seen = seen = set[str]()
    try:
        yield seen
    finally:
        _PASS.seen = None


class Layers:
    """The linear layers of one network that adapters may change.

    Args:
        network: a causal language model of transformers. Its output embedding is left out: it sees the last token of a
            row alone.
    """

    def __init__(self, network: Any) -> None:
        head = network.get_output_embeddings()
        self._modules: dict[str, nn.Linear] = {
            name: module for name, module in network.named_modules() if type(module) is nn.Linear and module is not head
        }
        self._others = {name: type(module).__name__ for name, module in network.named_modules() if name}
        self._touched: set[str] = set()
        self._lock = threading.Lock()

    @property
    def shapes(self) -> Mapping[str, tuple[int, int]]:
        """By layer, outputs and inputs."""
        return {name: (layer.out_features, layer.in_features) for name, layer in self._modules.items()}

    def lora(self, served: str, tensors: Mapping[str, Tensor], scale: float) -> Lora:
        """The adapter of peft's `tensors`, copied in the weights' number format and place.

        Raises:
            InputError: it does not fit these layers; every reason is told.
        """
        pairs, faults = _paired(tensors)
        factors: dict[str, tuple[Tensor, Tensor]] = {}
        for name, pair in pairs.items():
            fault = self._misfit(name, pair)
            if fault is not None:
                faults.append(fault)
                continue
            weight = self._modules[name].weight
            # On a CPU, small products are several times faster in float32 than in bfloat16, and exact besides.
            kind = torch.float32 if weight.device.type == "cpu" else weight.dtype
            down, up = (half.detach().to(device=weight.device, dtype=torch.float32) for half in pair)
            factors[name] = (down.to(kind, copy=True).t().contiguous(), (up * scale).to(kind).t().contiguous())
        if not pairs and not faults:
            faults.append("it holds no LoRA matrices")
        if not all(bool(torch.isfinite(half).all()) for pair in factors.values() for half in pair):
            faults.append("it holds numbers that are infinite or not numbers")
        if scale == 0:
            faults.append("its alpha is 0, which multiplies everything it learned by zero")
        if faults:
            raise InputError(f"adapter {served!r} cannot be used: {'; '.join(_shortened(faults))}")
        return Lora(served, digest(tensors, scale), factors)

    def touch(self, lora: Lora) -> None:
        """Make the layers `lora` changes listen for adapters; a pass under way is not disturbed."""
        with self._lock:
            for name in lora.factors.keys() - self._touched:
                layer = self._modules[name]
                layer.forward = _adapted(name, layer.forward)  # type: ignore[method-assign, assignment]  # on purpose
                self._touched.add(name)

    def _misfit(self, name: str, pair: tuple[Tensor, Tensor]) -> str | None:
        layer = self._modules.get(name)
        if layer is None:
            kind = self._others.get(name)
            if kind == "Linear":
                return f"it changes {name!r}, the output embedding; train the layers below it"
            if kind is not None:
                return f"it changes {name!r}, which is no linear layer but {kind}; train linear layers alone"
            return f"it changes {name!r}, which the base does not have; {closest(name, self._modules)[:200]}"
        rank, (outputs, inputs) = pair[0].shape[0], layer.weight.shape
        for half, expected in zip(pair, ((rank, inputs), (outputs, rank)), strict=True):
            if tuple(half.shape) != expected:
                return (
                    f"a matrix of {name!r} is {' × '.join(map(str, half.shape))} where this base asks for "
                    f"{expected[0]} × {expected[1]}: it was trained over another base"
                )
        return None


def digest(tensors: Mapping[str, Tensor], scale: float) -> str:
    """SHA-256 of an adapter's numbers and scale."""
    found = hashlib.sha256(repr(scale).encode())
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        found.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        found.update(tensor.view(torch.uint8).numpy().data)
    return found.hexdigest()


def _paired(tensors: Mapping[str, Tensor]) -> tuple[dict[str, tuple[Tensor, Tensor]], list[str]]:
    """By layer, A and B; and what is no such matrix, in words."""
    faults, halves = [], dict[str, dict[str, Tensor]]()
    for name, tensor in tensors.items():
        ending = DOWN if name.endswith(DOWN) else UP
        layer = name.removesuffix(ending)
        if layer == name or ".lora_" in layer or tensor.dim() != 2:
            faults.append(f"{name!r} is no matrix of plain LoRA over a linear layer")
        else:
            halves.setdefault(layer.removeprefix(PREFIX), {})[ending] = tensor
    faults += [f"{name!r} has only one of its two matrices" for name, found in halves.items() if len(found) < 2]
    return {name: (found[DOWN], found[UP]) for name, found in halves.items() if len(found) == 2}, faults


def _shortened(faults: Sequence[str]) -> list[str]:
    """An adapter for another base is wrong in every layer; a few of them say so."""
    return [*faults] if len(faults) <= 3 else [*faults[:3], f"and {len(faults) - 3} more"]


def _adapted(name: str, inner: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    def forward(states: Tensor) -> Tensor:
        out = inner(states)
        if _PASS.groups:
            _add(name, states, out)
        return out

    return forward


def _add(name: str, states: Tensor, out: Tensor) -> None:
    sum_TO = out.view(-1, out.shape[-1])
    tokens = sum_TO.shape[0]
    if tokens != _PASS.tokens:
        raise NotImplementedError(f"layer {name!r} does not see every token of a pass, so no adapter can change it")
    if _PASS.seen is not None:
        _PASS.seen.add(name)
    for begin, end, lora in _PASS.groups:
        pair = lora.factors.get(name)
        if pair is None:
            continue
        down_DR, up_RO = pair
        flat_TD = _converted(states, down_DR.dtype)
        if end - begin == tokens:
            sum_TO.add_(flat_TD.mm(down_DR).mm(up_RO))
        else:
            sum_TO[begin:end].add_(flat_TD[begin:end].mm(down_DR).mm(up_RO))


def _converted(states: Tensor, kind: torch.dtype) -> Tensor:
    if states is not _PASS.read or _PASS.converted is None:
        _PASS.read, _PASS.converted = states, states.reshape(-1, states.shape[-1]).to(kind)
    return _PASS.converted
