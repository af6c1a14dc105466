"""pack.py BUNDLE TARGET: cnibox and its own __main__.py in front of what shiv has bundled; the one file.

    __main__.py      packaging/zip_main.py: decides which way to go
    cnibox/          imported from here, by plugins and by the operator's commands; compiled, too
    systemd/         the units that `install --units` writes
    _bootstrap/      shiv's; unpacks site-packages and imports cnibox.cli
    site-packages/   what only the operator's commands import
    environment.json

Entries are sorted, have one time and one mode, and are deflated. A plugin that has to be compiled first, by a Python of
another version, takes 45 ms instead of 15; what is installed is stamped, and reads none of them.

All paths here are relative: strings that Python interns, as pathlib does the parts of a path, can show in
marshalled code.
"""

from __future__ import annotations

import hashlib
import importlib.util
import io
import json
import marshal
import os
import sys
import time
import zipfile
from pathlib import Path

SHEBANG = b"#!/usr/bin/python3 -IS\n"
LIMIT = 1_500_000
INSTALLERS_NOTES = ("RECORD", "INSTALLER", "REQUESTED", "direct_url.json")
"""Files of a dist-info folder that tell of this machine, and not of the package."""


def bundled(bundle: Path) -> dict[str, bytes]:
    """What of shiv's output goes into the file."""
    with zipfile.ZipFile(bundle) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    del files["__main__.py"]
    return {
        name: data
        for name, data in files.items()
        if not name.startswith("site-packages/bin/") and Path(name).name not in INSTALLERS_NOTES
    }


def own() -> dict[str, bytes]:
    """cnibox itself; a folder that is no package would be missing from a zip's import, so it is refused."""
    files = {path.as_posix(): path.read_bytes() for path in sorted(Path("cnibox").glob("**/*.py"))}
    for folder in {folder for name in files for folder in Path(name).parents} - {Path()}:
        if f"{folder}/__init__.py" not in files:
            sys.exit(f"pack.py: {folder}/__init__.py is missing")
    compiled = {f"{name}c": pyc(name, text) for name, text in files.items()}
    units = {f"systemd/{path.name}": path.read_bytes() for path in Path("packaging/systemd").iterdir()}
    return {"__main__.py": Path("packaging/zip_main.py").read_bytes(), **files, **compiled, **units}


def pyc(name: str, text: bytes) -> bytes:
    """As PEP 552 has it: bytecode's version, flags (1: the source does not count), its hash (unused), code."""
    code = compile(text, name, "exec", dont_inherit=True, optimize=0)
    return importlib.util.MAGIC_NUMBER + (1).to_bytes(4, "little") + bytes(8) + marshal.dumps(code)


def environment(files: dict[str, bytes]) -> bytes:
    """shiv's settings, with a build id of what it unpacks: it names the folder in its cache."""
    settings = json.loads(files["environment.json"])
    digest = hashlib.sha256()
    for name in sorted(files):
        if name.startswith("site-packages/"):
            digest.update(f"{name}\0{len(files[name])}\0".encode() + files[name])
    settings["build_id"] = digest.hexdigest()[:16]
    return json.dumps(settings, sort_keys=True).encode()


def zipped(files: dict[str, bytes]) -> bytes:
    when = time.gmtime(int(os.environ["SOURCE_DATE_EPOCH"]))[:6]
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in sorted(files):
            entry = zipfile.ZipInfo(name, when)
            entry.create_system = 3  # Unix: the mode counts
            entry.external_attr = 0o100644 << 16
            archive.writestr(entry, files[name], zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def main(bundle: Path, target: Path) -> None:
    files = bundled(bundle)
    files["environment.json"] = environment(files)
    files.update(own())
    content = SHEBANG + zipped(files)
    if len(content) > LIMIT:
        sys.exit(f"pack.py: {target} would have {len(content)} bytes, more than {LIMIT}")
    temporary = target.with_name(f".{target.name}.tmp")
    temporary.write_bytes(content)
    temporary.chmod(0o755)
    temporary.rename(target)
    print(f"{target}: {len(files)} files, {len(content)} bytes")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
