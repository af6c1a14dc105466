"""The table of plugins: a name, its class, one line on what it does."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .skel import Plugin

PLUGINS = {
    "bridge": (
        "cnibox.plugins.main.bridge",
        "Bridge",
        "a veth between the container and a bridge of the host",
    ),
    "ptp": ("cnibox.plugins.main.ptp", "Ptp", "a veth between the container and the host, routed"),
    "macvlan": ("cnibox.plugins.main.macvlan", "Macvlan", "a MAC address of its own on the parent's network segment"),
    "loopback": ("cnibox.plugins.main.loopback", "Loopback", "the container's own lo, up"),
    "host-local": (
        "cnibox.plugins.ipam.host_local",
        "HostLocal",
        "addresses from ranges, leased in files of this host",
    ),
    "static": ("cnibox.plugins.ipam.static", "Static", "the addresses that the configuration names"),
}


def load(name: str) -> type[Plugin]:
    """The class of a plugin in the table; only its own module is imported (and importlib, 3 ms, is not)."""
    module, class_name, _ = PLUGINS[name]
    plugin: type[Plugin] = getattr(__import__(module, globals(), locals(), [class_name]), class_name)
    return plugin
