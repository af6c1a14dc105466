"""tuning: sets sysctls in the container, and changes its interface: MAC address, MTU, promiscuous mode, queue length.

{"type": "tuning", "sysctl": {"net.core.somaxconn": "500", "net.ipv4.conf.IFNAME.arp_filter": "1"}, "mtu": 1400}

Put it after the plugin that makes the interface; sysctls alone need no interface. DEL puts everything back. The former
settings of the interface are also kept in a file of dataDir, in the reference's form. If there is a file
/etc/cni/tuning/allowlist.conf, it holds regular expressions, one a line: a sysctl may be set only if one of them is
found in its key.
"""

from __future__ import annotations

from ... import record
from ...host import files, links, settings, sysctl
from ...host.namespace import attempt as tolerate
from ...host.settings import REFUSED
from ...spec import errors
from ...spec.errors import CniError, require
from ...spec.jsontext import encode, keys_of
from ...spec.options import Bool, Int, Mac, Mapping, Option, Options, Text
from ...spec.request import CONTAINER_ID
from ...wiring import settings_backup
from ...wiring.chained import ChainedPlugin
from ...wiring.settings_backup import DATA_DIR

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ...host.links import Link
    from ...host.namespace import Namespace
    from ...plugin import Attempts
    from ...record import Record
    from ...spec.result import Result

ALLOWLIST = "/etc/cni/tuning/allowlist.conf"
MAX_INT = (1 << 31) - 1
LO = "net/ipv6/conf/lo/disable_ipv6"
"""DEL does not switch this on again: the container's other interfaces may have come to need IPv6."""
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
        """Path below /proc/sys -> value, in the order in which they are written."""
        if not (self.option.sysctl or self.option.argsSysctl):
            return {}
        keys = keys_of(self.request.stdin.decode(), "sysctl")
        own = self._paths(self.option.sysctl)
        if len(set(keys)) < len(keys) or len(own) < len(self.option.sysctl):
            text = "duplicated sysctl keys are not allowed"
            raise CniError(errors.INVALID_CONFIG, text, 'each key once in "sysctl"; a.b and a/b are the same')
        values = {**own, **self._paths(self.option.argsSysctl)}
        return {path: values[path] for path in sysctl.in_order(values)}

    def _paths(self, values: dict[str, str]) -> dict[str, str]:
        return {sysctl_path(key, self.request.ifname, value): value for key, value in values.items()}

    def derived_names(self) -> list[tuple[str, str]]:
        return [*super().derived_names(), (CONTAINER_ID, settings_backup.longest_name(self.request))]

    # --- ADD

    def add(self) -> Result:
        wanted, sysctls = self.wanted(), self.validate()
        result = self.require_previous()
        if not wanted and not sysctls:
            return result
        self.sandbox = self.open_sandbox()
        # Sysctls need no interface: a device of user space (DPDK) has none.
        name = self.request.ifname
        link, before = settings.of(self.sandbox, name) if wanted else (links.find(self.sandbox, name), {})
        for path in sysctls:
            self._require_sysctl(path, errors.INVALID_CONFIG)
        affected = [each for path in sysctls for each in sysctl.affected(self.sandbox, path)]
        values = sysctl.values(self.sandbox, affected)
        facts = self._formerly(link, {key: before[key] for key in wanted}, values)
        self.remember(**facts)
        answers = self._write_sysctls(sysctls, values)
        if answers:
            self.remember(**facts, answers=answers)
        if wanted and link is not None:
            self.machine.journal.why = "dataDir"
            settings_backup.write(self.machine.journal, facts["backup"], facts["settings"])
            with self.sandbox.batch():
                for key, value in wanted.items():
                    self.machine.journal.why = key
                    settings.change(self.sandbox, link, key, value, before[key])
        self._tell(result, wanted)
        return result

    def _require_sysctl(self, path: str, code: int) -> None:
        if not sysctl.exists(self.sandbox, path):
            text = f"there is no sysctl {sysctl.name_of(path)} in {self.sandbox.path}"
            raise CniError(code, text, "the kernel, or a module that is not loaded, must provide it")

    def _write_sysctls(self, sysctls: dict[str, str], before: dict[str, str | None]) -> dict[str, list[str]]:
        """Write them. Path -> the value and the kernel's answer, for those that it prints in another way."""
        answers = {}
        self.machine.journal.why = "sysctl"
        with self.sandbox:
            for path, value in sysctls.items():
                # Interfaces may differ from what `all` reads.
                if sysctl.is_for_all(path) or sysctl.read(self.sandbox, path) != value:
                    sysctl.put(self.sandbox, path, value, before)
                answer = sysctl.read(self.sandbox, path)
                if answer not in (None, value):
                    answers[path] = [value, answer]
        return answers

    def validate(self) -> dict[str, str]:
        """The sysctls, all of which the administrator allows."""
        given = self.option.dataDir
        if given and not given.startswith("/"):
            text = f'option "dataDir" of {self.name}: must be an absolute path, not "{given}"'
            raise CniError(errors.INVALID_CONFIG, text)
        sysctls = self.sysctls()
        allowed = files.read(ALLOWLIST) if sysctls else None
        if allowed is not None:
            from ...wiring.allowlist import require_allowed

            keys = [*self.option.sysctl, *self.option.argsSysctl]
            require_allowed(ALLOWLIST, allowed.decode(errors="replace"), keys)
        return sysctls

    def _formerly(self, link: Link | None, before: dict[str, Any], values: dict[str, str | None]) -> dict[str, Any]:
        """The record: how things were at first, as an earlier ADD to the same interface has recorded them."""
        index, backup = link.index if link is not None else None, settings_backup.path_of(self.request)
        earlier = record.of(self.request, self.name)
        if earlier is None:
            before |= settings_backup.read(backup)  # a Go plugin's
        elif (earlier.facts.get("namespace"), earlier.facts.get("index")) == (self.sandbox.identity, index):
            before |= earlier.facts.get("settings") or {}
            values = values | (earlier.facts.get("sysctl") or {})
        return {"index": index, "sysctl": values, "settings": before, "backup": backup}

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
            self._require_sysctl(path, errors.INTERNAL)
            answer, expected = sysctl.read(self.sandbox, path), self._answered(path, value)
            same = answer is None or sysctl.same(answer, expected)
            require(same, f"sysctl {sysctl.name_of(path)} is {encode(answer)}, not {encode(expected)}")
        if not wanted:
            return
        link, present = settings.of(self.sandbox, self.request.ifname)
        for key, value in wanted.items():
            require(present[key] == value, f"{key} of {link.name} is {encode(present[key])}, not {encode(value)}")

    def _answered(self, path: str, value: str) -> str:
        """What the kernel answered when ADD had written this value."""
        recorded = record.of(self.request, self.name)
        answers = recorded.facts.get("answers") if recorded is not None else None
        written, answer = (answers or {}).get(path) or (value, value)
        return str(answer) if written == value else value

    def status(self) -> None:
        self.validate()
        for key in (*self.option.sysctl, *self.option.argsSysctl):
            path = sysctl_path(key, "IFNAME", "")
            if not (_comes_later(path) or sysctl.exists(self.machine.host, path)):
                text = f"this kernel has no sysctl {sysctl.name_of(path)}"
                raise CniError(errors.PLUGIN_UNAVAILABLE, text, "load the module that provides it, or leave it out")

    # --- DEL and GC

    def delete_recorded(self, attempt: Attempts, found: Record, sandbox: Namespace | None) -> None:
        facts = found.facts
        if sandbox is not None:
            self._restore(attempt, sandbox, found.ifname, facts.get("settings") or {}, facts.get("index"))
            attempt(self._restore_sysctls, attempt, sandbox, facts.get("sysctl") or {})
        if isinstance(facts.get("backup"), str):
            attempt(settings_backup.remove, self.machine.journal, facts["backup"])

    def _restore_sysctls(self, attempt: Attempts, sandbox: Namespace, former: dict[str, str | None]) -> None:
        self.machine.journal.why = "DEL"
        kept = {path: value for path, value in former.items() if path != LO or value == "0"}
        for path, value in sysctl.restoring(sandbox, kept):
            attempt(tolerate, lambda path=path, value=value: sysctl.put(sandbox, path, value, {}), *REFUSED)

    def delete_unrecorded(self, attempt: Attempts, sandbox: Namespace | None) -> None:
        path = settings_backup.path_of(self.request)
        if sandbox is not None:
            kept = attempt(settings_backup.read, path) or {}
            self._restore(attempt, sandbox, self.request.ifname, kept, None)
        attempt(settings_backup.remove, self.machine.journal, path)

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


def sysctl_path(key: str, ifname: str, value: str) -> str:
    """The path of a key below /proc/sys; CniError 7 if it is none below net."""
    try:
        if "\0" not in value:
            return sysctl.path_of(key, ifname)
    except ValueError:
        pass
    text = f"invalid net sysctl key: {encode(key)}"
    raise CniError(errors.INVALID_CONFIG, text, "a key is below net, such as net.core.somaxconn")


def _comes_later(path: str) -> bool:
    """Whether only an ADD can tell if there is such a sysctl.

    It is an interface's, or of a module that an earlier plugin of the list makes the kernel load.
    """
    kind, name = (*path.split("/"), "", "", "")[2:4]
    of_one = kind in ("conf", "neigh") and name not in ("", "all", "default")
    return "IFNAME" in path or of_one or path.startswith(LOADED_LATER)
