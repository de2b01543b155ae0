"""Weights laid out the way the processor's matrix routine reads them, once, instead of on every product.

oneDNN otherwise reads row-major weights, which costs a third of the time of a step of few tokens. The routine is one
that torch's own compiler emits; where this build of torch lacks it, or gives another result, the layers stay as they
are.
"""

import contextlib
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

LIMIT_BYTES = 2 << 30
"""The laid-out weights are a second copy; models whose copy would be larger keep the first alone."""
TYPICAL_TOKENS = 16
"""Tokens of the step the layout is chosen for; others work with it too."""


def lay_out(network: nn.Module) -> int:
    """Lay out every linear layer of `network` in place; how many there were, 0 when nothing was changed."""
    layers = [m for m in network.modules() if type(m) is nn.Linear and m.weight.dtype == torch.bfloat16]
    size = sum(layer.weight.numel() * layer.weight.element_size() for layer in layers)
    if not layers or size > LIMIT_BYTES or layers[0].weight.device.type != "cpu":
        return 0
    with contextlib.suppress(RuntimeError, AttributeError, NotImplementedError):
        if not _agrees(layers[0]):
            return 0
        packed = [_laid_out(layer.weight) for layer in layers]
        for layer, weight in zip(layers, packed, strict=True):
            layer.forward = MethodType(_forward_with(weight), layer)  # type: ignore[method-assign]  # on purpose
        return len(layers)
    return 0


def _laid_out(weight: Tensor) -> Tensor:
    laid: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight.detach(), TYPICAL_TOKENS)
    return laid


def _forward_with(weight: Tensor) -> Any:
    product = torch.ops.mkldnn._linear_pointwise

    def forward(layer: nn.Linear, states: Tensor) -> Tensor:
        out: Tensor = product(states, weight, layer.bias, "none", [], "")
        return out

    return forward


def _agrees(layer: nn.Linear) -> bool:
    states = torch.linspace(-1, 1, 3 * layer.in_features, dtype=torch.float32).reshape(3, -1).to(layer.weight.dtype)
    expected = functional.linear(states, layer.weight, layer.bias)
    got: Tensor = torch.ops.mkldnn._linear_pointwise(states, _laid_out(layer.weight), layer.bias, "none", [], "")
    return bool((got - expected).abs().max() <= 0.05 * expected.abs().max())
