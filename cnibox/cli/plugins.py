"""`cnibox list` and `cnibox help PLUGIN`: what there is, and what each takes."""

from __future__ import annotations

import inspect
import sys

import click

from .. import registry
from ..wiring.link import LinkPlugin
from ..wiring.veth import VethPlugin

MAKES_AN_INTERFACE = """\
Like all that make an interface it takes "ipam", the configuration of the plugin that gives the addresses, and "dns",
which is for the container in place of what that plugin says."""


@click.command("list")
def list_plugins() -> None:
    """The plugins, one a line."""
    width = max(map(len, registry.PLUGINS))
    for name, (_, _, line) in registry.PLUGINS.items():
        click.echo(f"{name:<{width}}  {line}")


@click.command("help")
@click.argument("plugin", required=False, type=click.Choice(list(registry.PLUGINS)))
@click.pass_context
def help_plugin(ctx: click.Context, plugin: str | None) -> None:
    """What a plugin is, and its options."""
    if plugin is None:
        click.echo(ctx.parent.get_help() if ctx.parent else ctx.get_help())
        return
    found = registry.load(plugin)
    click.echo(inspect.cleandoc(sys.modules[found.__module__].__doc__ or registry.PLUGINS[plugin][2]))
    rows = [(name, _about(*rest)) for name, *rest in found.options.rows()]
    click.echo("\nOptions:\n" if rows else "\nIt has no options of its own.")
    if rows:
        formatter = click.HelpFormatter(width=110)
        with formatter.indentation():
            formatter.write_dl(rows)
        click.echo(formatter.getvalue(), nl=False)
    if issubclass(found, (LinkPlugin, VethPlugin)):
        click.echo(f"\n{MAKES_AN_INTERFACE}")


def _about(kind: str, default: str, text: str) -> str:
    allowed = f"{kind}; default {default}" if default else kind
    return f"{text} ({allowed})" if text else allowed
