"""`python -m cnibox`: the same as the file `cnibox`."""

from __future__ import annotations

from .main import console

console()
