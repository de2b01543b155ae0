"""`orchestra proxy`: between an application and its model server, to keep what the server knows of each call."""

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from orchestra.cli import options

if TYPE_CHECKING:
    from orchestra.proxy import Proxy


def proxy_command(
    upstream: Annotated[
        str, typer.Option(metavar="URL", help="The OpenAI-compatible server to pass on to: http://127.0.0.1:8000.")
    ],
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen at; 0 takes a free one.")] = 8100,
    host: Annotated[str, typer.Option(help="Address to listen at.")] = "127.0.0.1",
    processed_logprobs: Annotated[
        bool | None,
        typer.Option(
            "--processed-logprobs/--raw-logprobs",
            help="Whether the server reports log-probabilities after temperature; 'orchestra serve' says it itself.",
        ),
    ] = None,
    redact: options.Redact = None,
    store: options.StoreUrl = None,
    as_json: options.AsJson = False,
) -> None:
    """Pass calls of a model on, and keep their token ids, log-probabilities and usage; take OpenTelemetry spans too."""
    import asyncio

    from orchestra.proxy import serve

    def tell(proxy: "Proxy") -> None:
        if as_json:
            options.print_json(
                {"url": proxy.url, "otlp_url": proxy.otlp_url, "run_id": proxy.run_id, "upstream": upstream}
            )
            sys.stdout.flush()
            return
        print(f"OPENAI_BASE_URL={proxy.url}")
        print(f"OTEL_EXPORTER_OTLP_ENDPOINT={proxy.otlp_url}", flush=True)
        print(f"{upstream} is behind it; Ctrl-C ends it; orchestra traces show {proxy.run_id}", file=sys.stderr)

    clean = options.stated_redactor(redact or ())
    asyncio.run(
        serve(
            upstream,
            store=store,
            host=host,
            port=port,
            tell=tell,
            redact=clean,
            processed_logprobs=processed_logprobs,
        )
    )
