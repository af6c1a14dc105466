"""`cnibox list` and `cnibox help NAME`: the plugins and the commands, and what each takes."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Collection

import click

from .. import registry
from ..plugin import Plugin
from ..wiring.link import LinkPlugin
from ..wiring.veth import VethPlugin
from . import output
from .example import commands_to_try, compact, paragraphs

MAKES_AN_INTERFACE = """\
Like all that make an interface it takes "ipam", the configuration of the plugin that gives the addresses, and "dns",
which is for the container in place of what that plugin says."""

TO_TRY_IT = "To try it, paste this as root; the last command with CNI_COMMAND=DEL undoes what it did:"


@click.command("list")
def list_plugins() -> None:
    """List the plugins, one a line."""
    width = max(map(len, registry.PLUGINS))
    for name, (_, _, line) in registry.PLUGINS.items():
        output.say(f"{name:<{width}}  {line}")


@click.command("help")
@click.argument("name", required=False)
@click.pass_context
def help_command(ctx: click.Context, name: str | None) -> None:
    """Explain a command, or a plugin and its options.

    NAME is a command or a plugin; without it the list of both is printed.
    """
    top = ctx.parent or ctx
    commands = top.command.commands if isinstance(top.command, click.Group) else {}
    if name is None:
        output.say(top.get_help())
    elif name in commands:
        command = commands[name]
        output.say(command.make_context(name, [], parent=top, resilient_parsing=True).get_help())
    elif name in registry.PLUGINS:
        output.say(about_plugin(name, registry.load(name)))
    else:
        raise click.UsageError(unknown(name, commands))


def unknown(name: str, commands: Collection[str]) -> str:
    """The message for a name that is neither a command nor a plugin."""
    from difflib import get_close_matches

    close = get_close_matches(name, [*commands, *registry.PLUGINS], cutoff=0.7)
    meant = f"; did you mean {' or '.join(close)}?" if close else ""
    return f"there is no command or plugin {name!r}{meant}"


def about_plugin(name: str, plugin: type[Plugin]) -> str:
    """What the module of a plugin says of it, its options, and an example to paste."""
    width = output.width()
    docstring = sys.modules[plugin.__module__].__doc__ or f"{name}: {registry.PLUGINS[name][2]}"
    text = inspect.cleandoc(docstring)
    parts = [compact(part, width) if isinstance(part, dict) else wrapped(part) for part in paragraphs(text)]
    parts.append(_options(plugin, width) or "It has no options of its own.")
    if issubclass(plugin, (LinkPlugin, VethPlugin)):
        parts.append(wrapped(MAKES_AN_INTERFACE))
    parts.append(wrapped(TO_TRY_IT))
    parts.append(commands_to_try(name, plugin, width))
    return "\n\n".join(parts)


def wrapped(text: str) -> str:
    """A paragraph in the terminal's width."""
    return click.wrap_text(" ".join(text.split()), output.width())


def _options(plugin: type[Plugin], width: int) -> str:
    rows = [(name, _about(*rest)) for name, *rest in plugin.options.rows()]
    if not rows:
        return ""
    formatter = click.HelpFormatter(width=width)
    with formatter.indentation():
        formatter.write_dl(rows, col_max=width // 2)
    return f"Options:\n\n{formatter.getvalue()}".rstrip("\n")


def _about(kind: str, default: str, text: str) -> str:
    if default == "required":
        allowed = f"{kind}; required"
    else:
        allowed = f"{kind}; default {default}" if default else kind
    return f"{text} ({allowed})" if text else allowed
