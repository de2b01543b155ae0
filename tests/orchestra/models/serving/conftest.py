"""A stand-in for an environment with vLLM, weights of a few bytes, and LoRA adapters made by hand."""

import json
import struct
import sys
from pathlib import Path

import numpy as np
import pytest

STAND_IN = '''#!{python}
"""Answers like the interpreter of an environment with vLLM; its server holds a child, as the real one does."""
import json, os, signal, subprocess, sys, time
from http.server import BaseHTTPRequestHandler, HTTPServer

words = sys.argv[1:]
if words[:2] == ["-I", "-c"]:
    print(json.dumps({{"version": "0.32.0", "on_cpu": True}}))
    raise SystemExit
if os.environ.get("STAND_IN_FAILS"):
    print("loading weights\\nValueError: no such quantisation", flush=True)
    raise SystemExit(3)
at = lambda flag: words[words.index(flag) + 1]
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(json.dumps({{"pid": os.getpid(), "child": child.pid, "words": words}}), flush=True)
adapters = {{}}

class Answers(BaseHTTPRequestHandler):
    def do_GET(self):
        cards = [{{"id": at("--served-model-name"), "root": at("--model"), "parent": None, "max_model_len": 64}}]
        cards += [{{"id": name, "root": path, "parent": "base"}} for name, path in adapters.items()]
        self.say({{"data": cards}})

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        adapters[body["lora_name"]] = body["lora_path"]
        self.say({{}})

    def say(self, document):
        data = json.dumps(document).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass

HTTPServer(("127.0.0.1", int(at("--port"))), Answers).serve_forever()
'''


@pytest.fixture
def stand_in(tmp_path: Path) -> str:
    """An interpreter that starts a server of a few lines in vLLM's place."""
    path = tmp_path / "python-with-vllm"
    path.write_text(STAND_IN.format(python=sys.executable))
    path.chmod(0o755)
    return str(path)


@pytest.fixture
def own_cache(tmp_path, monkeypatch) -> Path:
    """The user's cache of one test."""
    monkeypatch.setenv("ORCHESTRA_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def folder(tmp_path) -> Path:
    """A Hugging Face folder of one layer: 8 in, 4 out."""
    path = tmp_path / "tiny"
    path.mkdir()
    (path / "config.json").write_text('{"dtype": "bfloat16"}')
    save(path / "model.safetensors", {"model.q_proj.weight": np.ones((4, 8), np.float32)})
    return path


def save(path, arrays):
    """Write `arrays` as a `.safetensors` file of float32."""
    header, data = {}, b""
    for name, array in arrays.items():
        raw = array.astype(np.float32).tobytes()
        header[name] = {"dtype": "F32", "shape": list(array.shape), "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


@pytest.fixture
def adapter_at(tmp_path):
    """Writes a LoRA adapter of one layer as peft saves it."""

    def write(name="one", *, rank=2, alpha=4, inputs=8, filled=0.5, config=None):
        path = tmp_path / name
        path.mkdir(exist_ok=True)
        said = {"r": rank, "lora_alpha": alpha, "base_model_name_or_path": "tiny", **(config or {})}
        (path / "adapter_config.json").write_text(json.dumps(said))
        prefix = "base_model.model.model.q_proj"
        matrices = {"lora_A": np.full((2, inputs), 0.1), "lora_B": np.full((4, 2), filled)}
        save(path / "adapter_model.safetensors", {f"{prefix}.{n}.weight": m for n, m in matrices.items()})
        return path

    return write
