"""A small Llama made on the spot: random weights, and a tokenizer learnt from a game's own texts.

For tests and for learning how training goes: it knows nothing, not even what a move looks like, until it is warmed up.
"""

import contextlib
import hashlib
import json
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from orchestra.errors import InputError
from training.adapters.network import quiet
from training.recipes import Make

BEGIN, END = "<|im_start|>", "<|im_end|>"
CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
"""The chat template, in the markup of SmolLM2 and Qwen."""
LARGEST_SCORE = 25.0
"""About the highest that a token can be scored."""


def made(how: Make, texts: Sequence[str], into: Path, seed: int) -> Path:
    """The folder below `into` of a model with random weights, as transformers and the embedded engine open it.

    Args:
        how: its sizes.
        texts: what its tokenizer is learnt from.
        into: made once for the same sizes, texts and seed.
        seed: of its weights.

    Raises:
        InputError: something else is where it belongs.
    """
    key = json.dumps([how.model_dump(), seed, sorted(texts)])
    target = into / f"made-{hashlib.sha256(key.encode()).hexdigest()[:12]}"
    if (target / "config.json").is_file():
        return target
    into.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=into))  # another run may be making the same one
    try:
        tokenizer = _tokenizer(how, texts)
        with quiet():
            _network(how, len(tokenizer), tokenizer.convert_tokens_to_ids(END), seed).save_pretrained(staging)
        tokenizer.save_pretrained(staging)
        with contextlib.suppress(OSError):  # somebody else was first
            staging.replace(target)
        if not (target / "config.json").is_file():
            raise InputError(f"{str(target)!r} is in the way of a model that is to be made there; remove it")
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return target


def _tokenizer(how: Make, texts: Sequence[str]) -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=how.vocabulary,
        special_tokens=[BEGIN, END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator(texts, trainer)
    kind: Any = PreTrainedTokenizerFast
    wrapped = kind(tokenizer_object=made, bos_token=BEGIN, eos_token=END)
    wrapped.chat_template = CHATML
    return wrapped


def _network(how: Make, vocabulary: int, end_id: int, seed: int) -> Any:
    from transformers import AutoModelForCausalLM, LlamaConfig

    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=how.hidden,
        intermediate_size=how.hidden * 3,
        num_hidden_layers=how.layers,
        num_attention_heads=how.heads,
        num_key_value_heads=how.heads,
        max_position_embeddings=how.context_tokens,
        bos_token_id=0,
        eos_token_id=end_id,
        pad_token_id=end_id,
        initializer_range=how.hidden**-0.5,
        tie_word_embeddings=False,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        kind: Any = AutoModelForCausalLM
        network = kind.from_config(config)
        # Nothing but adapters will ever change the base, so its head must let them be certain: a score is at most the
        # product of two lengths, and that of a normed state is the root of its width.
        torch.nn.init.normal_(network.get_output_embeddings().weight, std=LARGEST_SCORE / how.hidden)
        return network
