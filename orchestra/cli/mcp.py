"""`orchestra mcp`: a team as a tool for MCP clients, and MCP servers' tools as components of an inventory."""

from decimal import Decimal
from pathlib import Path
from typing import Annotated

import typer

from orchestra.cli import options
from orchestra.cli.sharing import spread

mcp_app = typer.Typer(no_args_is_help=True, help="Serve a team over the Model Context Protocol, or use its servers.")


@mcp_app.command("serve")
@spread
def serve(
    team: Annotated[Path, typer.Argument(help="Team file, as `orchestra compose` writes it.")],
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Serve streamable HTTP on it; else standard input and output.")
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    description: Annotated[str | None, typer.Option(help="What the tool is for, as clients' models read it.")] = None,
    max_cost: options.MaxCost = None,
    *,
    allowed: options.AllowanceOptions,
    how: options.CallOptions,
    store: options.StoreUrl = None,
) -> None:
    """Answer MCP clients with a team until they leave."""
    from orchestra.errors import MissingExtra

    try:
        from orchestra.execution.mcp import serve_team
    except ModuleNotFoundError as cause:
        raise MissingExtra("mcp", "`orchestra mcp serve`") from cause
    from orchestra.execution.runner import run_sync

    run_sync(
        serve_team(
            team,
            max_cost_usd=max_cost,
            settings=how.settings(allowances=allowed.allowances()),
            store=store,
            description=description,
            host=host,
            port=port,
        )
    )


@mcp_app.command("tools")
def tools(
    servers: Annotated[Path, typer.Argument(help="A file `mcp.json`, in the form other MCP clients read.")],
    price_usd: Annotated[
        Decimal, typer.Option(parser=options.amount, metavar="USD", help="Equipment price of each tool.")
    ] = Decimal("0"),
    trust: options.Trust = False,
    as_json: options.AsJson = False,
) -> None:
    """Print what the servers of a file offer, as components to paste into an inventory beside it."""
    from orchestra.errors import MissingExtra

    try:
        from orchestra.agents.mcp import offered
    except ModuleNotFoundError as cause:
        raise MissingExtra("mcp", "`orchestra mcp tools`") from cause
    from orchestra.execution.runner import run_sync

    components = [
        {"name": name, "kind": "tool", "description": description, "price_usd": str(price_usd), "call": call}
        for name, call, description in run_sync(offered(servers, trust=trust))
    ]
    if as_json:
        options.print_json({"components": components})
        return
    import yaml

    text = yaml.safe_dump({"components": components}, sort_keys=False, allow_unicode=True, width=110)
    typer.echo(text, nl=False)
