"""The stamp: how its modules are imported. What a whole stamped file does is in tests/budget/test_start.py."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from cnibox.cli import stamp

PRELUDE = Path(stamp.__file__).with_name("prelude.py").read_text()


def told(tmp_path: Path, **modules: str) -> list[str]:
    """The lines that a stamped file prints whose package cnibox has these modules."""
    sources = {f"cnibox.{name}": (f"cnibox/{name}.py", text) for name, text in modules.items()}
    sources["cnibox"] = ("cnibox/__init__.py", "")
    sources[stamp.PRELUDE] = ("cnibox/cli/prelude.py", PRELUDE)
    file = tmp_path / "stamped"
    first = stamp.SHEBANG.format(sys.executable)
    file.write_bytes(first.encode() + stamp.stamp(dict(sorted(sources.items()))))
    code = first.rstrip("\n").partition(" -ISc")[2]
    done = subprocess.run([sys.executable, "-ISc", code, str(file)], capture_output=True, text=True, check=True)
    return done.stderr.splitlines()


SAY = "import sys\ndef main(program, arguments, operator):\n    say = lambda *words: print(*words, file=sys.stderr)\n"


def test_modules_run_once_and_when_they_are_used(tmp_path: Path) -> None:
    main = f"from . import first, second\n{SAY}    say('begun'); say(first.VALUE, second.VALUE)\n    return 0"
    first = "import sys\nprint('first', file=sys.stderr)\nfrom .second import VALUE"
    second = "import sys\nprint('second', file=sys.stderr)\nVALUE = 7"
    assert told(tmp_path, main=main, first=first, second=second) == ["begun", "first", "second", "7 7"]


def test_a_module_that_fails_says_so_each_time(tmp_path: Path) -> None:
    """`import` takes an AttributeError for the answer that there is no such attribute."""
    body = """
    for _ in range(2):
        try:
            from .bad import BEFORE
        except Exception as error:
            say(error)
    return 0
"""
    for fault, expected in (("sys.nothing", "module 'sys' has no attribute 'nothing'"), ("1 / 0", "division by zero")):
        said = told(tmp_path, main=f"from . import bad\n{SAY}{body}", bad=f"import sys\nBEFORE = 1\n{fault}\n")
        assert len(said) == 2 and all(expected in line for line in said), said
