"""From a folder to a network that answers: formats, number format, and the check that rows may be packed.

A GGUF file is unpacked to bfloat16 once, through transformers, and kept as safetensors in the user's cache, because
unpacking takes many seconds and reading the result takes a fraction of one.
"""

import contextlib
import json
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor
from transformers import AttentionInterface, AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging as transformers_logging

from orchestra.errors import InputError
from orchestra.models import weights
from orchestra.models.local.attention import ATTENTION, packed_attention
from orchestra.models.local.linear import lay_out
from orchestra.models.local.lora import Layers
from orchestra.models.local.packed import PackedDecoder, Part
from orchestra.models.local.places import Shape
from orchestra.models.local.solo import SoloDecoder

DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}
AGREEMENT = {torch.float32: 1e-3, torch.bfloat16: 0.2, torch.float16: 0.03}
"""Root mean square difference of logits, in their own standard deviations, that the number format may explain; a wrong
mask or position is far above it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A network ready to answer."""

    decoder: PackedDecoder | SoloDecoder
    layers: Layers
    """What adapters may change."""
    tokenizer: Any
    end_ids: frozenset[int]
    context_tokens: int | None
    dtype: str
    device: str
    vocabulary: int


def load(path: Path, *, dtype: str | None, device: str | None) -> Loaded:
    """Open the weights at `path`.

    Args:
        path: a folder with `config.json`, or a GGUF file or a folder of one.
        dtype: of `DTYPES`; `None` picks what this machine is fast in.
        device: of torch; `None` picks CUDA where there is one.

    Raises:
        orchestra.errors.InputError: when the weights are not of a causal language model.
    """
    where = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    number_format = DTYPES[dtype] if dtype is not None else fast_dtype(where)
    folder = dense_folder(path)
    with _quiet():
        try:
            tokenizer = AutoTokenizer.from_pretrained(folder)
            network: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=number_format)
        except (OSError, ValueError, KeyError) as cause:
            raise InputError(
                f"{str(path)!r} does not open as a causal language model: {str(cause).strip().splitlines()[0]}; "
                "it must hold config.json, a tokenizer and weights as transformers saves them"
            ) from cause
    network = network.to(where).eval()
    lay_out(network)
    text_config = network.config.get_text_config()
    limit = getattr(text_config, "max_position_embeddings", None)
    return Loaded(
        decoder=decoder_of(network, where),
        layers=Layers(network),
        tokenizer=tokenizer,
        end_ids=_end_ids(network, tokenizer),
        context_tokens=int(limit) if limit else None,
        dtype=str(number_format).removeprefix("torch."),
        device=where.type,
        vocabulary=int(text_config.vocab_size),
    )


def dense_folder(path: Path) -> Path:
    """A folder transformers opens at once: `path` itself, or what its GGUF file was unpacked to."""
    gguf = weights.gguf_in(path)
    if gguf is None:
        return path
    cache = weights.cache_dir()
    inside = gguf.resolve().is_relative_to(cache.resolve())
    target = gguf.parent / "dense" if inside else cache / "dense" / weights.content_hash(path)[:16]
    if not (target / "config.json").is_file():
        _unpack(gguf, target)
    return target


def _unpack(gguf: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(dir=target.parent, prefix=".dense-"))
    try:
        with _quiet():
            network: Any = AutoModelForCausalLM.from_pretrained(
                gguf.parent,
                gguf_file=gguf.name,
                quantization_config=transformers.GgufConfig(dequantize=True),
                dtype=torch.bfloat16,
            )
            network.save_pretrained(staging)
            AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(staging)
        with contextlib.suppress(OSError):  # another process was faster, with the same result
            staging.replace(target)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def fast_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 where this machine multiplies faster in it, else float32; measured once and remembered.

    Remembered, since the number format is part of a model's fingerprint and must not follow the weather.
    """
    if device.type != "cpu":
        return torch.bfloat16
    memory = weights.cache_dir() / "processor.json"
    name = _processor()
    known = (weights.remembered(memory) or {}).get(name)
    if known in DTYPES:
        return DTYPES[str(known)]
    seconds = {dtype: _multiplying_seconds(dtype) for dtype in (torch.bfloat16, torch.float32)}
    best = min(seconds, key=lambda dtype: seconds[dtype])
    weights.write_whole(memory, json.dumps({name: str(best).removeprefix("torch.")}) + "\n")
    return best


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return f"{platform.machine()} {line.partition(':')[2].strip()}"
    return f"{platform.machine()} {platform.processor()}"


def _multiplying_seconds(dtype: torch.dtype) -> float:
    """The best of several products of the size one layer of a small model has in a step of 16 rows."""
    left, right = torch.zeros(16, 1024, dtype=dtype), torch.zeros(4096, 1024, dtype=dtype)
    best = float("inf")
    for _ in range(12):
        began = time.perf_counter()
        torch.nn.functional.linear(left, right)
        best = min(best, time.perf_counter() - began)
    return best


def sensible_threads() -> int:
    """The choice torch makes, but never more than this process may use."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with contextlib.suppress(OSError, ValueError):
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
        if quota != "max":
            allowed = min(allowed, max(1, round(int(quota) / int(period))))
    return max(1, min(torch.get_num_threads(), allowed))


def free_bytes(device: str) -> int:
    """Memory that a model on `device` may use: what is free on a GPU, else `usable_bytes`."""
    if torch.device(device).type == "cuda":
        return int(torch.cuda.mem_get_info(torch.device(device))[0])
    return usable_bytes()


def usable_bytes() -> int:
    """Memory of the machine, or of this process's share of it; 4 GiB where the system does not say."""
    usable = 4 << 30
    with contextlib.suppress(AttributeError, OSError, ValueError):
        usable = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with contextlib.suppress(OSError, ValueError):  # "max" is no number
        usable = min(usable, int(Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii")))
    return usable


@torch.inference_mode()
def decoder_of(network: Any, device: torch.device) -> PackedDecoder | SoloDecoder:
    """Packed rows where they give what the model's own pass gives; else row by row."""
    ids = [(7 * i + 3) % int(network.config.get_text_config().vocab_size) for i in range(12)]
    solo = SoloDecoder(network, device)
    if _turns_by_length(network.config.get_text_config().to_dict()):
        return solo
    with contextlib.suppress(Exception):  # any architecture may fail in its own way here; it then runs row by row
        out = network(input_ids=torch.tensor([ids], device=device), use_cache=True)
        expected_TV = out.logits[0]
        shape = _shape(out.past_key_values, expected_TV.dtype, device)
        before = network.config._attn_implementation
        AttentionInterface.register(ATTENTION, packed_attention)
        network.set_attn_implementation(ATTENTION)
        packed = PackedDecoder(network, shape)
        with contextlib.suppress(Exception):
            if _agree(packed, ids, expected_TV):
                return PackedDecoder(network, shape)
        network.set_attn_implementation(before)
    return solo


def _turns_by_length(config: Any) -> bool:
    """Whether positions are encoded by the longest row of a pass, so that rows would change one another."""
    if isinstance(config, Mapping):
        by_length = config.get("rope_type", config.get("type")) in ("longrope", "dynamic")
        return by_length or any(_turns_by_length(each) for each in config.values())
    return False


def _shape(cache: Any, dtype: torch.dtype, device: torch.device) -> Shape:
    kinds = {
        (layer.keys.shape[1], layer.keys.shape[-1], layer.values.shape[-1], layer.keys.dtype) for layer in cache.layers
    }
    ((heads, key_size, value_size, kept_dtype),) = kinds
    return Shape(
        layers=len(cache.layers),
        heads=heads,
        key_size=key_size,
        value_size=value_size,
        dtype=kept_dtype,
        device=device,
    )


def _agree(packed: PackedDecoder, ids: list[int], expected_TV: Tensor) -> bool:
    """Whether two rows, read in unequal pieces beside each other, end as the model's own pass does."""
    first, second = packed.enter(len(ids)), packed.enter(len(ids))
    packed.forward([Part(first, ids[:5], 0), Part(second, ids[:1], 0)])
    packed.forward([Part(first, ids[5:8], 5), Part(second, ids[1:7], 1)])
    got_RV = packed.forward([Part(first, ids[8:9], 8), Part(second, ids[7:8], 7)])
    wanted_RV = expected_TV[[8, 7]].float()
    difference = (got_RV.float() - wanted_RV).square().mean().sqrt() / wanted_RV.std()
    return bool(difference <= AGREEMENT[expected_TV.dtype])


def _end_ids(network: Any, tokenizer: Any) -> frozenset[int]:
    ids: set[int] = set()
    generation = getattr(network, "generation_config", None)
    for source in (generation, network.config, tokenizer):
        value = getattr(source, "eos_token_id", None)
        if isinstance(value, int):
            ids.add(value)
        elif value is not None:
            ids.update(int(v) for v in value)
    return frozenset(ids)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """No progress bars of transformers, and whatever was set before is set again."""
    shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # transformers has no types here
    try:
        yield
    finally:
        if shown:
            transformers_logging.enable_progress_bar()  # type: ignore[no-untyped-call]  # transformers has no types here
