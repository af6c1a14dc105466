"""host-local: addresses from ranges, leased in files of this host.

{"type": "host-local", "subnet": "10.22.0.0/16", "routes": [{"dst": "0.0.0.0/0"}]}

Each attachment gets one address of each range set, round robin; or those that the runtime asks for. The
leases are those of the reference, which may work on the same folder at the same time.
"""

from __future__ import annotations

from ... import log
from ...host import files
from ...host.journal import HostError
from ...plugin import Attempts, Plugin
from ...spec import errors
from ...spec.address import Address, Cidr
from ...spec.errors import CniError
from ...spec.options import IpOrPrefix, ListOf, Option, Options, Text
from ...spec.request import CONTAINER_ID, NETWORK_NAME
from ...spec.result import IpConfig, Result
from ...wiring import ipam
from ...wiring.leases import DATA_DIR, Leases, is_garbled, is_unreadable
from ...wiring.leases.on_disk import ADVICE
from ...wiring.leases.ranges import RANGE, RANGE_SETS, Range, RangeSet, range_sets

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ...host.namespace import Machine
    from ...spec.request import Request
    from ...wiring.leases import Owner

    Pick = tuple[str, Range]  # an address, and the range that it is from

PLACE = Option("dataDir", Text, DATA_DIR, "absolute path of the folder that holds each network's leases")


class HostLocal(Plugin):
    options = Options(
        Option("ranges", RANGE_SETS, [], "range sets, each a list of ranges; each set gives one address"),
        *RANGE.options,  # the older way of writing a single range
        Option("routes", ipam.ROUTES, [], "passed on into the result"),
        PLACE,
        Option("resolvConf", Text, "", "a file like /etc/resolv.conf, which becomes the result's dns"),
        Option("ipRanges", RANGE_SETS, [], "more sets, before these", config=False, capability="ipRanges"),
        Option(
            "ips",
            ListOf(IpOrPrefix),
            help="addresses asked for, at most one in each range set",
            config=False,
            cni_arg="IP",
            args_cni="ips",
            capability="ips",
            gather=True,
        ),
        section="ipam",
    )
    needed_to_delete = Options(PLACE, section="ipam")

    def __init__(self, name: str, request: Request, machine: Machine) -> None:
        super().__init__(name, request, machine)
        data_dir = self.option.dataDir or DATA_DIR
        if not data_dir.startswith("/"):
            text = f'option "ipam.dataDir" of {name}: must be an absolute path, not "{data_dir}"'
            raise CniError(errors.INVALID_CONFIG, text)
        self.leases = Leases(machine.journal, request.name, data_dir)
        if request.command in ("ADD", "STATUS"):
            request.require_fits(CONTAINER_ID, request.container_id)
            request.require_fits(NETWORK_NAME, self.leases.files.draft)
        self.owner = (request.container_id, request.ifname)
        self.dead: set[str] = set()
        """Those of the chosen addresses whose leases are nobody's any more."""

    def add(self) -> Result:
        sets = self._sets()
        dns = ipam.resolv_conf(self.option.resolvConf)
        self.leases.make()
        with self.leases as leases:
            picks = self._pick_all(leases, sets)
            for each, (address, _) in zip(sets, picks, strict=True):
                if address in self.dead:
                    log.warning(f"taking over {_fate(leases, address)}")
                    leases.release(address)
                leases.reserve(address, self.owner, each.number)
        return Result([], [_ip_config(pick) for pick in picks], ipam.routes(self.option.routes), dns)

    def check(self) -> None:
        sets = self._sets()
        previous = self.request.previous
        addresses = [each.address.address for each in previous.ips] if previous is not None else []
        leased = [str(each) for each in addresses if any(one.find(each) for one in sets)]
        if not self.leases.exist():
            raise self._lost(f"there is no folder {self.leases.path}")
        with self.leases as leases:
            for address in leased:
                if leases.holder(address) not in (self.owner, (self.owner[0], "")):
                    raise self._lost(_fate(leases, address))
            if not leased and not self._own(leases):
                raise self._lost(f"no file in {leases.path} names it with {self.owner[1]}")

    def delete(self) -> None:
        if not self.leases.exist():
            return
        with self.leases as leases:
            attempts = Attempts()
            found = leases.of(self.owner[0])
            exact = [address for address, ifname in found if ifname == self.owner[1]]
            for address in exact or [address for address, ifname in found if not ifname]:
                attempts(leases.release, address)
            attempts.finish()

    def status(self) -> None:
        sets = self._sets()
        ipam.resolv_conf(self.option.resolvConf)
        self._require_writable()
        if self.leases.exist():
            with self.leases.look() as leases:
                for each in sets:
                    if leases.at_most() >= each.size and self._free(leases, each) <= 0:
                        raise _exhausted(leases, each)

    def gc(self, valid: set[tuple[str, str]]) -> None:
        if not self.leases.exist():
            return
        containers = {container for container, _ in valid}
        with self.leases as leases:
            attempts = Attempts()
            for address, owner in leases.all():
                kept = owner in valid or (owner[0] in containers and not owner[1]) or is_unreadable(owner)
                if not kept and leases.holder(address) == owner:
                    attempts(leases.release, address)
            attempts.finish()

    def _sets(self) -> list[RangeSet]:
        option = self.option
        old = [[option]] if option.subnet is not None else []
        given = option.ipRanges + old + option.ranges
        if not given:
            advice = 'give "ipam" a "subnet", or "ranges"; or the runtime its capability "ipRanges"'
            raise CniError(errors.INVALID_CONFIG, "no IP ranges specified", advice)
        sets = range_sets(given)
        ipam.require_representable([each.version for each in sets], self.request)
        return sets

    # --- choosing addresses: everything is chosen before anything is changed

    def _pick_all(self, leases: Leases, sets: list[RangeSet]) -> list[Pick]:
        wanted = list(dict.fromkeys(each.address for each in self.option.ips))
        picks = []
        for each in sets:
            asked = next((address for address in wanted if each.find(address)), None)
            try:
                if asked is not None:
                    wanted.remove(asked)
                    picks.append(self._pick_asked(leases, each, asked))
                else:
                    picks.append(self._pick_next(leases, each))
            except CniError as error:
                raise error.within(f"failed to allocate for range {each.number}") from None
        if wanted:
            text = f"failed to allocate all requested IPs: {' '.join(str(each) for each in wanted)}"
            advice = "each range set gives one address; these have none left to give, or do not contain it: "
            raise CniError(errors.INTERNAL, text, advice + " ".join(str(each) for each in sets))
        return picks

    def _pick_asked(self, leases: Leases, ranges: RangeSet, asked: Address) -> Pick:
        found = ranges.find(asked)
        if found is None or found.gateway == asked:
            raise CniError(errors.INTERNAL, f"requested ip {asked} is subnet's gateway", "ask for another one")
        address = str(asked)
        holder = leases.holder(address)
        if holder is not None:
            if not self._is_dead(leases, address, holder, _boot_time()):
                text = f"requested IP address {asked} is not available in range set {ranges}"
                raise CniError(errors.INTERNAL, text, _fate(leases, address))
            self.dead.add(address)
        return address, found

    def _pick_next(self, leases: Leases, ranges: RangeSet) -> Pick:
        own = [address for address in self._own(leases) if ranges.has(address)]
        for address in own:
            if not self._is_dead(leases, address, self.owner, _boot_time()):
                text = f"{address} has been allocated to {self.owner[0]}, duplicate allocation is not allowed"
                advice = "a DEL of that container and interface gives it back"
                raise CniError(errors.INTERNAL, text, f"{_fate(leases, address)}; {advice}")
        if not own:
            free = leases.first_free(ranges.after(leases.last_reserved(ranges.number)))
            if free is not None:
                return free
        address = own[0] if own else self._first_dead(leases, ranges)
        found = ranges.find(Address.parse(address))
        assert found is not None, "ranges.has(address)"
        self.dead.add(address)
        return address, found

    def _first_dead(self, leases: Leases, ranges: RangeSet) -> str:
        """An address whose lease is nobody's any more, preferably a garbled one; CniError when there is none."""
        boot = _boot_time()
        for address, holder in sorted(leases.all(), key=lambda lease: not is_garbled(lease[1])):
            if ranges.has(address) and self._is_dead(leases, address, holder, boot):
                if leases.holder(address) == holder:
                    return address
        raise _exhausted(leases, ranges)

    def _is_dead(self, leases: Leases, address: str, holder: Owner, boot: float) -> bool:
        """Whether that lease is nobody's any more: garbled, or from before this boot.

        A lease is written under the lock, which is ours now: a garbled one is of a process that has died.
        """
        from ...wiring.leases.stale import is_older, is_stale

        if is_garbled(holder):
            return True
        is_own = holder[0] == self.owner[0] and holder[1] in (self.owner[1], "")
        return is_older(leases, address, holder, boot) if is_own else is_stale(leases, address, holder, boot)

    def _free(self, leases: Leases, ranges: RangeSet) -> int:
        boot = _boot_time()
        held = [lease for lease in leases.all() if ranges.has(lease[0])]
        return ranges.size - sum(1 for address, holder in held if not self._is_dead(leases, address, holder, boot))

    def _own(self, leases: Leases) -> list[str]:
        return [address for address, ifname in leases.of(self.owner[0]) if ifname in (self.owner[1], "")]

    def _lost(self, why: str) -> CniError:
        text = f"host-local: Failed to find address added by container {self.owner[0]}"
        return CniError(errors.INTERNAL, text, why)

    def _require_writable(self) -> None:
        """The folder of leases, or what of the way to it is there: STATUS makes nothing."""
        path = self.leases.path
        try:
            files.require_writable(path)
        except HostError as error:
            advice = f"make it writable and see that it has room, {ADVICE}"
            raise CniError(errors.IO_FAILURE, f"cannot write leases to {path}: {error}", advice) from None


def _boot_time() -> float:
    from ...wiring.leases.stale import boot_time

    return boot_time()


def _fate(leases: Leases, address: str) -> str:
    from ...wiring.leases.report import fate

    return fate(leases, address)


def _exhausted(leases: Leases, ranges: RangeSet) -> CniError:
    from ...wiring.leases.report import exhausted

    return exhausted(leases, ranges)


def _ip_config(pick: Pick) -> IpConfig:
    address, found = pick
    return IpConfig(Cidr.parse(f"{address}/{found.subnet.prefix}"), found.gateway)
