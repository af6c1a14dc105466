"""MAC-spoof check: a container's frames carry the MAC address that it was given, or are dropped at the bridge's port.

    table bridge nat {
        chain PREROUTING {
            type filter hook prerouting priority -300; policy accept;
            iifname "veth01234567" jump cni-br-iface-c1-eth0 comment "macspoofchk-c1-eth0"
        }
        chain cni-br-iface-c1-eth0 {
            jump cni-br-iface-c1-eth0-mac comment "macspoofchk-c1-eth0"
        }
        chain cni-br-iface-c1-eth0-mac {
            ether saddr 02:00:00:00:00:01 return comment "macspoofchk-c1-eth0"
            drop comment "macspoofchk-c1-eth0"
        }
    }

Table, chains and comments have the reference's names; table and base chain stay.
"""

from __future__ import annotations

import errno

from ..host import nftables
from ..host.journal import HostError
from ..host.netlink.nft import NF_BR_PRE_ROUTING, NF_DROP, NFPROTO_BRIDGE, NFT_JUMP, NFT_RETURN, PRIORITY_BRIDGE_DSTNAT
from ..host.nftables import Table
from ..host.nftables_listing import listed, outline
from ..spec import errors
from ..spec.errors import CniError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..host.namespace import Machine
    from ..host.nftables import Expression, Request
    from ..host.nftables_listing import ListedRule

BASE_CHAIN = "PREROUTING"


class SpoofCheck:
    """The check of one attachment."""

    def __init__(self, machine: Machine, container_id: str, ifname: str) -> None:
        self.journal = machine.journal
        self.table = Table(machine.host, NFPROTO_BRIDGE, "nat")
        self.name = f"{container_id}-{ifname}"
        self.comment = f"macspoofchk-{self.name}"
        self.port_chain = f"cni-br-iface-{self.name}"
        self.mac_chain = f"{self.port_chain}-mac"

    def add(self, port: str, mac: str) -> None:
        """Check what comes in by that port of the bridge; one transaction, so that nothing passes by a half of it."""
        say = nftables.say(*self._commands(port, mac))
        table, comment = self.table, self.comment
        requests = (
            table.add_chain(self.port_chain),
            table.add_chain(self.mac_chain),
            table.flush_chain(self.port_chain),
            table.flush_chain(self.mac_chain),
            *(table.add_rule(chain, rule, comment) for chain, rules in self._meant(port, mac) for rule in rules),
        )
        try:
            self.journal.run(say, lambda: table.commit(say, *requests), self._remove)
        except HostError as error:
            if error.errno != errno.ENOENT:  # the first check on this machine, or the ruleset was flushed
                raise
            self._set_up()
            self.journal.run(say, lambda: table.commit(say, *requests), self._remove)

    def _set_up(self) -> None:
        """Table and base chain, which stay; with the first rules' undo they go, if nobody else uses them."""
        hook = "{ type filter hook prerouting priority -300; policy accept; }"
        say = nftables.say("add table bridge nat", f"add chain bridge nat {BASE_CHAIN} {hook}")
        table = self.table
        requests = table.add(), table.add_chain(BASE_CHAIN, ("filter", NF_BR_PRE_ROUTING, PRIORITY_BRIDGE_DSTNAT))

        def undo() -> None:
            if table.chains() == {BASE_CHAIN} and not table.comments(BASE_CHAIN):
                table.commit("nft delete table bridge nat", table.delete())

        try:
            self.journal.run(say, lambda: table.commit(say, *requests), undo, shared=True)
        except HostError as error:
            if error.errno in (errno.EOPNOTSUPP, errno.EPROTONOSUPPORT, errno.EAFNOSUPPORT):
                error.hint = "the kernel must have nftables for bridges (CONFIG_NF_TABLES_BRIDGE)"
            raise

    def remove(self) -> None:
        """It may be gone already."""
        jumps, chains = self._jumps(), self._chains()
        if jumps or chains:
            commands = [f"delete rule bridge nat {BASE_CHAIN} handle {rule.handle}" for rule in jumps]
            commands += [f"delete chain bridge nat {name}" for name in chains]
            self.journal.run(nftables.say(*commands), self._remove)

    def is_there(self, port: str, mac: str) -> bool:
        """Whether the rules, in order, do what they shall: a chain of the check's own has no others."""
        return all(
            [rule.outline for rule in (self._jumps() if chain == BASE_CHAIN else listed(self.table, chain))]
            == [outline(rule) for rule in rules]
            for chain, rules in self._meant(port, mac)
        )

    def require_usable(self) -> None:
        """CniError 50 where the kernel has no nftables."""
        if not nftables.usable(self.table.namespace):
            text = "macspoofchk needs nftables, which this kernel does not have"
            raise CniError(errors.PLUGIN_UNAVAILABLE, text, "load the module nf_tables")

    def _commands(self, port: str, mac: str) -> list[str]:
        """What nft(8) is told for `add`."""
        chains = (self.port_chain, self.mac_chain)
        rules = (
            (self.mac_chain, f"ether saddr {mac} return"),
            (self.mac_chain, "drop"),
            (self.port_chain, f"jump {self.mac_chain}"),
            (BASE_CHAIN, f'iifname "{port}" jump {self.port_chain}'),
        )
        return [
            *(f"{verb} chain bridge nat {chain}" for verb in ("add", "flush") for chain in chains),
            *(f'add rule bridge nat {chain} {rule} comment "{self.comment}"' for chain, rule in rules),
        ]

    def _meant(self, port: str, mac: str) -> list[tuple[str, list[list[Expression]]]]:
        """Chains and the rules that they shall have; each chain before what leads to it."""
        same = nftables.ethernet_source(bytes.fromhex(mac.replace(":", "")))
        return [
            (self.mac_chain, [same + nftables.verdict(NFT_RETURN), nftables.verdict(NF_DROP)]),
            (self.port_chain, [nftables.verdict(NFT_JUMP, self.mac_chain)]),
            (BASE_CHAIN, [nftables.input_interface(port) + nftables.verdict(NFT_JUMP, self.port_chain)]),
        ]

    def _jumps(self) -> list[ListedRule]:
        """The base chain's rules with the check's comment, and any that lead to its chain: they would keep it."""
        found = listed(self.table, BASE_CHAIN, [self.name.encode()])
        return [
            rule
            for rule in found
            if rule.comment == self.comment or any(self.port_chain in each.values() for each in rule.outline)
        ]

    def _chains(self) -> list[str]:
        there = self.table.chains()
        return [name for name in (self.port_chain, self.mac_chain) if name in there]

    def _remove(self) -> None:
        requests: list[Request] = [self.table.delete_rule(BASE_CHAIN, rule.handle) for rule in self._jumps()]
        requests += [self.table.delete_chain(name) for name in self._chains()]
        if requests:
            self.table.commit(f"nft delete chain bridge nat {self.port_chain}", *requests)
