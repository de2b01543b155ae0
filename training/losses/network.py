"""A causal language model as training sees it: token ids in, log-probabilities of the trained tokens out."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from orchestra.errors import InputError
from training.losses.attention import ATTENTION, Layout, strands_attention
from training.losses.head import chunked_logprobs
from training.samples import Batch, Span, Strand, packed, unpacked

CHUNK_TOKENS = 256
"""Trained tokens whose scores over the vocabulary exist at once."""
AGREEMENT = {torch.float64: 1e-6, torch.float32: 1e-3, torch.bfloat16: 0.2, torch.float16: 0.03}
"""Root mean square difference of log-probabilities, in their own standard deviations, that the number format may
explain; a wrong mask or position is far above it."""


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """What a network says of the trained tokens of a batch."""

    logprobs_N: Tensor  # the axis is part of the name
    """`[N]` natural log, under the temperature that was sampled with, of all tokens: a truncation is not repeated."""
    entropies_N: Tensor
    """`[N]` nats, of the same distribution."""


def token_logprobs(network: Any, batch: Batch, *, chunk_tokens: int = CHUNK_TOKENS) -> Scored:
    """What `network` says of each trained token, under the temperature it was sampled with.

    Only trained positions reach the head, `chunk_tokens` at a time. A batch of several strands needs a network that
    `prepared` returned; a batch of one works with any. Wrap `TokenLogprobs` for DDP or FSDP, whose hooks hang on a
    module's call.

    Args:
        network: a causal language model of transformers, with or without peft's adapters.
        batch: of the adapter that is active.
        chunk_tokens: the peak of memory in the head is this times the vocabulary.
    """
    causal = _causal(network)
    device = next(causal.parameters()).device
    row = torch.from_numpy(np.stack([batch.token_ids_T, batch.positions_T])).to(device)
    inputs: dict[str, Any] = {"input_ids": row[:1], "position_ids": row[1:], "use_cache": False}
    if causal.config._attn_implementation == ATTENTION:
        inputs["layout"] = Layout.of(batch, device)
    elif len(batch.segments) > 1:
        raise InputError("a batch of several strands needs a network made ready by `training.losses.prepared`")
    # Adapters are kept in float32 and multiply in the network's own format, as everything else does.
    with torch.autocast(device.type, dtype=causal.dtype, enabled=causal.dtype in (torch.bfloat16, torch.float16)):
        hidden_TD = causal.get_decoder()(**inputs).last_hidden_state[0]
    chosen = torch.from_numpy(np.stack([batch.predictors_N, batch.targets_N])).to(device)
    logprobs_N, entropies_N = chunked_logprobs(
        hidden_TD.index_select(0, chosen[0]),
        causal.get_output_embeddings(),
        chosen[1],
        torch.from_numpy(batch.temperatures_N).to(device),
        chunk_tokens=chunk_tokens,
    )
    return Scored(logprobs_N, entropies_N)


class TokenLogprobs(nn.Module):
    """`token_logprobs` as a module, for wrappers whose hooks hang on a module's call."""

    def __init__(self, network: Any, chunk_tokens: int = CHUNK_TOKENS) -> None:
        super().__init__()
        self.network = network
        self.chunk_tokens = chunk_tokens

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """`[N]` log-probabilities and `[N]` entropies; wrappers look for tensors, which they find in a tuple."""
        scored = token_logprobs(self.network, batch, chunk_tokens=self.chunk_tokens)
        return scored.logprobs_N, scored.entropies_N


def prepared(network: Any) -> bool:
    """Make `network` ready for packed rows with shared prefixes; whether it can be.

    A network whose layers are not plain attention (recurrent ones, attention sinks, capped scores), or whose scores are
    changed after its head, is left as it was: train it with `training.samples.unpacked`. The answer is measured on a
    small row, not looked up.

    Raises:
        orchestra.errors.InputError: when not even a single strand gives the network's own log-probabilities.
    """
    from transformers import AttentionInterface

    causal = _causal(network)
    before = causal.config._attn_implementation
    with torch.no_grad(), _evaluating(causal):
        if before == ATTENTION:
            return True
        probes = _probes(causal.config.get_text_config())
        # The shortest path through the model's own forward pass: it knows of softcaps and scales after the head.
        expected = [_own_logprobs(causal, strand) for strand in probes]
        alone = [token_logprobs(network, batch).logprobs_N for batch in unpacked(probes)]
        if not _agree(expected, alone, causal.dtype):
            raise InputError(
                f"{type(causal).__name__} changes its scores after its head, so log-probabilities made in chunks are "
                "not its own; it cannot be trained with this loss"
            )
        AttentionInterface.register(ATTENTION, strands_attention)
        try:
            causal.set_attn_implementation(ATTENTION)
            (batch,) = packed(probes, sum(len(strand.token_ids) for strand in probes))
            logprobs = token_logprobs(network, batch).logprobs_N.cpu().double().numpy()
            together = [torch.from_numpy(part) for _, part in sorted(batch.apart(logprobs).items())]
            agrees = _agree(expected, together, causal.dtype)
        # Architectures refuse in any of these ways (a missing operation is a RuntimeError too): one by one, then.
        except (TypeError, ValueError, RuntimeError):
            agrees = False
        if not agrees:
            causal.set_attn_implementation(before)
        return agrees


def _causal(network: Any) -> Any:
    """The causal language model under peft's wrapping; adapters are layers in it."""
    return network.get_base_model() if hasattr(network, "get_base_model") else network


@contextlib.contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    was = module.training
    module.eval()
    try:
        yield
    finally:
        module.train(was)


def _probes(config: Any) -> list[Strand]:
    """Three strands, two of which share a prefix, longer than small windows of attention."""
    window = getattr(config, "sliding_window", None)
    shared = min(window + 8, 1100) if isinstance(window, int) else 24
    ids = np.random.default_rng(0).integers(0, config.vocab_size, size=(3, shared + 24))
    ids[1, :shared] = ids[0, :shared]
    return [
        Strand(
            agent="probe",
            episode_id=str(at),
            seat=0,
            node="probe",
            token_ids=row.astype(np.int64),
            spans=(Span(turn=0, start=shared - 2, end=shared + 5), Span(turn=1, start=shared + 9, end=len(row))),
            logprobs=np.zeros(len(row) - shared - 2),
        )
        for at, row in enumerate(ids)
    ]


def _own_logprobs(causal: Any, strand: Strand) -> Tensor:
    device = next(causal.parameters()).device
    ids = torch.from_numpy(strand.token_ids[None]).to(device)
    logits = causal(input_ids=ids, use_cache=False).logits[0]
    targets = torch.from_numpy(strand.targets()).to(device)
    logs = torch.log_softmax(logits[targets - 1].double(), dim=-1)
    return logs.gather(1, ids[0, targets][:, None])[:, 0]


def _agree(expected: list[Tensor], got: list[Tensor], dtype: torch.dtype) -> bool:
    wanted, found = torch.cat(expected).cpu().double(), torch.cat(got).cpu().double()
    difference = (found - wanted).square().mean().sqrt() / wanted.std()
    return bool(difference <= AGREEMENT[dtype])
