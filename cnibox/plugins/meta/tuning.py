"""tuning: sets sysctls in the container, and changes its interface: MAC address, MTU, promiscuous mode, queue length.

{"type": "tuning", "sysctl": {"net.core.somaxconn": "500", "net.ipv4.conf.IFNAME.arp_filter": "1"}, "mtu": 1400}

Put it after the plugin that makes the interface. What the interface was like before is kept in a file of dataDir, in
the reference's form; DEL puts it back, and the sysctls. /etc/cni/tuning/allowlist.conf, if there, holds regular
expressions, one a line: a sysctl may be set only if one of them is found in its key.
"""

from __future__ import annotations

import posix

from ... import record
from ...host import files, links, settings, sysctl
from ...host.journal import word
from ...host.namespace import attempt as tolerate
from ...host.settings import REFUSED
from ...spec import errors
from ...spec.errors import CniError, require
from ...spec.jsontext import decode, encode, keys_of, member
from ...spec.options import Bool, Int, Mac, Mapping, Option, Options, Text
from ...wiring.chained import ChainedPlugin

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ...host.links import Link
    from ...host.namespace import Namespace
    from ...plugin import Attempts
    from ...record import Record
    from ...spec.result import Result

ALLOWLIST = "/etc/cni/tuning/allowlist.conf"
DATA_DIR = "/run/cni/tuning"
MAX_INT = (1 << 31) - 1
LOADED_LATER = ("net/netfilter/", "net/nf_conntrack", "net/vrf/")
"""Sysctls of modules that a rule of bridge, portmap or firewall needs, and vrf."""


class Tuning(ChainedPlugin):
    options = Options(
        Option("sysctl", Mapping, {}, "keys below net and their values; the first IFNAME in a key is the interface"),
        Option("argsSysctl", Mapping, {}, "the same; they win", config=False, args_cni="sysctl"),
        Option("mac", Mac, help="MAC address of the interface", cni_arg="MAC", capability="mac"),
        Option("argsMac", Mac, help="the same; it wins", config=False, args_cni="mac"),
        Option("mtu", Int(0, MAX_INT), 0, "MTU of the interface; 0: as it is", args_cni="mtu"),
        Option("promisc", Bool, False, "promiscuous mode on; false: as it is", args_cni="promisc"),
        Option("allmulti", Bool, help="all multicast packets on or off", args_cni="allmulti"),
        Option("txQLen", Int(0, MAX_INT), help="length of the transmit queue in packets", args_cni="txQLen"),
        Option("dataDir", Text, DATA_DIR, "absolute path of the folder in which the former settings are kept"),
    )

    def wanted(self) -> dict[str, Any]:
        """The settings of the interface that are asked for, in the order in which they are changed."""
        option = self.option
        found = {
            "mac": option.argsMac or option.mac,
            "promisc": option.promisc or None,
            "mtu": option.mtu or None,
            "allmulti": option.allmulti,
            "txQLen": option.txQLen,
        }
        return {key: found[key] for key in settings.ORDER if found[key] is not None}

    def sysctls(self) -> dict[str, str]:
        """Path below /proc/sys -> value."""
        if not (self.option.sysctl or self.option.argsSysctl):
            return {}
        keys = keys_of(self.request.stdin.decode(), "sysctl")
        own = self._paths(self.option.sysctl)
        if len(set(keys)) < len(keys) or len(own) < len(self.option.sysctl):
            text = "duplicated sysctl keys are not allowed"
            raise CniError(errors.INVALID_CONFIG, text, 'each key once in "sysctl"; a.b and a/b are the same')
        return {**own, **self._paths(self.option.argsSysctl)}

    def _paths(self, given: dict[str, str]) -> dict[str, str]:
        return {sysctl_path(key, self.request.ifname, value): value for key, value in given.items()}

    def data_dir(self) -> str:
        """The folder of the backups; what has become of the option must not keep a DEL from its work."""
        given = member(self.request.config, "dataDir") or DATA_DIR
        return given if isinstance(given, str) and given.startswith("/") and "\0" not in given else DATA_DIR

    def backup_path(self) -> str:
        return f"{self.data_dir()}/{self.request.container_id}_{self.request.ifname}.json"

    # --- ADD

    def add(self) -> Result:
        wanted, sysctls = self.wanted(), self.validate()
        result = self.require_previous()
        if not wanted and not sysctls:
            return result
        self.sandbox = self.open_sandbox()
        link, before = settings.of(self.sandbox, self.request.ifname)
        for path in sysctls:
            if not sysctl.exists(self.sandbox, path):
                text = f"there is no sysctl {path.replace('/', '.')} in {self.sandbox.path}"
                raise CniError(
                    errors.INVALID_CONFIG, text, "the kernel, or a module that is not loaded, must provide it"
                )
        formerly = self._formerly(link, {key: before[key] for key in wanted}, sysctls)
        self.remember(**formerly)
        self.machine.journal.why = "sysctl"
        for path, value in sysctls.items():
            sysctl.write(self.sandbox, path, value)
        if wanted:
            self._back_up(formerly["settings"])
            with self.sandbox.batch():
                for key, value in wanted.items():
                    self.machine.journal.why = key
                    settings.change(self.sandbox, link, key, value, before[key])
        self._tell(result, wanted)
        return result

    def validate(self) -> dict[str, str]:
        """The sysctls, all of which the administrator allows."""
        given = self.option.dataDir
        if given and not given.startswith("/"):
            text = f'option "dataDir" of {self.name}: must be an absolute path, not "{given}"'
            raise CniError(errors.INVALID_CONFIG, text)
        sysctls = self.sysctls()
        if sysctls:
            require_allowed([*self.option.sysctl, *self.option.argsSysctl])
        return sysctls

    def _formerly(self, link: Link, before: dict[str, Any], sysctls: dict[str, str]) -> dict[str, Any]:
        """How things were at first, for the record: as an earlier ADD to the same interface has found them."""
        values = {path: sysctl.read(self.sandbox, path) for path in sysctls}
        found = record.of(self.request, self.name)
        if found is None:
            before |= _kept(self.backup_path())  # a Go plugin's
        elif (found.facts.get("namespace"), found.facts.get("index")) == (self.sandbox.identity, link.index):
            before |= found.facts.get("settings") or {}
            values |= found.facts.get("sysctl") or {}
        return {"index": link.index, "sysctl": values, "settings": before, "backup": self.backup_path()}

    def _back_up(self, before: dict[str, Any]) -> None:
        """Write down what is about to be changed, as the Go plugin's DEL reads it."""
        path, journal = self.backup_path(), self.machine.journal
        journal.why = "dataDir"
        files.make_directory(journal, self.data_dir())
        older = files.read(path)
        data = encode({key: before[key] for key in settings.ORDER if key in before}, indent=1).encode()
        undo = (lambda: _unlink(path)) if older is None else lambda: files.replace(path, older or b"")
        journal.run(f"cat > {word(path)}  # {len(data)} bytes", lambda: files.replace(path, data), undo)

    def _tell(self, result: Result, wanted: dict[str, Any]) -> None:
        for interface in result.interfaces:
            if interface.name == self.request.ifname and interface.sandbox:
                interface.mac = wanted.get("mac", interface.mac)
                interface.mtu = wanted.get("mtu", interface.mtu)

    # --- CHECK, STATUS

    def check(self) -> None:
        wanted, sysctls = self.wanted(), self.sysctls()
        self.require_previous()
        if not wanted and not sysctls:
            return
        self.sandbox = self.open_sandbox()
        for path, value in sysctls.items():
            key = path.replace("/", ".")
            require(sysctl.exists(self.sandbox, path), f"there is no sysctl {key} in {self.sandbox.path}")
            found = sysctl.read(self.sandbox, path)
            same = found is None or found.split() == value.split()
            require(same, f"sysctl {key} is {encode(found)}, not {encode(value)}")
        link, there = settings.of(self.sandbox, self.request.ifname)
        for key, value in wanted.items():
            require(there[key] == value, f"{key} of {link.name} is {encode(there[key])}, not {encode(value)}")

    def status(self) -> None:
        self.validate()
        for key in (*self.option.sysctl, *self.option.argsSysctl):
            path = sysctl_path(key, "IFNAME", "")
            if not (_comes_later(path) or sysctl.exists(self.machine.host, path)):
                text = f"this kernel has no sysctl {path.replace('/', '.')}"
                raise CniError(errors.PLUGIN_UNAVAILABLE, text, "load the module that provides it, or leave it out")

    # --- DEL and GC

    def delete_recorded(self, attempt: Attempts, found: Record, sandbox: Namespace | None) -> None:
        facts = found.facts
        if sandbox is not None:
            self._restore(attempt, sandbox, found.ifname, facts.get("settings") or {}, facts.get("index"))
            for path, value in reversed((facts.get("sysctl") or {}).items()):
                if value is not None:
                    attempt(self._restore_sysctl, sandbox, path, value)
        if isinstance(facts.get("backup"), str):
            attempt(self._remove_backup, facts["backup"])

    def delete_unrecorded(self, attempt: Attempts, sandbox: Namespace | None) -> None:
        path = self.backup_path()
        if sandbox is not None:
            self._restore(attempt, sandbox, self.request.ifname, attempt(_kept, path) or {}, None)
        attempt(self._remove_backup, path)

    def _restore(
        self, attempt: Attempts, sandbox: Namespace, ifname: str, kept: dict[str, Any], index: int | None
    ) -> None:
        """Put the interface's settings back; `index` is that of the interface that had them, None if nobody knows."""
        link = attempt(links.find, sandbox, ifname) if kept else None
        if link is None or index not in (None, link.index):
            return
        _, there = attempt(settings.of, sandbox, ifname) or (None, kept)
        self.machine.journal.why = "DEL"
        for key in settings.ORDER:
            if key in kept and kept[key] != there[key]:
                attempt(settings.put_back, sandbox, link, key, kept[key])

    def _restore_sysctl(self, sandbox: Namespace, path: str, value: str) -> None:
        self.machine.journal.why = "DEL"
        tolerate(lambda: sysctl.write(sandbox, path, value), *REFUSED)

    def _remove_backup(self, path: str) -> None:
        """Files of a killed ADD as well."""
        self.machine.journal.why = "DEL"
        if _is_there(path) or _is_there(f"{path}.new"):
            self.machine.journal.run(f"rm -f {word(path)}", lambda: _unlink(path))


def sysctl_path(key: str, ifname: str, value: str) -> str:
    """The path of a key below /proc/sys. Dots and slashes are the same, but for those of the interface's name."""
    parts = [part for part in key.replace(".", "/").split("/") if part]
    path = "/".join(parts).replace("IFNAME", ifname, 1)
    if not path.startswith("net/") or "\0" in key + value:
        text = f"invalid net sysctl key: {encode(key)}"
        raise CniError(errors.INVALID_CONFIG, text, "a key is below net, such as net.core.somaxconn")
    return path


def _comes_later(path: str) -> bool:
    """Whether only an ADD can tell if there is such a sysctl.

    It is an interface's, or of a module that an earlier plugin of the list makes the kernel load.
    """
    kind, name = (*path.split("/"), "", "", "")[2:4]
    of_one = kind in ("conf", "neigh") and name not in ("", "all", "default")
    return "IFNAME" in path or of_one or path.startswith(LOADED_LATER)


def require_allowed(keys: list[str]) -> None:
    """Raise unless each key is in the administrator's list, if there is one."""
    text = files.read(ALLOWLIST)
    if text is None:
        return
    import re  # only for who has such a list: it takes 5 ms

    allowed = []
    for number, line in enumerate(text.decode(errors="replace").splitlines(), 1):
        expression = line.strip()
        try:
            # RE2's classes are those of ASCII; Python would take [[:alpha:]] for something else.
            if "[:" in expression:
                raise re.error("classes such as [:alpha:] are not supported")
            if expression:
                allowed.append(re.compile(expression, re.ASCII))
        except re.error as error:
            fault = f"{ALLOWLIST}, line {number}: invalid regular expression {encode(expression)}: {error}"
            raise CniError(errors.INTERNAL, fault, "nothing is allowed until it is corrected") from None
    for key in keys:
        if not any(each.search(key) for each in allowed):
            listed = " ".join(each.pattern for each in allowed)
            text_ = f"Sysctl {key} is not allowed. Only the following sysctls are allowed: [{listed}]"
            raise CniError(errors.INVALID_CONFIG, text_, f"see {ALLOWLIST}")


def _kept(path: str) -> dict[str, Any]:
    """The settings that a backup holds, as far as they can be ones."""
    try:
        found = decode((files.read(path) or b"{}").decode())
        kept = {key: value for key, value in found.items() if key in settings.ORDER}  # type: ignore[attr-defined]
        if "mac" in kept:
            kept["mac"] = Mac.parse(kept["mac"])
    except (ValueError, AttributeError):  # not JSON, no object, no MAC address
        return {}
    kinds = {"mac": str, "promisc": bool, "mtu": int, "allmulti": bool, "txQLen": int}
    return {key: value for key, value in kept.items() if type(value) is kinds[key]}


def _is_there(path: str) -> bool:
    try:
        posix.lstat(path)
    except OSError:
        return False
    return True


def _unlink(path: str) -> None:
    for name in (path, f"{path}.new"):  # the latter is a killed ADD's
        try:
            posix.unlink(name)
        except (FileNotFoundError, NotADirectoryError):
            pass
