"""A language model of a few thousand parameters, made on the spot, and ways to ask it."""

import asyncio
import copy
import warnings
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    Gemma2Config,
    GPT2Config,
    LlamaConfig,
    MambaConfig,
    MistralConfig,
    PretrainedConfig,
    PreTrainedTokenizerFast,
)

from graphs import Sampling
from orchestra.models.local import LocalModel, open_local
from orchestra.models.protocol import Completion, Message, Request

SPECIAL = ("<|im_start|>", "<|im_end|>")
CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
SIZES: dict[str, Any] = {"vocab_size": 258, "hidden_size": 32, "num_hidden_layers": 2, "eos_token_id": 1}
HEADS: dict[str, Any] = {"num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 64, "head_dim": 8}
ENDS: dict[str, Any] = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
CONFIGS: dict[str, Callable[[], PretrainedConfig]] = {
    "llama": lambda: LlamaConfig(**SIZES, **HEADS, max_position_embeddings=512, initializer_range=0.4),
    "mistral": lambda: MistralConfig(**SIZES, **HEADS, sliding_window=9, initializer_range=0.4),
    "gpt2": lambda: GPT2Config(vocab_size=258, n_embd=32, n_layer=2, n_head=4, initializer_range=0.3, **ENDS),
    "gemma2": lambda: Gemma2Config(**SIZES, **HEADS, sliding_window=9, initializer_range=0.4),
    "mamba": lambda: MambaConfig(
        vocab_size=258, hidden_size=32, num_hidden_layers=2, state_size=8, initializer_range=0.4, **ENDS
    ),
}


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """Every byte a token, so that most sampled replies are not what encoding their text gives."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: i for i, token in enumerate((*SPECIAL, *alphabet))}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(SPECIAL))
    made = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=SPECIAL[0], eos_token=SPECIAL[1])
    made.chat_template = CHATML
    return made


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A folder of a tiny model of an architecture, made once."""
    root = tmp_path_factory.mktemp("tiny")

    def folder(architecture: str) -> Path:
        where = root / architecture
        if not where.exists():
            torch.manual_seed(5)
            AutoModelForCausalLM.from_config(CONFIGS[architecture]()).save_pretrained(where)
            byte_tokenizer().save_pretrained(where)
        return where

    return folder


@pytest.fixture
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder of this test alone."""
    cache = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("ORCHESTRA_CACHE", str(cache))
    return cache


@pytest.fixture
async def tiny(tiny_folder: Callable[[str], Path], own_cache: Path) -> AsyncIterator[Callable[..., LocalModel]]:
    """Opens a tiny model in float32; every one opened is closed after the test."""
    opened: list[LocalModel] = []

    def open_tiny(architecture: str = "llama", *, adapter: str | None = None, **settings: Any) -> LocalModel:
        settings = {"dtype": "float32", **settings}
        name = str(tiny_folder(architecture)) + (f"+{adapter}" if adapter is not None else "")
        opened.append(open_local(name, **settings))
        return opened[-1]

    yield open_tiny
    for model in opened:
        await model.close()


@pytest.fixture(scope="session")
def plain(tiny_folder: Callable[[str], Path]) -> Callable[..., tuple[Any, Any]]:
    """The network and tokenizer as transformers alone opens them."""

    def opened(architecture: str = "llama") -> tuple[Any, Any]:
        folder = tiny_folder(architecture)
        network = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        return network.eval(), AutoTokenizer.from_pretrained(folder)

    return opened


TARGETS = {"mamba": ["in_proj", "x_proj"]}
"""Layers that adapters of an architecture change; of the others, all that are linear."""


@pytest.fixture
def trained(plain: Callable[..., tuple[Any, Any]], tmp_path: Path) -> Callable[..., tuple[Any, Path]]:
    """Makes a peft model with random matrices, and the folder it was saved to."""

    def made(name: str, architecture: str = "llama", *, seed: int = 1, **config: Any) -> tuple[Any, Path]:
        network, _ = plain(architecture)
        torch.manual_seed(seed)
        settings = {"r": 4, "lora_alpha": 16, "target_modules": TARGETS.get(architecture, "all-linear"), **config}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # peft asks transformers for what this calls by another name now
            changed = peft.get_peft_model(copy.deepcopy(network), peft.LoraConfig(**settings)).eval()
        for key, matrix in changed.named_parameters():
            if "lora_" in key:
                torch.nn.init.normal_(matrix, std=0.2)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            changed.save_pretrained(tmp_path / name)
        return changed, tmp_path / name

    return made


class Asking:
    """Ways to ask a model, for tests."""

    @staticmethod
    def asked(
        text: str, *, max_tokens: int = 12, seed: int | None = 1, sample_index: int = 0, **sampling: Any
    ) -> Request:
        """A request of one user message."""
        return Request(
            messages=(Message(role="user", content=text),),
            sampling=Sampling(max_tokens=max_tokens, **sampling),
            seed=seed,
            sample_index=sample_index,
        )

    @staticmethod
    async def answer(model: LocalModel, request: Request, *, after: float = 0.0) -> Completion:
        """The completion of one request, sent `after` seconds."""
        await asyncio.sleep(after)
        events = [event async for event in model.stream(request)]
        assert isinstance(events[-1], Completion)
        return events[-1]

    @classmethod
    async def answers(cls, model: LocalModel, requests: list[Request]) -> list[Completion]:
        """Completions of requests sent at once."""
        return list(await asyncio.gather(*(cls.answer(model, request) for request in requests)))


@pytest.fixture
def asking() -> type[Asking]:
    """Ways to ask a model."""
    return Asking
