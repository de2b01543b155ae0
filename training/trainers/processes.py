"""One process, or several that train one network together: DDP through accelerate, or `fully_shard`.

The first process plays and pays; all are given the same episodes and each takes its share of the rows. Losses are sums
whose weights are made for the whole step, and gradients are averaged over processes: a loss is multiplied by their
number, so that several processes do what one would.
"""

import os
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from importlib import import_module
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor

from training.adapters import Adapted

Shared = TypeVar("Shared")
Row = TypeVar("Row")


@dataclass(slots=True, eq=False)
class Processes:
    """The processes of one job, and which of them this is."""

    rank: int = 0
    count: int = 1
    sharding: Literal["none", "full"] = "none"
    accelerator: Any = None
    """accelerate's; `None` where there is one process."""

    @property
    def is_first(self) -> bool:
        """Whether this one plays, pays, publishes and writes."""
        return self.rank == 0

    def wrap(self, adapted: Adapted) -> None:
        """Let the passes of `adapted` be those of all processes together."""
        if self.accelerator is None:
            return
        if self.sharding == "full":
            _shard(adapted)
        else:
            adapted.scorer = self.accelerator.prepare_model(adapted.scorer, evaluation_mode=False)

    def share(self, rows: Sequence[Row]) -> list[tuple[Row, bool]]:
        """Rows of this process, all processes having as many; the second says whether the row counts."""
        if not rows:
            return []
        places = range(self.rank, -(-len(rows) // self.count) * self.count, self.count)
        return [(rows[place % len(rows)], place < len(rows)) for place in places]

    def summing(self, adapted: Adapted, *, last: bool) -> AbstractContextManager[Any]:
        """Around a backward pass: where it can be put off, gradients are exchanged in an agent's last one alone."""
        if self.accelerator is None or self.sharding == "full" or last:
            return nullcontext()
        context: AbstractContextManager[Any] = self.accelerator.no_sync(adapted.scorer)
        return context

    def told(self, value: Shared) -> Shared:
        """What the first process has, in every process."""
        if self.count == 1:
            return value
        box = [value]
        torch.distributed.broadcast_object_list(box, src=0)
        return box[0]

    def gathered(self, metrics: Mapping[str, float]) -> list[Mapping[str, float]]:
        """The metrics of every process."""
        if self.count == 1:
            return [metrics]
        found: list[Any] = [None] * self.count
        torch.distributed.all_gather_object(found, metrics)
        return found

    def close(self) -> None:
        """Take leave of the others."""
        if self.accelerator is not None:
            self.accelerator.end_training()
            if torch.distributed.is_initialized():
                torch.distributed.destroy_process_group()


def joined(device: str, sharding: Literal["none", "full"]) -> tuple[Processes, str]:
    """The processes this one was started with (`torchrun`, `accelerate launch`), and the device it computes on.

    Args:
        device: of torch; `auto` takes CUDA where there is one.
        sharding: what each of several processes holds.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if int(os.environ.get("WORLD_SIZE", "1")) <= 1:
        return Processes(), device
    # Untyped, so it is reached by name.
    accelerate: Any = import_module("accelerate")
    # Agents take turns, so a pass leaves the other adapters out.
    found = accelerate.DistributedDataParallelKwargs(find_unused_parameters=True)
    # The others wait while the first plays, which may take longer than a backend waits by itself.
    patient = accelerate.InitProcessGroupKwargs(timeout=timedelta(hours=12))
    accelerator = accelerate.Accelerator(cpu=device == "cpu", kwargs_handlers=[found, patient])
    here = Processes(accelerator.process_index, accelerator.num_processes, sharding, accelerator)
    return here, str(accelerator.device)


def _shard(adapted: Adapted) -> None:
    from torch.distributed.fsdp import fully_shard

    decoder = adapted.network.get_base_model().get_decoder()
    for layer in getattr(decoder, "layers", ()):
        fully_shard(layer)
    fully_shard(adapted.scorer)


def local_bytes(adapted: Adapted) -> int:
    """Bytes of parameters that this process holds."""
    return sum(_held(matrix).nbytes for matrix in adapted.network.parameters())


def _held(matrix: Tensor) -> Tensor:
    local: Tensor = matrix.to_local() if hasattr(matrix, "to_local") else matrix
    return local
