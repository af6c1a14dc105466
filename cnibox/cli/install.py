"""`cnibox install DIR`: the file itself, stamped for an interpreter, and a symlink for each plugin."""

from __future__ import annotations

import inspect
import io
import marshal
import os
import re
import shutil
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import click

from .. import __version__
from ..old_python import NEEDED, needed
from ..registry import PLUGINS
from . import stamp
from .placing import File, Link, Part, check_folder, put_in_place

FILE = "cnibox"
OF_PEOPLE = ("cnibox/cli/", "cnibox/__main__.py")
"""What no plugin imports."""

UNITS = "systemd/"
"""The folder of systemd's units in the zip."""
COMMAND_IN_UNITS = "/usr/local/bin/cnibox"
"""The command's path in packaging/systemd; `install --units` puts the installed file's path there."""


@click.command()
@click.argument("directory", type=click.Path(path_type=Path))
@click.option("--link", metavar="FOLDER", type=click.Path(path_type=Path), help="Also link FOLDER/cnibox to the file.")
@click.option(
    "--units",
    metavar="FOLDER",
    type=click.Path(path_type=Path),
    help="Also write the systemd units that run `cnibox repair` after a firewall's reload, for /etc/systemd/system.",
)
@click.option(
    "--python", metavar="PATH", help="The interpreter that runs the plugins. Default: the one that runs this."
)
@click.option("--force", is_flag=True, help="Replace files that are not cnibox's, such as the Go plugins.")
def install(directory: Path, link: Path | None, units: Path | None, python: str | None, force: bool) -> None:
    """Copy this file to DIRECTORY, with a symlink for each plugin.

    DIRECTORY is made if it is missing. The copy is stamped: the plugins are compiled ahead for the interpreter. When
    that changes its version the plugins still run, slower, until the next install.

    Do not put DIRECTORY in front of PATH: its plugin `bridge` would hide the command bridge(8) of iproute2, and so
    with others. For people there is --link.

    \b
    Example:
    cnibox install /opt/cni/bin --link /usr/local/bin --units /etc/systemd/system
    """
    archive = _own_archive()
    directory = _whole(directory)
    content, description = _stamped(archive, python or sys.executable)
    command = directory / FILE
    parts: list[Part] = [File(command, content, description, try_out=_try_out)]
    parts += [Link(directory / name, FILE) for name in PLUGINS]
    if link is not None and link.resolve() != directory.resolve():
        parts.append(Link(_whole(link) / FILE, str(command)))
    if units is not None:
        parts += [_unit(_whole(units) / name, text) for name, text in _units(archive, command).items()]
    check_folder(directory, runs=True)
    _check_targets([part.path for part in parts], force)
    put_in_place(parts)


def _whole(path: Path) -> Path:
    return Path(os.path.abspath(path))


def _unit(path: Path, text: str) -> File:
    name = path.name.replace("@.service", "@nftables").removesuffix(".service")
    return File(path, text.encode(), f"to use it: systemctl enable --now {name}", mode=0o644)


def _own_archive() -> Path:
    archive = getattr(stamp.__loader__, "archive", None)
    if archive is None:
        raise click.ClickException(
            "this cnibox runs from a folder of modules; what can be installed for runtimes is the one file:\n"
            "packaging/build makes dist/cnibox, then: dist/cnibox install DIR"
        )
    return Path(archive)


def _check_targets(targets: list[Path], force: bool) -> None:
    """Refuse before anything is changed, and name all that stands in the way."""
    foreign = [path for path in targets if not _is_ours(path)]
    folders = [path for path in foreign if path.is_dir() and not path.is_symlink()]
    if folders:
        raise click.ClickException(f"{', '.join(map(str, folders))}: a directory is in the way")
    if foreign and not force:
        raise click.ClickException(
            f"{', '.join(map(str, foreign))}: not cnibox's; nothing was changed, --force replaces them"
        )


def _is_ours(path: Path) -> bool:
    """Absent, a file of cnibox, or a link to one; known by what is in it, whatever its version."""
    if path.is_symlink() and not path.exists():
        return path.readlink().name.startswith(FILE)
    if not os.path.lexists(path):
        return True
    if path.suffix == ".service":
        return path.is_file() and b"cnibox repair" in path.read_bytes()
    if not path.is_file() or not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return "cnibox/registry.py" in archive.namelist()


def _stamped(archive: Path, python: str) -> tuple[bytes, str]:
    """The content of the installed file, and a word on what it is."""
    executable, version, code = _compile(archive, python)
    plain_zip = _zip_of(archive.read_bytes())
    shebang = stamp.SHEBANG.format(executable).encode()
    if len(shebang.rstrip()) <= stamp.MAX_SHEBANG:
        return shebang + code + _without_compiled(plain_zip), f"{__version__}, stamped for {executable} ({version})"
    shebang = stamp.PLAIN_SHEBANG.format(executable).encode()
    if len(shebang.rstrip()) > stamp.MAX_SHEBANG:
        raise click.ClickException(f"{executable}: this path is too long for the first line of a script")
    return (
        shebang + plain_zip,
        f"{__version__}, for {executable}; not stamped, its path is too long: plugins start slower",
    )


def _without_compiled(plain_zip: bytes) -> bytes:
    """Of no use behind a stamp: what is compiled in the zip is for the Python that built it."""
    smaller = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(plain_zip)) as found, zipfile.ZipFile(smaller, "w") as kept:
        for entry in found.infolist():
            if not entry.filename.endswith(".pyc"):
                kept.writestr(entry, found.read(entry), entry.compress_type)
    return smaller.getvalue()


def _compile(archive: Path, python: str) -> tuple[str, str, bytes]:
    """Have the interpreter compile the plugins: (its own path, its version, lines 2 and 3 of the stamp)."""
    path = shutil.which(python)
    if path is None:
        raise click.ClickException(f"{python}: no such interpreter")
    _check_version(path)
    text = inspect.getsource(stamp)
    command = [path, "-IS", "-X", "no_debug_ranges", "-c", text]
    done = subprocess.run(command, input=marshal.dumps(_sources(archive), 2), capture_output=True, check=False)
    try:
        executable, version, code = marshal.loads(done.stdout)
    except (EOFError, ValueError, TypeError):
        complaint = done.stderr.decode(errors="replace").strip()
        reason = f": {complaint.splitlines()[-1]}" if complaint else ""
        raise click.ClickException(f"{path} cannot compile the plugins{reason}") from None
    if not executable.startswith("/") or any(character.isspace() for character in executable):
        raise click.ClickException(f"{executable!r}: a script's first line cannot name this path")
    return executable, version, code


def _check_version(path: str) -> None:
    """Ask the interpreter which Python it is, in words that any Python understands."""
    script = "import sys; sys.stdout.write('.'.join(map(str, sys.version_info[:3])))"
    try:
        done = subprocess.run([path, "-ES", "-c", script], capture_output=True, check=False)
    except OSError as error:
        raise click.ClickException(f"{path} cannot be run: {error.strerror}") from None
    answer = done.stdout.decode(errors="replace")
    if not re.fullmatch(r"\d+\.\d+\.\d+", answer):
        raise click.ClickException(f"{path} is no Python; {needed()}")
    if tuple(map(int, answer.split("."))) < NEEDED:
        raise click.ClickException(f"{needed()}; {path} is Python {answer}")


def _sources(archive: Path) -> dict[str, tuple[str, str]]:
    """{module: (path, text)} of the prelude and of all that plugins import."""
    sources = {}
    with zipfile.ZipFile(archive) as content:
        for path in sorted(content.namelist()):
            module = path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
            of_plugins = path.startswith("cnibox/") and not path.startswith(OF_PEOPLE)
            if path.endswith(".py") and (of_plugins or module == stamp.PRELUDE):
                sources[module] = (path, content.read(path).decode())
    return sources


def _zip_of(content: bytes) -> bytes:
    """The zip without what stands in front of it; its directory says how long it is (APPNOTE.TXT 4.3.16)."""
    end = content.rindex(b"PK\5\6")
    size, offset = struct.unpack_from("<LL", content, end + 12)
    return content[end - size - offset :]


def _units(archive: Path, command: Path) -> dict[str, str]:
    """{name: text} of the units, which run that command."""
    if not re.fullmatch(r"[\w/.+@:-]+", str(command), re.ASCII):
        raise click.ClickException(f"{command}: --units takes no blanks or special characters in DIRECTORY's path")
    with zipfile.ZipFile(archive) as content:
        names = [name for name in content.namelist() if name.startswith(UNITS)]
        texts = {name.removeprefix(UNITS): content.read(name).decode() for name in names}
    return {name: text.replace(COMMAND_IN_UNITS, str(command)) for name, text in texts.items()}


def _try_out(file: Path) -> None:
    """Run the new file before it takes the place of the old one."""
    command = [str(file.absolute()), next(iter(PLUGINS))]
    try:
        done = subprocess.run(command, env={"CNI_COMMAND": "VERSION"}, capture_output=True, check=False)
    except OSError as error:
        raise click.ClickException(f"{file} cannot be run: {error.strerror}; nothing was changed") from None
    if done.returncode != 0 or b"supportedVersions" not in done.stdout:
        said = (done.stderr or done.stdout).decode(errors="replace").strip()
        raise click.ClickException(f"the new file does not answer VERSION, nothing was changed; it says: {said}")
