"""`orchestra doctor`: what is installed, which models answer, and what stands in the way.

Each check is one function that yields findings; none of them changes anything. Keys are looked for by name alone and
never printed. A missing extra is a fact; a problem is something that would make a command fail.
"""

import asyncio
import importlib.util
import os
import platform
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Annotated, Literal

import typer

from orchestra.cli import options
from orchestra.cli.console import console
from orchestra.errors import ModelError, OrchestraError, blame

DISTRIBUTION = "orchestra-mas"
IMPORT_NAMES = ("graphs", "orchestra", "composers", "training")
"""Names this project imports as; other distributions may claim them too."""
API_KEYS = (
    "ANTHROPIC_API_KEY",
    "AZURE_API_KEY",
    "COHERE_API_KEY",
    "DEEPSEEK_API_KEY",
    "GEMINI_API_KEY",
    "GROQ_API_KEY",
    "HF_TOKEN",
    "MISTRAL_API_KEY",
    "OPENAI_API_KEY",
    "OPENROUTER_API_KEY",
    "TOGETHERAI_API_KEY",
    "XAI_API_KEY",
)
"""Environment variables that providers read."""

Status = Literal["ok", "absent", "problem"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One line of the report."""

    section: str
    name: str
    status: Status
    """`absent` is optional and not there; `problem` makes something fail."""
    detail: str


def doctor_command(
    quick: Annotated[bool, typer.Option("--quick", help="Do not ask any model.")] = False,
    store: options.StoreUrl = None,
    as_json: options.AsJson = False,
) -> int:
    """Say what is installed, which models answer, and what is in the way."""
    findings = examine(store=store, quick=quick)
    problems = sum(finding.status == "problem" for finding in findings)
    if as_json:
        options.print_json({"problems": problems, "findings": [asdict(finding) for finding in findings]})
    else:
        _show(findings)
    return 1 if problems else 0


def examine(*, store: str | None = None, quick: bool = False) -> tuple[Finding, ...]:
    """Everything the doctor finds, in the order of the report.

    Args:
        store: as `--store`; `None` is the user's own.
        quick: leaves the models unasked.
    """
    checks: list[Callable[[], Iterator[Finding]]] = [machine, extras, import_names, api_keys]
    findings = [finding for check in checks for finding in check()]
    findings += store_state(store)
    return (*findings, *cached_models(quick=quick))


def machine() -> Iterator[Finding]:
    """Version, Python, cores, and whether bfloat16 is fast here."""
    yield Finding(section="machine", name=DISTRIBUTION, status="ok", detail=metadata.version(DISTRIBUTION))
    detail = f"{platform.python_version()} on {platform.platform(terse=True)}"
    yield Finding(section="machine", name="python", status="ok", detail=detail)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    yield Finding(section="machine", name="cores", status="ok", detail=f"{cores} usable of {os.cpu_count()}")
    flags = _cpu_flags()
    if flags is None:
        yield Finding(section="machine", name="bfloat16", status="absent", detail="cannot be told on this system")
    else:
        fast = sorted(flags & {"amx_bf16", "avx512_bf16", "bf16"})
        detail = f"native ({', '.join(fast)})" if fast else "emulated, and slow"
        yield Finding(section="machine", name="bfloat16", status="ok" if fast else "absent", detail=detail)
    gpu = shutil.which("nvidia-smi")
    yield Finding(section="machine", name="gpu", status="ok" if gpu else "absent", detail=gpu or "no nvidia-smi found")


def extras() -> Iterator[Finding]:
    """Each extra with the versions of what it brings, from the distribution's own metadata."""
    wanted: dict[str, list[str]] = {}
    for line in metadata.requires(DISTRIBUTION) or ():
        name, extra = re.match(r"[A-Za-z0-9_.\-]+", line), re.search(r"extra == ['\"]([^'\"]+)", line)
        if name and extra and name.group() != DISTRIBUTION:
            wanted.setdefault(extra.group(1), []).append(name.group())
    for extra_name, needs in wanted.items():
        found = {need: _version(need) for need in needs}
        missing = [need for need, version in found.items() if version is None]
        there = ", ".join(f"{need} {version}" for need, version in found.items() if version is not None)
        if missing:
            detail = f"without {', '.join(missing)}: pip install '{DISTRIBUTION}[{extra_name}]'"
            yield Finding(section="extras", name=extra_name, status="absent", detail=detail)
        else:
            yield Finding(section="extras", name=extra_name, status="ok", detail=there)


def import_names() -> Iterator[Finding]:
    """Whether anything else on this machine is imported by our names."""
    home = Path(__file__).resolve().parents[2]
    owners = metadata.packages_distributions()
    for name in IMPORT_NAMES:
        spec = importlib.util.find_spec(name)
        places = [Path(p).resolve() for p in (spec.submodule_search_locations or ())] if spec else []
        others = sorted(set(owners.get(name, ())) - {DISTRIBUTION})
        shadows = sorted({str(place) for place in _places(name) if place != home / name})
        if places and places[0] != home / name:
            detail = f"imports {places[0]} and not this project's; remove it, or put {home} first"
            yield Finding(section="import names", name=name, status="problem", detail=detail)
        elif others or shadows:
            detail = f"also claimed by {', '.join([*others, *shadows])}; uninstall one of them"
            yield Finding(section="import names", name=name, status="problem", detail=detail)
        elif places:
            yield Finding(section="import names", name=name, status="ok", detail=str(places[0]))


def api_keys() -> Iterator[Finding]:
    """Which providers' keys are set, by name."""
    for name in API_KEYS:
        if os.environ.get(name):
            yield Finding(section="API keys", name=name, status="ok", detail="set")
    if not any(os.environ.get(name) for name in API_KEYS):
        yield Finding(section="API keys", name="none", status="absent", detail="only models on this machine can answer")


def store_state(target: str | None) -> Iterator[Finding]:
    """Where traces go, and whether what is there opens."""
    from orchestra.traces.store import Store
    from orchestra.traces.store.opening import shown, store_url

    try:
        url = store_url(target)
        where = shown(url)
        if url.get_backend_name() == "sqlite" and url.database and not Path(url.database).exists():
            yield Finding(section="store", name="traces", status="absent", detail=f"made at the first run: {where}")
            return
        with Store.open(target, read_only=True) as store:
            runs = len(store.runs(limit=None))
        yield Finding(section="store", name="traces", status="ok", detail=f"{where}, {runs} runs")
    except OrchestraError as cause:
        yield Finding(section="store", name="traces", status="problem", detail=str(cause))


def cached_models(*, quick: bool) -> Iterator[Finding]:
    """The cache, and each language model in it after it was asked for one token."""
    from orchestra.models import weights

    folder = weights.cache_dir() / "models"
    there = weights.installed()
    size = sum(model.bytes for model in there) / 1e6
    detail = f"{folder}: {size:,.0f} MB"
    yield Finding(section="models", name="cache", status="ok" if there else "absent", detail=detail)
    if not there:
        detail = "nothing pulled; bring the embedded one: orchestra models pull smollm2-135m-instruct"
        yield Finding(section="models", name="local", status="absent", detail=detail)
    for model in there:
        if not _is_language_model(model.path):
            yield Finding(section="models", name=model.name, status="ok", detail="embeddings; not asked")
        elif quick or importlib.util.find_spec("torch") is None:
            yield Finding(section="models", name=f"local/{model.name}", status="absent", detail="not asked")
        else:
            yield _asked(f"local/{model.name}")


def _asked(name: str) -> Finding:
    began = time.perf_counter()
    try:
        with blame(ModelError, name):
            said = asyncio.run(_one_token(name))
    except OrchestraError as cause:
        return Finding(section="models", name=name, status="problem", detail=str(cause))
    detail = f"answers ({said!r} after {time.perf_counter() - began:.1f} s, loading included)"
    return Finding(section="models", name=name, status="ok", detail=detail)


async def _one_token(name: str) -> str:
    from graphs import Sampling
    from orchestra.models import Completion, Message, Request, open_model

    model = open_model(name)
    try:
        request = Request(messages=(Message(role="user", content="Hello"),), sampling=Sampling(max_tokens=1))
        events = [event async for event in model.stream(request)]
    finally:
        await model.close()
    return "".join(event.text for event in events if isinstance(event, Completion))


def _is_language_model(folder: Path) -> bool:
    if any(folder.glob("*.gguf")):
        return True
    config = folder / "config.json"
    return config.is_file() and "CausalLM" in config.read_text(encoding="utf-8", errors="replace")


def _places(name: str) -> Iterator[Path]:
    """Everything on the import path that answers to `name`."""
    for entry in sys.path:
        folder = Path(entry or ".").resolve()
        if (folder / name / "__init__.py").is_file():
            yield folder / name
        if (folder / f"{name}.py").is_file():
            yield folder / f"{name}.py"


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def _cpu_flags() -> set[str] | None:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    found = re.search(r"^(?:flags|Features)\s*:(.*)$", text, re.MULTILINE)
    return set(found.group(1).split()) if found else None


def _show(findings: tuple[Finding, ...]) -> None:
    from rich.table import Table
    from rich.text import Text

    styles = {"ok": "green", "absent": "dim", "problem": "bold red"}
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for _ in range(3):
        table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for at, finding in enumerate(findings):
        first = at == 0 or findings[at - 1].section != finding.section
        mark = Text({"ok": "✓", "absent": "–", "problem": "✗"}[finding.status], style=styles[finding.status])
        table.add_row(Text(finding.section if first else "", style="bold"), mark, finding.name, Text(finding.detail))
    console().print(table)
