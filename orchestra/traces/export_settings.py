"""Where spans are sent besides the store, and whether with what was said: an option, or the `OTEL_*` variables.

The variables govern export alone; the store heeds none of them. They are read here and by the exporter's library
(headers, certificates, compression), and only a command line reads them unasked: a program says so with
`Settings.otlp`.
"""

import os
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

from orchestra.errors import InputError

CONTENT_VARIABLE: Final = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
_PATH: Final = "/v1/traces"
_ON_SPANS: Final = frozenset({"span_only", "span_and_event", "true", "1"})
"""Values that ask for content on spans; `true` is how earlier instrumentations spelt it."""


def traces_url(option: str | None, environment: Mapping[str, str] | None = None) -> str | None:
    """The address spans are posted to; `None` sends none.

    Args:
        option: what the user wrote; wins over every variable.
        environment: `None` takes the process's.

    Raises:
        InputError: it is no HTTP address.
    """
    variables = os.environ if environment is None else environment
    if option:
        return _checked(option, "--otlp")
    off = variables.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
    exporters = variables.get("OTEL_TRACES_EXPORTER", "otlp").strip().lower() or "otlp"
    if off or "otlp" not in exporters:
        return None
    if exact := variables.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "").strip():
        return _checked(exact, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", path="")
    base = variables.get("OTEL_EXPORTER_OTLP_ENDPOINT", "").strip()
    return _checked(base, "OTEL_EXPORTER_OTLP_ENDPOINT") if base else None


def full_url(url: str) -> str:
    """The address spans are posted to, of a collector that a program names: as it is, or with the path it lacks.

    Raises:
        InputError: it is no HTTP address.
    """
    checked = _checked(url, "Settings.otlp", path="")
    return checked if urlsplit(checked).path.strip("/") else checked.rstrip("/") + _PATH


def wants_content(environment: Mapping[str, str] | None = None) -> bool:
    """Whether what was said is sent too. As the convention has it, only when asked for."""
    variables = os.environ if environment is None else environment
    return variables.get(CONTENT_VARIABLE, "").strip().lower() in _ON_SPANS


def patience(environment: Mapping[str, str] | None = None) -> float:
    """Seconds that the end of a run waits for a collector that has not answered yet: the user's time-out, else 2."""
    variables = os.environ if environment is None else environment
    for name in ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "OTEL_EXPORTER_OTLP_TIMEOUT"):
        try:
            return max(0.0, float(variables.get(name, "")))
        except ValueError:
            continue
    return 2.0


def _checked(url: str, where: str, path: str = _PATH) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InputError(f"{where} {url!r} is not an HTTP address; write it like http://localhost:6006")
    return url if not path or parts.path.endswith(path) else url.rstrip("/") + path
