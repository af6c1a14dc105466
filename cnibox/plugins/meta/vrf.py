"""vrf: the container's interface becomes a port of a VRF, whose networks are apart from those of others.

{"type": "vrf", "vrfname": "blue"}

Two interfaces of a container, in two VRFs, may have the same addresses. The VRF is made if it is missing, and goes with
its last port. The interface's routes and its IPv6 addresses get into the VRF's table.
"""

from __future__ import annotations

from ... import record
from ...host import addresses, links, routes, rules, vrfs
from ...host.netlink.rtnl import RT_TABLE_MAIN
from ...host.vrfs import Kept
from ...spec import errors
from ...spec.errors import CniError
from ...spec.jsontext import member
from ...spec.options import Int, Option, Options, Text
from ...spec.request import interface_name_fault
from ...wiring import tables
from ...wiring.chained import ChainedPlugin
from ...wiring.interface import require

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ...host.links import Link
    from ...host.namespace import Namespace
    from ...plugin import Attempts
    from ...record import Record
    from ...spec.result import Result

NAME = "vrfname"


class Vrf(ChainedPlugin):
    options = Options(
        Option(NAME, Text, "", "name of the VRF", required=True),
        Option("table", Int(0, 0xFFFFFFFF), 0, "its table; 0: the lowest number that nobody in the container uses"),
    )

    def validate(self) -> None:
        fault, advice = interface_name_fault(self.option.vrfname)
        if fault:
            text = f"configuration is expected to have a valid vrf name: {fault}"
            raise CniError(errors.INVALID_CONFIG, text, advice)

    def find(self, sandbox: Namespace) -> Link | None:
        """The VRF, or None; CniError when something else has its name, or it has another table."""
        name, table = self.option.vrfname, self.option.table
        found = links.describe(sandbox, name)
        if found is None:
            return None
        if found.kind != "vrf":
            text = f"Netlink {name} is not a VRF: in {sandbox.path} it is a {found.kind or 'hardware link'}"
            raise CniError(errors.INTERNAL, text, f'choose another name in "{NAME}"')
        there = vrfs.table_of(found)
        if table not in (0, there):
            text = f"VRF {name} already exist with different routing table {there}"
            raise CniError(errors.INTERNAL, text, f'"table" is {table}; leave it out to take the VRF as it is')
        return found

    # --- ADD

    def add(self) -> Result:
        self.validate()
        result = self.require_previous()
        self.sandbox = self.open_sandbox()
        self.lock(self.sandbox)
        link, vrf = self.require_link(), self.find(self.sandbox)
        kept = Kept.of(self.sandbox, link)
        if link.master:
            self._require_ours(link, vrf)
            earlier = record.of(self.request, self.name)  # that ADD may have been killed when it had gone so far
            kept = _kept(earlier) if earlier is not None else kept
        else:
            self.remember(vrf=self.option.vrfname, made=vrf is None or self._made(), index=link.index, **kept.packed())
        vrf = self._provide(vrf)
        self.machine.journal.why = NAME
        if link.master != vrf.index:
            self._enslave(link, vrf, kept)
        kept.restore(self.sandbox, link, vrf, self.sandbox.change)
        return result

    def _require_ours(self, link: Link, vrf: Link | None) -> None:
        if vrf is None or link.master != vrf.index:
            master = links.at(self.sandbox, link.master)
            name = master.name if master else f"(index {link.master})"
            raise CniError(errors.INTERNAL, f"interface {link.name} has already a master set: {name}")

    def _made(self) -> bool:
        """Whether an ADD of another interface of the container made the VRF, not an administrator."""
        facts = [part.facts for part in record.parts(self.request.container_id, self.name)]
        mine = self.option.vrfname, self.sandbox.identity
        return any(each.get("made") and (each.get("vrf"), each.get("namespace")) == mine for each in facts)

    def _provide(self, vrf: Link | None) -> Link:
        """Make sure of the VRF, up."""
        sandbox, name = self.sandbox, self.option.vrfname
        if vrf is None:
            self.machine.journal.why = "table"
            table = self.option.table or self._free_table()
            data = [("IFLA_VRF_TABLE", table)]
            links.create(sandbox, name, "vrf", [], data, say=f"type vrf table {table}", undo=self._delete_vrf)
            vrf = links.describe(sandbox, name) or links.get(sandbox, name)
        if not vrf.is_up:
            self.machine.journal.why = NAME
            links.set_up(sandbox, vrf, undone=True)
        return vrf

    def _delete_vrf(self) -> None:
        if is_unused(self.sandbox, self.option.vrfname):
            links.deletion(self.sandbox, self.option.vrfname)()

    def _free_table(self) -> int:
        ways = [route for version in (4, 6) for route in routes.everything(self.sandbox, version)]
        return tables.lowest_free(1, tables.in_use(self.sandbox, rules.of(self.sandbox), ways))

    def _enslave(self, link: Link, vrf: Link, kept: Kept) -> None:
        sandbox = self.sandbox

        def undo() -> None:
            kept.enslave(sandbox, link, None)
            kept.restore(sandbox, link, None, sandbox.send)

        say = vrfs.moving(sandbox, link, vrf)
        self.machine.journal.run(say, lambda: kept.enslave(sandbox, link, vrf), undo)

    # --- CHECK, STATUS

    def check(self) -> None:
        self.validate()
        result = self.require_previous()
        self.sandbox = self.open_sandbox()
        link, vrf = self.require_link(), self.find(self.sandbox)
        if vrf is None or link.master != vrf.index:
            raise CniError(errors.INTERNAL, f"failed to find {link.name} associated to vrf {self.option.vrfname}")
        require(vrf.is_up, f"VRF {vrf.name} is down")
        there = {address.text for address in addresses.of(self.sandbox, link)}
        for ip in self.addresses_of(result):
            require(str(ip.address) in there, f"address {ip.address} is not on {link.name}")
        for route in routes.through(self.sandbox, link):
            require(route.table != RT_TABLE_MAIN, f"route {route} dev {link.name} is in the main table")

    def status(self) -> None:
        self.validate()
        if not links.knows(self.machine.host, "vrf"):
            advice = "load the module (modprobe vrf), or run a kernel that has it"
            raise CniError(errors.PLUGIN_UNAVAILABLE, "this kernel has no links of type vrf", advice)

    # --- DEL, GC

    def delete_recorded(self, attempt: Attempts, found: Record, sandbox: Namespace | None) -> None:
        """The interface leaves the VRF, and has its addresses and routes again; the VRF goes if an ADD made it."""
        name = found.facts.get("vrf")
        if not isinstance(name, str):  # the record is damaged
            self.delete_unrecorded(attempt, sandbox)
            return
        if sandbox is None:
            return
        self.machine.journal.why = "DEL"
        attempt(self.lock, sandbox)
        link = attempt(links.find, sandbox, found.ifname)
        if link is not None and link.index == found.facts.get("index"):
            attempt(_leave, sandbox, link, name, _kept(found))
        if found.facts.get("made", True):
            attempt(_delete_unused, sandbox, name, link)

    def delete_unrecorded(self, attempt: Attempts, sandbox: Namespace | None) -> None:
        """The same of what a Go plugin made, which cannot be told from what an administrator did."""
        name = member(self.request.config, NAME)
        if sandbox is None or not isinstance(name, str) or interface_name_fault(name)[0]:
            return
        self.machine.journal.why = "DEL"
        attempt(self.lock, sandbox)
        link = attempt(links.find, sandbox, self.request.ifname)
        if link is not None and link.master:
            attempt(_leave, sandbox, link, name, Kept.of(sandbox, link))
        attempt(_delete_unused, sandbox, name, link)


def is_unused(sandbox: Namespace, name: str, leaving: Link | None = None) -> bool:
    """Whether a VRF has that name, and no port but the one that is leaving: the kernel lets that go with the VRF."""
    vrf = links.find(sandbox, name)
    if vrf is None or vrf.kind != "vrf":
        return False
    return all(leaving is not None and port.index == leaving.index for port in links.ports(sandbox, vrf))


def _leave(sandbox: Namespace, link: Link, name: str, kept: Kept) -> None:
    """Take a link out of the VRF of that name, if it is in there, and put back what it had before."""
    vrf = links.describe(sandbox, name)
    if vrf is not None and vrf.kind == "vrf" and link.master == vrf.index:
        before = kept.out_of(vrf)

        def leave() -> None:
            before.enslave(sandbox, link, None)
            before.restore(sandbox, link, None, sandbox.send)

        sandbox.machine.journal.run(vrfs.moving(sandbox, link, None), leave)
    elif not link.master:  # an earlier DEL came so far
        kept.restore(sandbox, link, None, sandbox.change)


def _delete_unused(sandbox: Namespace, name: str, leaving: Link | None) -> None:
    if is_unused(sandbox, name, leaving):
        links.delete(sandbox, name)


def _kept(found: Record) -> Kept:
    return Kept.unpacked(found.facts.get("addresses", ()), found.facts.get("routes", ()))
