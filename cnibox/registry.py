"""The table of plugins: a name, its class, one line on what it does."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .plugin import Plugin

PLUGINS = {
    "bridge": (
        "cnibox.plugins.main.bridge",
        "Bridge",
        "a veth between the container and a bridge of the host",
    ),
    "ptp": ("cnibox.plugins.main.ptp", "Ptp", "a veth between the container and the host, routed"),
    "macvlan": ("cnibox.plugins.main.macvlan", "Macvlan", "a MAC address of its own on the parent's network segment"),
    "ipvlan": ("cnibox.plugins.main.ipvlan", "Ipvlan", "IP addresses of its own behind the parent's MAC address"),
    "vlan": ("cnibox.plugins.main.vlan", "Vlan", "one VLAN of the parent"),
    "host-device": ("cnibox.plugins.main.host_device", "HostDevice", "a network device of the host, lent"),
    "tap": ("cnibox.plugins.main.tap", "Tap", "a tap, whose other end is a process"),
    "dummy": ("cnibox.plugins.main.dummy", "Dummy", "addresses that no wire leads to"),
    "loopback": ("cnibox.plugins.main.loopback", "Loopback", "the container's own lo, up"),
    "host-local": (
        "cnibox.plugins.ipam.host_local",
        "HostLocal",
        "addresses from ranges, leased in files of this host",
    ),
    "static": ("cnibox.plugins.ipam.static", "Static", "the addresses that the configuration names"),
    "portmap": ("cnibox.plugins.meta.portmap", "Portmap", "ports of the host lead to the container"),
    "firewall": ("cnibox.plugins.meta.firewall", "Firewall", "lets the host forward for the container, or not"),
    "tuning": ("cnibox.plugins.meta.tuning", "Tuning", "sysctls of the container, and its interface's settings"),
    "bandwidth": ("cnibox.plugins.meta.bandwidth", "Bandwidth", "limits the container's rates, in each direction"),
    "sbr": ("cnibox.plugins.meta.sbr", "Sbr", "answers leave by the interface that the questions came by"),
    "vrf": ("cnibox.plugins.meta.vrf", "Vrf", "the interface's networks are apart from those of others"),
}


def no_such(name: str) -> str:
    """What is said of a name that is not in the table."""
    return f'cnibox has no plugin "{name}"; it has {", ".join(PLUGINS)}'


def load(name: str) -> type[Plugin]:
    """The class of a plugin in the table; only its own module is imported (and importlib, 3 ms, is not)."""
    module, class_name, _ = PLUGINS[name]
    plugin: type[Plugin] = getattr(__import__(module, globals(), locals(), [class_name]), class_name)
    return plugin
