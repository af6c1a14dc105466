"""`python -m cnibox`, and the script that pip makes: the same as the file `cnibox`."""

import sys

if sys.version_info < (3, 11):  # noqa: UP036
    from .old_python import refuse

    sys.exit(refuse())

from .main import main


def console() -> None:
    """Be what the name of the program, or its first argument, says."""
    sys.exit(main(sys.argv[0], sys.argv[1:], _operator))


def _operator() -> int:
    from .cli import run

    return run()


if __name__ == "__main__":
    console()
