"""The first code of a stamped file: imports cnibox from the code that the stamp has put there (see stamp.py).

It is compiled into the file, and runs in the globals of lines 1 and 2. Nothing but the interpreter's
built-ins is imported, and no file is looked for.
"""

from __future__ import annotations

import gc
import marshal
import posix
import sys
from _frozen_importlib import ModuleSpec  # importlib.machinery's, without importlib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from io import BufferedReader
    from types import ModuleType

    f: BufferedReader  # this file, open behind the table
    CODE: dict[str, tuple[bool, int, int, tuple[str, ...]]] = {}
    """{module: (is a package, where from here its code is marshalled, how long, what it imports)}"""

CODE_START = f.tell()  # noqa: F821
Module = type(sys)


class StampedImporter:
    """Finder and loader in one (PEP 302, PEP 451)."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        if name not in CODE:
            return None
        return ModuleSpec(name, StampedImporter, is_package=CODE[name][0])  # type: ignore[arg-type]

    @staticmethod
    def create_module(spec: ModuleSpec) -> None:
        return None

    @staticmethod
    def exec_module(module: ModuleType) -> None:
        run(module)


def run(module: ModuleType) -> None:
    """Execute a module's code in it. What it imports is made beforehand: the interpreter's own way takes 35 us each."""
    _, offset, size, imported = CODE[module.__name__]
    for name in imported:
        if name not in sys.modules:
            make(name)
    # From the open file: its name may be another version's by now.
    try:
        code = posix.pread(f.fileno(), size, CODE_START + offset)  # noqa: F821
    except OSError as error:  # no OSError: it says nothing about what the plugin looks for
        raise ImportError(f"reading {module.__name__} from {sys.argv[0]}: {error.strerror}") from None
    exec(marshal.loads(code), module.__dict__)


def make(name: str) -> None:
    """Make a module that runs when it is first asked for an attribute (PEP 562). VERSION saves 0.2 ms by it, of 7."""

    def first_use(attribute: str) -> object:
        del module.__getattr__
        try:
            run(module)
        except BaseException as error:
            module.__getattr__ = first_use  # type: ignore[method-assign]  # whoever asks again hears the same
            if isinstance(error, AttributeError):  # which says to `import` no more than that there is no __path__
                raise RuntimeError(f"{name} does not run: {error}") from error
            raise
        return getattr(module, attribute)

    module = sys.modules[name] = Module(name)
    parent, _, child = name.rpartition(".")
    if CODE[name][0]:
        module.__package__ = name
        module.__path__ = []
    else:
        module.__package__ = parent
    if parent:
        setattr(sys.modules[parent], child, module)
    module.__getattr__ = first_use  # type: ignore[method-assign]


def start() -> None:
    """Be a plugin and end; returns when the operator's commands are meant: they need the zip."""
    gc.disable()  # one short run: freeing everything at its end is cheaper
    sys.meta_path.insert(0, StampedImporter)
    from cnibox.main import main

    status = main(sys.argv[0], sys.argv[1:], operator=lambda: -1)
    if status >= 0:
        posix._exit(status)  # everything is written; the interpreter's own end takes 1 ms
    gc.enable()
    sys.meta_path.remove(StampedImporter)
    for name in CODE:
        sys.modules.pop(name, None)


start()
