"""The servers that live tests share, each started once; `make test-vllm` installs what they need."""

import asyncio
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from orchestra.models.serving import serving


@dataclass(frozen=True)
class Vllm:
    """A real vLLM server of SmolLM2 on the CPU."""

    url: str
    """Root, without `/v1`."""
    model: str
    """Name of the base weights on it."""

    @property
    def name(self) -> str:
        """What `open_model` takes."""
        return f"vllm/{self.model}@{self.url}"


@pytest.fixture(scope="session")
def vllm_python() -> str:
    """The interpreter of an environment with vLLM."""
    python = os.environ.get("ORCHESTRA_VLLM_PYTHON")
    if not python:
        pytest.fail("ORCHESTRA_VLLM_PYTHON names no interpreter; run `make test-vllm`")
    return python


@pytest.fixture(scope="session")
def vllm(request: pytest.FixtureRequest) -> Iterator[Vllm]:
    """One server for all live tests: adapters may be loaded into it, and each test takes its own away.

    `ORCHESTRA_VLLM_URL` names one that runs already, as `orchestra serve smollm2-135m-instruct --tool-parser hermes`
    starts it, which spares the developer half a minute.
    """
    url = os.environ.get("ORCHESTRA_VLLM_URL")
    if url:
        yield Vllm(url.rstrip("/"), "smollm2-135m-instruct")
        return
    vllm_python = request.getfixturevalue("vllm_python")
    with asyncio.Runner() as runner:
        running = serving("smollm2-135m-instruct", python=vllm_python, tool_parser="hermes")
        server = runner.run(running.__aenter__())
        try:
            yield Vllm(server.url, server.model)
        finally:
            runner.run(running.__aexit__(None, None, None))


@pytest.fixture(scope="session")
def network() -> "Network":
    """SmolLM2 in this process, for numbers the server's are compared with."""
    return Network()


class Network:
    """The weights the server reads, in bfloat16, through transformers."""

    def __init__(self) -> None:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        from orchestra.models.local import prepare
        from orchestra.models.weights import path_of

        self.folder = prepare(path_of("smollm2-135m-instruct"))
        self.model = AutoModelForCausalLM.from_pretrained(self.folder, dtype=torch.bfloat16).eval()
        self.tokenizer = AutoTokenizer.from_pretrained(self.folder)

    def logprobs(self, prompt: tuple[int, ...], reply: tuple[int, ...], *, temperature: float) -> list[float]:
        """Log-probabilities of `reply` behind `prompt`."""
        return self.logprobs_by(self.model, prompt, reply, temperature=temperature)

    def logprobs_by(
        self, model: Any, prompt: tuple[int, ...], reply: tuple[int, ...], *, temperature: float
    ) -> list[float]:
        """Log-probabilities of `reply` behind `prompt` by another network, such as one with an adapter."""
        import torch

        with torch.inference_mode():
            ids = torch.tensor([[*prompt, *reply]])
            logits = model(input_ids=ids).logits[0, len(prompt) - 1 : -1].float()
            scores = torch.log_softmax(logits / temperature, dim=-1)
            return scores.gather(1, torch.tensor(reply)[:, None])[:, 0].tolist()
