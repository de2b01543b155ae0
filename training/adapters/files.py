"""An adapter in a folder: the weights as peft saves them, a probe, and a card that says where it comes from.

The format is that of `orchestra.models`, which reads it: `adapter_model.safetensors`, `adapter_config.json`,
`probe.json` and `adapter.json`.
"""

import json
import shutil
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from torch import Tensor

from orchestra.errors import InputError, OrchestraError
from orchestra.ledger import nano, usd
from training.adapters.network import Adapted, LiveWeights
from training.adapters.states import load_tensors, save_tensors, write_bytes

CONFIG, TENSORS, PROBE, CARD = "adapter_config.json", "adapter_model.safetensors", "probe.json", "adapter.json"
LISTED_EPISODES = 10_000
"""Most episodes a card lists; beyond, it counts them."""


class NotAsSaved(OrchestraError, ValueError):
    """What was read back is not what was saved."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lineage:
    """Where an adapter comes from."""

    base_sha256: str = ""
    recipe: str = ""
    runs: tuple[str, ...] = ()
    """Training runs, the latest last: those of the adapter that it began with are before its own."""
    episodes: tuple[str, ...] = ()
    """That any of them learnt from."""
    episode_count: int = 0
    value: dict[str, Any] | None = None
    """What it was measured to be worth: `what`, `mean`, `low`, `high`, `count`; `None` means it was not.

    A training run says the mean reward of the seats where this agent's adapter spoke, in the last step that it did;
    `None` where it spoke nowhere, as when all was recorded."""
    price_usd: str | None = None
    """What having it in a team costs; `None` means not stated.

    A training run says what calls and machine time cost, divided equally among its agents and rounded up: they were
    trained in one job, nobody knows whose share was whose, and a team that hires them all pays for the run once. What
    the adapter that it began with cost is added."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Saved:
    """An adapter on disk."""

    folder: Path
    weights: LiveWeights
    card: dict[str, Any]


def save(weights: LiveWeights, folder: Path, lineage: Lineage) -> Saved:
    """Save `weights` to `folder`, which is there whole or not at all.

    Raises:
        training.adapters.states.DiskFull: there is no room; nothing is left behind.
        InputError: another adapter is there.
    """
    card = _card(weights, lineage)
    if (folder / TENSORS).exists():
        there = json.loads((folder / CARD).read_text(encoding="utf-8")) if (folder / CARD).is_file() else {}
        if there.get("version") != weights.version:
            raise InputError(f"another adapter is at {str(folder)!r} already; give this one another place")
    staging = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(staging, ignore_errors=True)
    try:
        save_tensors(staging / TENSORS, weights.tensors)
        for name, document in ((CONFIG, _config(weights)), (PROBE, _probe(weights)), (CARD, card)):
            write_bytes(staging / name, (json.dumps(document, indent=2) + "\n").encode())
        shutil.rmtree(folder, ignore_errors=True)
        staging.replace(folder)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return Saved(folder=folder, weights=replace(weights, folder=folder), card=card)


def reloaded(saved: Saved | None, weights: LiveWeights, adapted: Adapted, *, tolerance_nats: float = 1e-4) -> None:
    """Read an adapter back, see that it is what was saved bit by bit, and that the network says the same with it.

    Of several processes all must call it, as each takes part in the pass that scores the probe.

    Args:
        saved: as `save` returned it; `None` in a process that saved nothing, which takes the numbers it has.
        weights: what was saved.
        adapted: the network they came from; the agent's matrices are replaced by those in the file.
        tolerance_nats: largest difference of a log-probability of the probe.

    Raises:
        NotAsSaved: it is not.
    """
    there = weights.tensors if saved is None else _read_back(saved.folder, weights)
    adapted.fill(weights.name, there)
    again = adapted.logprobs(weights.name, weights.token_ids)
    gap = max(abs(a - b) for a, b in zip(again, weights.logprobs, strict=True))
    if gap > tolerance_nats:
        where = "in memory" if saved is None else f"at {str(saved.folder)!r} read back"
        raise NotAsSaved(
            f"with adapter {weights.served!r} {where}, log-probabilities of its probe differ by up to {gap:.4f} nats "
            f"from before it was saved, and {tolerance_nats:g} are allowed; the checkpoint beside it is whole, go on "
            "with --resume"
        )


def read(folder: Path, base_sha256: str = "", *, alpha: float | None = None) -> tuple[dict[str, Any], dict[str, Any]]:
    """Tensors and card of the adapter at `folder`, to be trained further.

    Args:
        folder: as `save` or peft left it.
        base_sha256: of the base it is meant for; empty does not compare.
        alpha: it is to be trained with; `None` does not compare.

    Raises:
        InputError: there is none, it was trained over another base, or the same numbers would mean something else.
    """
    tensors = load_tensors(folder / TENSORS)
    card, config = _json(folder / CARD), _json(folder / CONFIG)
    scaled = config.get("lora_alpha", alpha)
    if alpha is not None and scaled != alpha:
        raise InputError(f"the adapter at {str(folder)!r} has alpha {scaled:g}; set alpha = {scaled:g}, not {alpha:g}")
    odd = [key for key in ("use_rslora", "use_dora", "rank_pattern", "alpha_pattern") if config.get(key)]
    if odd:
        raise InputError(f"the adapter at {str(folder)!r} has {odd[0]}, which is not trained here; begin a new one")
    known = str(card.get("base_sha256", ""))
    if known and base_sha256 and known != base_sha256:
        raise InputError(
            f"the adapter at {str(folder)!r} was trained over {card.get('base')!r} with the weights {known[:12]}…, and "
            f"this base has {base_sha256[:12]}…; train it over its own base"
        )
    return tensors, card


def lineage(folder: Path) -> Lineage:
    """What the card of the adapter at `folder` says of where it comes from; nothing where it has none.

    Raises:
        InputError: the card is damaged, or its price is no amount.
    """
    card = _json(folder / CARD)
    price = card.get("price_usd")
    return Lineage(
        base_sha256=str(card.get("base_sha256", "")),
        recipe=str(card.get("recipe", "")),
        runs=tuple(card.get("runs", ())),
        episodes=tuple(card.get("episodes", ())),
        episode_count=int(card.get("episode_count", 0)),
        value=card.get("value"),
        price_usd=None if price is None else str(usd(nano(str(price)))),
    )


def _read_back(folder: Path, weights: LiveWeights) -> dict[str, Tensor]:
    there = load_tensors(folder / TENSORS)
    wrong = [name for name in weights.tensors if name not in there or not there[name].equal(weights.tensors[name])]
    if wrong or there.keys() != weights.tensors.keys():
        raise NotAsSaved(
            f"{str(folder / TENSORS)!r} does not hold what was saved, {(wrong or ['its names'])[0]!r} first; look "
            "after the disk: the checkpoint holds the same numbers, and --resume saves the adapter again"
        )
    return there


def _json(path: Path) -> dict[str, Any]:
    """The object in a file; empty where there is no file."""
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as cause:
        raise InputError(f"{str(path)!r} is damaged: {cause}; save the adapter again") from cause
    if not isinstance(found, dict):
        raise InputError(f"{str(path)!r} holds no object; save the adapter again")
    return found


def _card(weights: LiveWeights, lineage: Lineage) -> dict[str, Any]:
    return {
        "schema_version": 1,
        "name": weights.name,
        "version": weights.version,
        "base": weights.base,
        "base_sha256": lineage.base_sha256,
        "recipe": lineage.recipe,
        "runs": list(lineage.runs),
        "episodes": list(lineage.episodes[:LISTED_EPISODES]),
        "episode_count": max(lineage.episode_count, len(lineage.episodes)),
        "value": lineage.value,
        "price_usd": lineage.price_usd,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _config(weights: LiveWeights) -> dict[str, Any]:
    layers = {name.partition(".lora_")[0].rpartition(".")[2] for name in weights.tensors}
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": weights.base,
        "r": weights.rank,
        "lora_alpha": weights.alpha,
        "use_rslora": False,
        "target_modules": sorted(layers),
        "bias": "none",
        "lora_dropout": 0.0,
        "inference_mode": True,
    }


def _probe(weights: LiveWeights) -> dict[str, Any]:
    return {"token_ids": list(weights.token_ids), "logprobs": list(weights.logprobs), "base_model": weights.base}
