"""The operator's commands: what a person runs under the name `cnibox`.

Here is what holds for all of them: the standard streams, signals, and that no command ends in a traceback.
"""

from __future__ import annotations

import os
import signal
import sys

from ..main import plugin_meant
from . import failure, output


def run() -> int:
    """Run the command that sys.argv names; the return value is the exit status."""
    unpacked = os.environ.pop("SHIV_ROOT", "")  # of packaging/zip_main.py, not of the processes that we start
    command = ""
    try:
        output.prepare()
        signal.signal(signal.SIGINT, signal.default_int_handler)  # the commands clean up behind themselves
        plugin, arguments = plugin_meant(sys.argv[0], sys.argv[1:])
        if plugin:  # and --help, or it would run
            arguments = ["help", plugin]
        from .commands import commands  # the first import of click

        command = arguments[0] if arguments and arguments[0] in commands.commands else ""
        status = commands.main(arguments, prog_name="cnibox", standalone_mode=False)
        output.finish()
        return status if isinstance(status, int) else 0
    except BaseException as error:
        if unpacked and f"{__name__}.commands" not in sys.modules and isinstance(error, Exception):
            raise  # what is unpacked is broken: zip_main.py takes the same from the file itself
        return failure.report(command, error)
