"""TRL's GRPO trainer on recorded episodes, each one sequence of several turns; generation is not part of the time.

    python trl_grpo.py EPISODES.json MODEL BATCH DTYPE THREADS HEAD

It prints `ready`, then reads a line from its input for each optimiser step and prints the processor seconds of that
step. What TRL does to make a batch (tokenising, decoding, rewards) is not counted either. HEAD is `cpu`, which scores
the vocabulary at every position as TRL does where there is no Triton, or `cuda`, trained positions alone as it does
there.
"""

import json
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

STEPS = 1000
"""More than anybody asks for."""


def replayed(groups: dict[str, list[dict[str, Any]]]) -> Callable[[list[str], Any], dict[str, Any]]:
    """What stands in for generation: the recorded episodes of each group, in order."""

    def rollouts(prompts: list[str], _trainer: Any) -> dict[str, Any]:
        seen = dict.fromkeys(groups, 0)
        found: dict[str, list[Any]] = {
            "prompt_ids": [],
            "completion_ids": [],
            "logprobs": [],
            "env_mask": [],
            "gain": [],
        }
        for name in prompts:
            episode = groups[name][seen[name]]
            seen[name] += 1
            ids, first = episode["token_ids"], episode["spans"][0][0]
            mask = [0] * len(ids)
            for start, end in episode["spans"]:
                mask[start:end] = [1] * (end - start)
            found["prompt_ids"].append(ids[:first])
            found["completion_ids"].append(ids[first:])
            found["logprobs"].append([-1.0] * (len(ids) - first))
            found["env_mask"].append(mask[first:])
            found["gain"].append(episode["reward"])
        return found

    return rollouts


def settings(folder: str, batch: int, count: int, size: int) -> Any:
    """Of the trainer: the same work as ours, and nothing beside it."""
    from trl import GRPOConfig

    return GRPOConfig(
        output_dir=folder,
        per_device_train_batch_size=batch,
        gradient_accumulation_steps=count // batch,
        num_generations=size,
        max_steps=STEPS,
        beta=0.0,
        learning_rate=1e-6,
        bf16=True,
        use_cpu=True,
        gradient_checkpointing=False,
        shuffle_dataset=False,
        report_to=[],
        save_strategy="no",
        logging_strategy="no",
        disable_tqdm=True,
        dataloader_num_workers=0,
    )


def _score_as_on_cuda() -> None:
    """Leave out the positions that are not trained, and multiply the head's gradients in the format of its inputs."""
    from trl.kernels import chunked_logprob
    from trl.trainer import utils

    def scored(_device: Any) -> bool:
        return True

    def summed(total: Any, left: Any, right: Any) -> Any:
        return total.add_(left @ right)

    utils._use_triton = scored
    chunked_logprob._addmm_fp32 = summed


def main(arguments: list[str]) -> None:
    """Train until the input ends."""
    warnings.simplefilter("ignore")
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from trl import GRPOTrainer

    path, model, batch, dtype, threads, head = arguments
    if head == "cuda":
        _score_as_on_cuda()
    torch.set_num_threads(int(threads))
    work = json.loads(Path(path).read_text(encoding="utf-8"))
    groups: dict[str, list[dict[str, Any]]] = {}
    for episode in work["episodes"]:
        groups.setdefault(episode["group"], []).append(episode)
    count, size = len(work["episodes"]), len(next(iter(groups.values())))

    spent = {"began": 0.0, "making": 0.0}

    class Steps(TrainerCallback):
        """One step for each line of the input."""

        def on_step_begin(self, *_: Any, **__: Any) -> None:
            spent.update(began=time.process_time())

        def on_step_end(self, *_: Any, **__: Any) -> None:
            print(time.process_time() - spent["began"] - spent["making"], flush=True)
            spent["making"] = 0.0
            if not sys.stdin.readline():
                sys.exit(0)

    class Timed(GRPOTrainer):
        """The trainer, with the time it takes to make a batch set apart."""

        def _generate_and_score_completions(self, inputs: Any) -> Any:
            began = time.process_time()
            made = super()._generate_and_score_completions(inputs)
            spent["making"] += time.process_time() - began
            return made

    with tempfile.TemporaryDirectory() as folder:
        trainer = Timed(
            model=AutoModelForCausalLM.from_pretrained(model, dtype=getattr(torch, dtype)),
            reward_funcs=lambda gain, **_: gain,
            rollout_func=replayed(groups),
            args=settings(folder, int(batch), count, size),
            train_dataset=Dataset.from_dict({"prompt": list(groups) * STEPS}),
            processing_class=AutoTokenizer.from_pretrained(model),
            peft_config=LoraConfig(r=work["rank"], lora_alpha=2 * work["rank"], target_modules="all-linear"),
            callbacks=[Steps()],
        )
        print("ready", flush=True)
        sys.stdin.readline()
        trainer.train()


if __name__ == "__main__":
    main(sys.argv[1:])
