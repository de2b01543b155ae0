"""What a name of the form `BASE[+ADAPTER]@URL[?settings]` means.

The address begins at `@http://` or `@https://`, since a version of an adapter has an `@` of its own:
`smollm2-135m-instruct+critic@3f2a9c01d4e5@http://127.0.0.1:8000`.
"""

from dataclasses import dataclass
from urllib.parse import parse_qsl, urlsplit

from orchestra.errors import InputError
from orchestra.models.serving import record as records
from orchestra.models.serving.record import Record
from orchestra.plugins import closest

SWITCHES = ("token_ids", "stream", "tools", "logprobs", "processed_logprobs")
"""Settings of `open_vllm` that an address may carry, as in `@http://host:8000?token_ids=false&tools=true`."""

_TRUTH = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """A model on a server."""

    base: str
    """Name the server gives the base weights."""
    adapter: str | None
    """Name of an adapter, with its version or without; `None` asks the base weights."""
    url: str | None
    """Root of the server, without `/v1`; `None` when the name says none."""
    switches: dict[str, bool]
    """Of `SWITCHES`, as the address says."""


def parsed(name: str) -> Address:
    """What `name`, without its prefix `vllm/`, stands for.

    >>> parsed("tiny+critic@1f@http://127.0.0.1:8000/v1").adapter
    'critic@1f'

    Raises:
        InputError: when it names no model or no address.
    """
    at = max(name.find("@http://"), name.find("@https://"))
    model, url = (name, None) if at < 0 else (name[:at], name[at + 1 :])
    base, plus, adapter = model.partition("+")
    if not base or (plus and not adapter):
        raise InputError(f"{name!r} names no model; write vllm/NAME@http://HOST:PORT or vllm/NAME+ADAPTER@VERSION@URL")
    if url is None:
        return Address(base=base, adapter=adapter or None, url=None, switches={})
    parts = urlsplit(url)
    if not parts.hostname:
        raise InputError(f"{url!r} (in {name!r}) is no address of a server; write http://HOST:PORT")
    root = f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/').removesuffix('/v1')}"
    return Address(base=base, adapter=adapter or None, url=root, switches=_switches(parts.query, name))


def host_and_port(url: str) -> tuple[str, int] | None:
    """Where the server at `url` listens; `None` when the address names no host.

    >>> host_and_port("https://models.example/v1")
    ('models.example', 443)
    """
    parts = urlsplit(url)
    return None if parts.hostname is None else (parts.hostname, parts.port or (443 if parts.scheme == "https" else 80))


def is_loopback(url: str) -> bool:
    """Whether `url` is an address of this machine."""
    host = urlsplit(url).hostname or ""
    return host in ("localhost", "::1") or host.startswith("127.")


def record_of(address: Address, name: str) -> Record | None:
    """What `orchestra serve` wrote down of the server that `name` means; `None` when it did not start it.

    Raises:
        InputError: the name says no address, and not exactly one server of that model runs here.
    """
    if address.url is not None:
        record = records.found(address.url)
        return record if record is not None and record.model == address.base else None
    running = records.running(address.base)
    if len(running) != 1:
        several = ", ".join(record.url for record in running)
        raise InputError(
            f"'vllm/{name}' says no address"
            + (f", and several servers run that model ({several})" if several else " and no such server runs here")
            + f"; write vllm/{name}@http://HOST:PORT, or start one: orchestra serve {address.base}"
        )
    return running[0]


def _switches(query: str, name: str) -> dict[str, bool]:
    switches: dict[str, bool] = {}
    for key, value in parse_qsl(query, keep_blank_values=True):
        if key not in SWITCHES:
            raise InputError(f"no setting {key!r} of a vLLM model (in {name!r}); {closest(key, SWITCHES)}")
        if value.lower() not in _TRUTH:
            raise InputError(f"{key} is true or false, got {value!r} (in {name!r})")
        switches[key] = _TRUTH[value.lower()]
    return switches
