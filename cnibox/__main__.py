"""`python -m cnibox`, and the script that pip makes: the same as the file `cnibox`."""

from __future__ import annotations

import sys

from .main import main


def console() -> None:
    """Be what the name of the program, or its first argument, says."""
    sys.exit(main(sys.argv[0], sys.argv[1:], _operator))


def _operator() -> int:
    from .cli import run

    return run()


if __name__ == "__main__":
    console()
