"""The operator's commands: what a person runs under the name `cnibox`."""

from __future__ import annotations

import os
import sys

import click

from .. import __version__
from ..main import plugin_meant
from ..registry import PLUGINS
from .install import install
from .leases import leases, reclaim
from .plugins import help_plugin, list_plugins
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


@click.group(
    cls=Commands,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="`cnibox PLUGIN < conf` is the plugin, as a symlink of that name would be.",
)
@click.version_option(__version__, prog_name="cnibox")
@click.pass_context
def commands(ctx: click.Context) -> None:
    """Every CNI plugin in one file."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


commands.add_command(install)
commands.add_command(leases)
commands.add_command(list_plugins)
commands.add_command(help_plugin)
commands.add_command(reclaim)
commands.add_command(repair)


def run() -> int:
    """Run the command that sys.argv names; errors of the system are told to people, without a traceback."""
    # Ours (see packaging/zip_main.py), no business of the processes that we start.
    os.environ.pop("SHIV_ROOT", None)
    plugin, arguments = plugin_meant(sys.argv[0], sys.argv[1:])
    if plugin:  # and --help, or it would run
        arguments = ["help", plugin]
    try:
        commands.main(arguments, prog_name="cnibox", standalone_mode=False)
        sys.stdout.flush()
    except click.exceptions.Exit as end:
        return end.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except click.Abort:
        click.echo("Aborted.", err=True)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # nobody reads on; nothing more to say at exit either
        return 1
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        click.echo(f"Error: {place}{error.strerror or error}", err=True)
        return 1
    return 0
