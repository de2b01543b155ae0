"""One update: log-probabilities, loss, gradient, optimiser. Nothing is read from the device before its end.

Source: Loshchilov & Hutter 2019, "Decoupled Weight Decay Regularization", arXiv:1711.05101 (AdamW); 2017, "SGDR",
    arXiv:1608.03983, equation 5 (the cosine).
Deviation: the cosine runs once, after a linear warm-up; each agent's gradient is clipped by its own norm.
"""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from training.adapters import Adapted, NotFinite
from training.adapters.network import like, whole
from training.losses import LOSSES, Loss, Scored, merged, terms
from training.recipes import Optimiser
from training.samples import Batch, Floats
from training.trainers.processes import Processes
from training.trainers.study import Study

MOMENTS = ("exp_avg", "exp_avg_sq")
"""Of AdamW, one each for every parameter."""


@dataclass(frozen=True, slots=True)
class Before:
    """Log-probabilities as they were before a step's first update, `[N]` for each strand; `None` where not needed."""

    old: Sequence[Floats] | None
    """Under the adapters."""
    reference: Sequence[Floats] | None
    """Under the frozen base."""


@dataclass(slots=True, eq=False)
class Learner:
    """The adapters of a network, and the optimiser that changes them."""

    adapted: Adapted
    how: Optimiser
    updates_total: int
    """That the schedule reaches to."""
    processes: Processes = field(default_factory=Processes)
    updates: int = 0
    """Done so far."""
    optimiser: Any = None

    def __post_init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """Forget the optimiser's state and begin its schedule anew."""
        groups = [
            {"params": list(self.adapted.parameters(agent).values()), "agent": agent} for agent in self.adapted.agents
        ]
        self.optimiser = torch.optim.AdamW(
            groups,
            lr=self.how.learning_rate,
            betas=self.how.betas,
            eps=self.how.epsilon,
            weight_decay=self.how.weight_decay,
            fused=self.adapted.device.type == "cuda",
        )
        self.updates = 0

    def state(self) -> dict[str, Tensor]:
        """The optimiser's state, whole and on the CPU; where it is sharded, every process must ask."""
        found: dict[str, Tensor] = {}
        for name, matrix in self.adapted.trained().items():
            known = self.optimiser.state.get(matrix)
            if known:
                found |= {f"{moment}/{name}": whole(known[moment]) for moment in MOMENTS}
                found[f"step/{name}"] = known["step"].detach().to("cpu", torch.float32, copy=True).reshape(1)
        return found

    def resume(self, state: Mapping[str, Tensor], updates: int) -> None:
        """Go on with the state that `state` returned; what it does not have is forgotten."""
        self.optimiser.state.clear()
        for name, matrix in self.adapted.trained().items():
            if f"step/{name}" in state:
                fused = self.adapted.device.type == "cuda"
                step = state[f"step/{name}"].reshape(()).clone()
                self.optimiser.state[matrix] = {
                    "step": step.to(matrix.device) if fused else step,
                    **{moment: like(state[f"{moment}/{name}"], matrix).clone() for moment in MOMENTS},
                }
        self.updates = updates

    def rate(self) -> float:
        """Learning rate of the next update."""
        return rate_at(self.updates, self.updates_total, self.how)

    def before(self, study: Study, options: Mapping[str, float], *, measure_kl: bool = False) -> Before:
        """What a loss with `options` compares `study` with; to be asked before the first update of a step.

        Args:
            study: what will be learnt from.
            options: of the loss.
            measure_kl: whether the distance to the base is wanted as a figure, where the loss does without it.
        """
        return Before(
            old=self._passes(study) if options.get("cap") is not None else None,
            reference=self._reference(study) if options.get("kl") or measure_kl else None,
        )

    def update(
        self,
        study: Study,
        loss: str,
        options: Mapping[str, float],
        *,
        rate: float | None = None,
        before: Before | None = None,
    ) -> dict[str, float]:
        """Learn from `study`; what was measured, on the rows of agents that learn.

        An agent that does not is left as it is, to the last bit of its optimiser's state.

        Args:
            loss: a name of `training.losses.LOSSES`.
            options: of the loss.
            rate: learning rate; `None` takes the schedule's.
            before: what `before` returned ahead of the step's first update; `None` where this is the first.

        Raises:
            NotFinite: the loss or a gradient is; nothing was changed.
        """
        before = before or self.before(study, options)
        for group in self.optimiser.param_groups:
            group["lr"] = self.rate() if rate is None else rate
        self.optimiser.zero_grad(set_to_none=True)
        found: list[Mapping[str, Tensor]] = []
        for agent, rows in study.learnt.items():
            self.adapted.activate(agent)
            mine = self.processes.share(rows)
            for at, (row, counts) in enumerate(mine):
                with self.processes.summing(self.adapted, last=at == len(mine) - 1):
                    made = self._loss(study, row, loss, options, before, counts)
                    torch.autograd.backward(made.value * self.processes.count)
                if counts:
                    found.append(made.metrics)
        norms = self._clipped()
        metrics = self._merged(found)
        metrics["gradient norm"] = max(norms.values(), default=0.0)
        metrics["learning rate"] = self.optimiser.param_groups[0]["lr"]
        _check_finite(metrics, norms)
        self.optimiser.step()
        self.updates += 1
        return metrics

    def _loss(
        self,
        study: Study,
        row: Batch,
        loss: str,
        options: Mapping[str, float],
        before: Before,
        counts: bool,
    ) -> Loss:
        weights = study.weights if counts else [each * 0.0 for each in study.weights]
        figures = terms(
            row,
            weights,
            advantages=study.advantages,
            reference=before.reference,
            old=before.old,
            device=self.adapted.device,
        )
        logprobs_N, entropies_N = self.adapted.scorer(row)
        return LOSSES[loss](Scored(logprobs_N, entropies_N), figures, **options)

    @torch.no_grad()
    def _passes(self, study: Study) -> list[Floats]:
        """`[N]` for each strand: log-probabilities as they are now. Of other processes' rows there are zeros."""
        found: list[Any] = [strand.logprobs * 0.0 for strand in study.strands]
        waiting: list[tuple[Batch, Tensor]] = []
        for agent, rows in study.learnt.items():
            self.adapted.activate(agent)
            for row, counts in self.processes.share(rows):
                logprobs_N, _ = self.adapted.scorer(row)
                if counts:
                    waiting.append((row, logprobs_N))
        for row, logprobs_N in waiting:
            for at, values in row.apart(logprobs_N.double().cpu().numpy()).items():
                found[at] = values
        return found

    def _reference(self, study: Study) -> list[Floats]:
        with self.adapted.as_base():
            return self._passes(study)

    def _clipped(self) -> dict[str, float]:
        """Norm of each agent's gradient, before it was clipped."""
        norms = {}
        for group in self.optimiser.param_groups:
            given = [matrix for matrix in group["params"] if matrix.grad is not None]
            if given:
                most = math.inf if self.how.gradient_norm is None else self.how.gradient_norm
                norm = torch.nn.utils.clip_grad_norm_(given, most)
                norms[group["agent"]] = norm.full_tensor() if hasattr(norm, "full_tensor") else norm
        return {agent: float(norm) for agent, norm in norms.items()}

    def _merged(self, found: Sequence[Mapping[str, Tensor]]) -> dict[str, float]:
        """Figures of all rows of all processes; the one place that waits for the device."""
        sums: dict[str, Any] = {}
        for metrics in found:
            for name, value in metrics.items():
                value = value.to(self.adapted.device)
                known = sums.get(name)
                if known is None:
                    sums[name] = value
                else:
                    sums[name] = torch.maximum(known, value) if name.endswith(" max") else known + value
        here = {name: float(value) for name, value in sums.items()}
        everywhere = self.processes.gathered(here)
        return merged([{name: torch.tensor(value) for name, value in each.items()} for each in everywhere])


def rate_at(update: int, total: int, how: Optimiser) -> float:
    """Learning rate of an update, counted from 0: a linear rise, then one half of a cosine down to the minimum.

    >>> how = Optimiser(learning_rate=1.0, minimum=0.1, warmup_updates=2)
    >>> [round(rate_at(n, 6, how), 3) for n in (0, 1, 2, 4, 6)]
    [0.5, 1.0, 1.0, 0.55, 0.1]
    """
    if update < how.warmup_updates:
        return how.learning_rate * (update + 1) / how.warmup_updates
    done = min(1.0, (update - how.warmup_updates) / max(1, total - how.warmup_updates))
    low = min(how.minimum, how.learning_rate)
    return low + (how.learning_rate - low) * (1.0 + math.cos(math.pi * done)) / 2.0


def _check_finite(metrics: Mapping[str, float], norms: Mapping[str, float]) -> None:
    if math.isfinite(metrics.get("loss total", 0.0)) and all(map(math.isfinite, norms.values())):
        return
    shown = ", ".join(f"gradient norm of {agent} {norm}" for agent, norm in norms.items())
    raise NotFinite(f"the loss is {metrics.get('loss total')}, {shown}")


@dataclass(slots=True)
class Clock:
    """Seconds spent, by what they were spent on."""

    spent: dict[str, float] = field(default_factory=dict)
    _since: float = field(default_factory=time.perf_counter)

    def lap(self, what: str) -> float:
        """Book the time since the last lap on `what`; how much it was."""
        now = time.perf_counter()
        seconds, self._since = now - self._since, now
        self.spent[what] = self.spent.get(what, 0.0) + seconds
        return seconds
