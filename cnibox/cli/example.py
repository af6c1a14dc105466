"""The example in a plugin's docstring, and the commands that run it."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from ..plugin import Plugin
from ..registry import PLUGINS, load
from ..wiring.chained import ChainedPlugin

Object = dict[str, Any]
USUAL_FOLDER = "/opt/cni/bin"
GIVEN_BY_RUNTIME = '"runtimeConfig": '
"""In a docstring, in front of what a runtime adds to the configuration."""


def paragraphs(text: str) -> list[str | Object]:
    """A docstring's paragraphs; the objects of an example by themselves, decoded."""
    result: list[str | Object] = []
    for paragraph in text.split("\n\n"):
        while paragraph.startswith("{"):
            value, end = json.JSONDecoder().raw_decode(paragraph)
            result.append(value)
            paragraph = paragraph[end:].lstrip()
        if paragraph:
            result.append(paragraph)
    return result


def request(name: str, plugin: type[Plugin]) -> Object:
    """The example of a plugin as a whole configuration, which an ADD takes."""
    text = sys.modules[plugin.__module__].__doc__ or ""
    options = next((part for part in paragraphs(text) if isinstance(part, dict)), {"type": name})
    config: Object = {"cniVersion": "1.1.0", "name": "demo"}
    if plugin.__module__.startswith("cnibox.plugins.ipam"):
        return {**config, "type": name, "ipam": options}
    options.pop("capabilities", None)  # of a network's list: what the runtime makes of them is runtimeConfig
    config |= options
    _, found, added = text.partition(GIVEN_BY_RUNTIME)
    if found:
        config["runtimeConfig"], _ = json.JSONDecoder().raw_decode(added)
    return config


def commands_to_try(name: str, plugin: type[Plugin], width: int) -> str:
    """A shell's commands that make a namespace and run the plugin's ADD in it, behind bridge's if it needs that."""
    config = request(name, plugin)
    lines = ["ip netns add demo"]
    if not issubclass(plugin, ChainedPlugin):
        return "\n".join([*lines, *_add(name, compact(config, width))])
    earlier = _add("bridge", compact(request("bridge", load("bridge")), width))
    last = _add(name, compact({**config, "prevResult": "$result"}, width).replace('"$result"', "$result"))
    last[-3] = last[-3].replace("'JSON'", "JSON")  # here the shell puts the result in
    return "\n".join([*lines, f"result=$({earlier[0]}", *earlier[1:], ")", *last])


def _add(name: str, config: str) -> list[str]:
    """The lines of one ADD."""
    ifname = "lo" if name == "loopback" else "eth0"
    return [
        "CNI_COMMAND=ADD CNI_CONTAINERID=demo CNI_NETNS=/run/netns/demo \\",
        f"CNI_IFNAME={ifname} CNI_PATH={_folder()} cnibox {name} <<'JSON'",
        config,
        "JSON",
    ]


def _folder() -> str:
    """Where the plugins are: this file's folder, if it has their links."""
    folder = os.path.dirname(os.path.realpath(sys.argv[0]))
    return folder if all(os.path.lexists(f"{folder}/{name}") for name in PLUGINS) else USUAL_FOLDER


def compact(value: Any, width: int, indent: str = "", taken: int = 0) -> str:
    """JSON in lines of that width, as far as it can be broken: what fits on a line stays on one.

    `taken` is how much of the first line is in use, besides the indent.
    """
    line = json.dumps(value)
    if len(indent) + taken + len(line) <= width or not value or not isinstance(value, (dict, list)):
        return line
    inner = f"{indent}  "
    keys = [f"{json.dumps(key)}: " for key in value] if isinstance(value, dict) else [""] * len(value)
    values = value.values() if isinstance(value, dict) else value
    comma = 1
    items = [key + compact(item, width, inner, len(key) + comma) for key, item in zip(keys, values, strict=True)]
    start, end = "{}" if isinstance(value, dict) else "[]"
    return f"{start}\n{inner}" + f",\n{inner}".join(items) + f"\n{indent}{end}"
