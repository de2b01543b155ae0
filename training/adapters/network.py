"""Base weights with the adapters of several agents over them, in one network.

The base is frozen and may be bfloat16; adapters are float32, as their optimiser's state is. Every adapter stays
trainable whichever is active: gradients reach the active one alone, so agents take turns within one step.
"""

import hashlib
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from orchestra.errors import InputError, OrchestraError
from orchestra.plugins import closest
from training.losses import TokenLogprobs, prepared
from training.samples import Span, Strand, unpacked

AGENT = r"^[A-Za-z0-9_-]+$"
"""What an agent may be called: part of an adapter's name, and of torch's names of parameters."""
DTYPES = {"bfloat16": torch.bfloat16, "float32": torch.float32}
"""Of the base. Not float16: a token's part of a step's gradient is too small for its exponent."""
VERSION_DIGITS = 12
"""Hexadecimal digits of a version, which is a hash."""
SCORED_TOKENS = 256
"""Most ids of a probe."""


class NotFinite(OrchestraError, ArithmeticError):
    """A loss, a gradient or a log-probability is not a number, or infinite."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """How large an agent's adapter is, and which layers it changes."""

    rank: int = 16
    alpha: float = 32.0
    targets: tuple[str, ...] = ()
    """Names of linear layers, such as `q_proj`; empty means all but the head."""
    initial_b: float = 0.0
    """Standard deviation that B begins with: 0 begins as the base. Servers that refuse adapters which change nothing
    want a little."""

    def __post_init__(self) -> None:
        if self.rank < 1 or self.alpha == 0 or self.initial_b < 0:
            raise InputError(f"a rank is at least 1, an alpha not 0 and initial_b not negative, got {self}")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LiveWeights:
    """One agent's adapter at one moment, on the CPU; what publishers take."""

    name: str
    version: str
    base: str
    rank: int
    alpha: float
    tensors: Mapping[str, Tensor]
    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    """Of `token_ids[1:]`, natural, as the trainer's network computes them."""
    folder: Path | None = None

    @property
    def served(self) -> str:
        """Name and version."""
        return f"{self.name}@{self.version}"


@dataclass(slots=True, eq=False)
class Adapted:
    """A network with one adapter for each agent; made by `adapted`."""

    network: Any
    """peft's, in evaluation mode unless a pass for gradients needs otherwise."""
    shapes: Mapping[str, Shape]
    base: str
    """What the base is opened by."""
    packs: bool
    """Whether it takes packed rows (`training.losses.prepared`)."""
    scorer: Any
    """`training.losses.TokenLogprobs` over the network, or what several processes wrapped around it."""

    @property
    def agents(self) -> tuple[str, ...]:
        """Names, in the order they were given."""
        return tuple(self.shapes)

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        device: torch.device = next(self.network.parameters()).device
        return device

    @property
    def vocabulary(self) -> int:
        """How many token ids it can read."""
        return int(self.network.get_input_embeddings().num_embeddings)

    def activate(self, agent: str) -> None:
        """Let forward passes use the adapter of `agent`; every adapter stays trainable."""
        if agent not in self.shapes:
            raise InputError(f"no adapter for agent {agent!r}; {closest(agent, self.shapes)}")
        for layer in self._layers():
            # peft's own way would also freeze all the others.
            layer._active_adapter = [agent]

    @contextmanager
    def as_base(self) -> Iterator[None]:
        """Forward passes of the block use the base alone: the reference that distances are measured to."""
        layers = self._layers()
        for layer in layers:
            layer._disable_adapters = True
        try:
            yield
        finally:
            for layer in layers:
                layer._disable_adapters = False

    def parameters(self, agent: str) -> dict[str, nn.Parameter]:
        """Its trained matrices by the names peft saves them under, in order."""
        own = re.compile(rf"(.*\.lora_\w+)\.{re.escape(agent)}(\..*)")  # an agent may be called as a layer is
        named = ((own.fullmatch(name), matrix) for name, matrix in self.network.named_parameters())
        return dict(sorted((at[1] + at[2], matrix) for at, matrix in named if at is not None))

    def trained(self) -> dict[str, nn.Parameter]:
        """All trained matrices as `agent/name`, in the same order in every process."""
        return {f"{agent}/{name}": p for agent in self.agents for name, p in self.parameters(agent).items()}

    def tensors(self, agent: str) -> dict[str, Tensor]:
        """Copies of its matrices on the CPU, whole; where they are sharded, every process must ask."""
        return {name: whole(matrix) for name, matrix in self.parameters(agent).items()}

    @torch.no_grad()
    def fill(self, agent: str, tensors: Mapping[str, Tensor]) -> None:
        """Put `tensors` in place of its matrices.

        Raises:
            InputError: names or shapes are those of another base, rank or set of layers.
        """
        own = self.parameters(agent)
        if own.keys() != tensors.keys():
            odd = sorted(own.keys() ^ tensors.keys())
            raise InputError(
                f"these matrices are not of agent {agent!r} over {self.base!r}: {odd[0]!r} is only in one of the two "
                f"({len(odd)} such); it was trained over another base, or on other layers"
            )
        for name, matrix in own.items():
            if matrix.shape != tensors[name].shape:
                raise InputError(
                    f"{name!r} is {tuple(tensors[name].shape)} where agent {agent!r} over {self.base!r} has "
                    f"{tuple(matrix.shape)}: another base, or another rank"
                )
        for name, matrix in own.items():
            matrix.copy_(like(tensors[name], matrix))

    @torch.no_grad()
    def logprobs(self, agent: str | None, token_ids: Sequence[int]) -> tuple[float, ...]:
        """Natural log-probability of each id but the first after all before it.

        Args:
            agent: whose adapter is on; `None` is the base alone.
            token_ids: at least two.
        """
        if agent is None:
            with self.as_base():
                return self._logprobs(token_ids)
        self.activate(agent)
        return self._logprobs(token_ids)

    def weights(self, agent: str, token_ids: Sequence[int]) -> LiveWeights:
        """Its adapter as it is now, with what this network says of the probe `token_ids`."""
        tensors, shape = self.tensors(agent), self.shapes[agent]
        probe = tuple(token_ids[:SCORED_TOKENS])
        return LiveWeights(
            name=agent,
            version=version_of(tensors, shape),
            base=self.base,
            rank=shape.rank,
            alpha=shape.alpha,
            tensors=tensors,
            token_ids=probe,
            logprobs=self.logprobs(agent, probe),
        )

    def _logprobs(self, token_ids: Sequence[int]) -> tuple[float, ...]:
        strand = Strand(
            agent="probe",
            episode_id="probe",
            seat=0,
            node="probe",
            token_ids=np.array(token_ids, dtype=np.int64),
            spans=(Span(turn=0, start=1, end=len(token_ids)),),
            logprobs=np.zeros(len(token_ids) - 1),
        )
        (batch,) = unpacked([strand])
        logprobs_N, _ = self.scorer(batch)
        if not bool(logprobs_N.isfinite().all()):
            raise NotFinite(
                "log-probabilities of a probe are no numbers, so the adapter is of no use; go on from the checkpoint "
                "before (--resume) with a lower learning rate or another number format"
            )
        return tuple(min(0.0, value) for value in logprobs_N.tolist())

    def _layers(self) -> list[Any]:
        from peft.tuners.tuners_utils import BaseTunerLayer

        return [module for module in self.network.modules() if isinstance(module, BaseTunerLayer)]


def adapted(
    folder: Path,
    agents: Mapping[str, Shape],
    *,
    base: str | None = None,
    dtype: str = "float32",
    device: str = "cpu",
    seed: int = 0,
    checkpointing: bool = False,
) -> Adapted:
    """The base weights in `folder` with a fresh adapter for each agent.

    Args:
        folder: as transformers opens it.
        agents: by name.
        base: what the base is called where it is served; `None` takes the folder.
        dtype: of the base; adapters are float32.
        device: of torch.
        seed: adapters are drawn from it and their agent's name.
        checkpointing: keep layers' inputs alone for the gradient and compute the rest again.

    Raises:
        InputError: a name, number format or layer is wrong, or the folder holds no language model.
    """
    for name in agents:
        if not re.match(AGENT, name):
            raise InputError(f"an agent that is trained is called by letters, digits, '-' and '_', got {name!r}")
    if dtype not in DTYPES:
        raise InputError(f"no number format {dtype!r} to train in; {closest(dtype, DTYPES)}")
    if not agents:
        raise InputError("nobody is to be trained; name at least one agent")
    plain = _opened(folder, DTYPES[dtype]).to(device)
    plain.requires_grad_(False)
    _without_dropout(plain)
    packs = prepared(plain)
    if checkpointing:
        # Newer transformers has another name for it, and warns of the older one.
        enable = getattr(plain, "activation_checkpointing_enable", None) or plain.gradient_checkpointing_enable
        enable({"use_reentrant": False})
    network = _with_adapters(plain, agents, seed)
    scorer = TokenLogprobs(network)
    made = Adapted(network=network, shapes=dict(agents), base=base or str(folder), packs=packs, scorer=scorer)
    for agent in agents:
        for matrix in made.parameters(agent).values():
            matrix.requires_grad_(True)
    # Checkpointing is on only in training mode, and dropout is gone: the two modes differ in nothing else.
    network.train(checkpointing)
    return made


def whole(matrix: Tensor) -> Tensor:
    """A copy on the CPU in float32; a sharded one is put together, for which every process must ask."""
    local = matrix.detach()
    full = local.full_tensor() if hasattr(local, "full_tensor") else local
    copy: Tensor = full.to("cpu", torch.float32, copy=True).contiguous()
    return copy


def like(full: Tensor, matrix: Tensor) -> Tensor:
    """`full` on the device of `matrix`, and sharded as it is."""
    moved = full.to(matrix.device, matrix.dtype)
    if hasattr(matrix, "device_mesh"):
        from torch.distributed.tensor import distribute_tensor

        sharded: Any = matrix  # a DTensor, whose own attributes these are
        return distribute_tensor(moved, sharded.device_mesh, sharded.placements)
    return moved


def version_of(tensors: Mapping[str, Tensor], shape: Shape) -> str:
    """A hash that is the same for the same adapter, and only for it."""
    digest = hashlib.sha256(f"{shape.rank} {shape.alpha}".encode())
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name].numpy().tobytes())
    return digest.hexdigest()[:VERSION_DIGITS]


@contextmanager
def quiet() -> Iterator[None]:
    """No progress bars of transformers inside the block: they would write across a run's own figures."""
    from transformers.utils import logging

    said: Any = logging  # transformers has no types here
    shown = said.is_progress_bar_enabled()
    said.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            said.enable_progress_bar()


def _opened(folder: Path, dtype: torch.dtype) -> Any:
    from transformers import AutoModelForCausalLM

    try:
        with quiet():
            return AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, local_files_only=True)
    except (OSError, ValueError) as cause:
        raise InputError(f"no language model to train at {str(folder)!r}: {cause}") from cause


def _with_adapters(plain: Any, agents: Mapping[str, Shape], seed: int) -> Any:
    from peft import LoraConfig, get_peft_model

    network: Any = None
    # peft draws from torch's global generator, which belongs to the caller.
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        # peft 0.21 asks transformers 5.23 for it by the older name; which peft is installed is the user's choice.
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
        for agent, shape in agents.items():
            torch.manual_seed(int.from_bytes(hashlib.sha256(f"{seed} {agent}".encode()).digest()[:7]))
            config = LoraConfig(
                r=shape.rank,
                lora_alpha=shape.alpha,  # type: ignore[arg-type]  # peft's annotation says int, its arithmetic any
                target_modules=list(shape.targets) or "all-linear",
                task_type="CAUSAL_LM",
            )
            try:
                if network is None:
                    network = get_peft_model(plain, config, adapter_name=agent)
                else:
                    network.add_adapter(agent, config)
            except ValueError as cause:
                raise InputError(f"agent {agent!r} cannot have this adapter: {cause}") from cause
            if shape.initial_b:
                for name, matrix in network.named_parameters():
                    if f".lora_B.{agent}." in name:
                        nn.init.normal_(matrix, std=shape.initial_b)
    return network


def _without_dropout(network: nn.Module) -> None:
    """Log-probabilities must be those of the network that sampled."""
    for module in network.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        # Many of transformers' modules keep a rate of their own, by names such as `attention_dropout` and `layerdrop`.
        for name, rate in tuple(vars(module).items()):
            if "drop" in name and isinstance(rate, float):
                setattr(module, name, 0.0)
