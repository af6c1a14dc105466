"""A table of options as JSON Schema, and as rows for help texts and the README. Not on the exec path."""

from __future__ import annotations

from .jsontext import encode
from .options import ENVIRONMENT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .options import Option, Options


def schema(options: Options) -> dict[str, Any]:
    """JSON Schema. A required option is required there if the configuration is its only place."""
    described = _object({option.key: _option(option) for option in options.options if option.key})
    required = [each.key for each in options.options if each.required and _places(each, "") == [each.key]]
    if required:
        described["required"] = required
    top = _object({options.section: described}) if options.section else described
    cni = {option.args_cni: _option(option) for option in options.options if option.args_cni}
    if cni:
        top["properties"]["args"] = _object({"cni": _object(cni)})
    runtime = {option.capability: _option(option) for option in options.options if option.capability}
    if runtime:
        top["properties"]["runtimeConfig"] = _object(runtime)
    return top


def rows(options: Options, prefix: str) -> list[tuple[str, str, str, str]]:
    """(name, type, default, help) of each option, followed by those nested in it."""
    found = []
    for option in options.options:
        places = _places(option, prefix)
        name, *others = places if option.key else reversed(places)
        text = f"{option.help} (also {', '.join(others)})".lstrip() if others else option.help
        type_text = option.kind.describe().removeprefix("a ").removeprefix("an ")
        found.append((name, type_text, "required" if option.required else _default(option.default), text))
        suffix, nested = option.kind.inside()
        if nested is not None:
            found += rows(nested, name + suffix)
    return found


def _places(option: Option, prefix: str) -> list[str]:
    """Where an option can be given, the place that wins last."""
    places = [f"{prefix}.{option.key}" if prefix else option.key] if option.key else []
    places += [ENVIRONMENT + option.cni_arg] if option.cni_arg else []
    places += [f"args.cni.{option.args_cni}"] if option.args_cni else []
    places += [f"runtimeConfig.{option.capability}"] if option.capability else []
    return places


def _object(properties: dict[str, dict[str, Any]]) -> dict[str, Any]:
    return {"type": "object", "properties": properties}


def _option(option: Option) -> dict[str, Any]:
    found = option.kind.schema()
    if option.help:
        found["description"] = option.help
    if option.default is not None:
        found["default"] = _plain(option.default)
    return found


def _plain(default: object) -> object:
    return default if isinstance(default, (str, int, float, list, dict)) else str(default)


def _default(default: object) -> str:
    if default is None or default == [] or default == "":
        return ""
    plain = _plain(default)
    return plain if isinstance(plain, str) else encode(plain)
