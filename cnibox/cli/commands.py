"""The table of the commands, and what `cnibox` alone says."""

from __future__ import annotations

import click

from .. import __version__
from ..registry import PLUGINS
from . import output
from .help import help_command, list_plugins, unknown
from .install import install
from .leases import leases, reclaim
from .repair import repair

VARIABLES = [
    ("CNIBOX_LOG_FILE", "a file to append the log to; without it the log goes to stderr"),
    ("CNIBOX_LOG", "debug, info, warning or error; default: warning, which includes each operation that failed"),
    ("CNIBOX_DEBUG", "1 prints where in the code an error arose, on stderr"),
]


class Commands(click.Group):
    """A group whose help ends with the table of plugins, and the variables that they read."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Plugins"):
            formatter.write_dl([(name, line) for name, (_, _, line) in PLUGINS.items()])
        with formatter.section("Environment variables of the plugins"):
            formatter.write_dl(VARIABLES)
        super().format_epilog(ctx, formatter)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in self.commands and not args[0].startswith("-"):
            raise click.UsageError(unknown(args[0], self.commands))
        return super().resolve_command(ctx, args)


@click.group(
    cls=Commands,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "terminal_width": output.width()},
    epilog="`cnibox help NAME` tells more of a command or a plugin. "
    "`cnibox PLUGIN < conf` runs the plugin, as a symlink of that name does.",
)
@click.version_option(__version__, prog_name="cnibox")
@click.pass_context
def commands(ctx: click.Context) -> None:
    """Every CNI plugin in one file."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


for command in (help_command, install, leases, list_plugins, reclaim, repair):
    commands.add_command(command)
