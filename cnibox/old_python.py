"""What cnibox answers when a Python older than it needs has started it.

That Python reads this file, `__init__.py` and `__main__.py` of cnibox, and packaging/zip_main.py before anything else.
They keep to the syntax of Python 3.6. A stamped file does not come here with the interpreter that it is stamped for.
"""

import posix
import sys

NEEDED = (3, 11)


def refuse() -> int:
    """Say which Python is needed and which this is, to a runtime or a person; the return value is the exit status."""
    problem = f"{needed()}; {sys.executable or 'this'} is Python {'.'.join(map(str, sys.version_info[:3]))}"
    advice = "cnibox's install command, run with a newer Python or with --python PATH, sets the one that plugins use"
    command = posix.environ.get(b"CNI_COMMAND")
    if command:
        code = 50 if command == b"STATUS" else 999  # spec.errors: PLUGIN_UNAVAILABLE, INTERNAL
        shown = problem.replace("\\", "\\\\").replace('"', '\\"')
        text = f'{{\n    "code": {code},\n    "msg": "{shown}",\n    "details": "{advice}"\n}}'
    else:
        text = f"{problem}\n{advice}\n"
    try:
        posix.write(1 if command else 2, text.encode("utf-8", "surrogateescape"))
    except OSError:
        pass  # nobody reads it
    return 1


def needed() -> str:
    return f"cnibox needs Python {NEEDED[0]}.{NEEDED[1]} or newer"
