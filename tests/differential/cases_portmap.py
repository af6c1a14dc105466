"""The requests to portmap, after an interface plugin of the same side."""

# A table: one request a line.
# fmt: off

from __future__ import annotations

from typing import Any

from tests.differential.sides import Case

VERSIONS = ("0.3.1", "0.4.0", "1.0.0")
FAMILIES = {"v4": [[{"subnet": "10.1.0.0/24"}]], "v6": [[{"subnet": "fd01::/64"}]]}
FAMILIES["dual"] = [*FAMILIES["v4"], *FAMILIES["v6"]]
WRONG = ["config code", "DEL is total"]
CHECK = "CHECK of both families"
USUAL = ["hairpin of the container alone", CHECK]
OTHER = [*USUAL, "no rules for a mapping of the other family"]


def after(plugin: str = "bridge", family: str = "dual", **options: Any) -> dict[str, Any]:
    return {"type": plugin, "ipam": {"type": "host-local", "ranges": FAMILIES[family]}, **options}


def ports(*texts: str) -> dict[str, Any]:
    """"8080:80/tcp" or "8080:80/tcp@10.1.0.1" -> the capability's argument."""
    found = []
    for text in texts:
        text, _, host_ip = text.partition("@")
        numbers, _, protocol = text.partition("/")
        host, container = map(int, numbers.split(":"))
        found.append({"hostPort": host, "containerPort": container, "protocol": protocol, "hostIP": host_ip})
    return {"portMappings": found}


TCP, UDP, MANY = "8080:80/tcp", "5353:53/udp", [f"{port}:80/tcp" for port in range(3000, 3033)]


def portmap(name: str, differs: Any, *mappings: str, chain: Any = None, between: str = "", **config: Any) -> Case:
    given = {"cniVersion": "1.0.0", "name": "net", "type": "portmap", "runtimeConfig": ports(*mappings), **config}
    chain = (after(),) if chain is None else chain
    return Case(f"portmap-{name}", "portmap", given, differs=tuple(differs), chain=chain, between=between)


PORTMAP = [
    *(portmap(f"version-{version}", USUAL[: 2 - (version == "0.3.1")], TCP, UDP, cniVersion=version) for version in VERSIONS),
    *(portmap(family, [*USUAL, "empty tables"], TCP, UDP, chain=(after(family=family),)) for family in ("v4", "v6")),
    portmap("after-ptp", USUAL, TCP, UDP, chain=(after("ptp"),)),
    portmap("after-ptp-masq", USUAL, TCP, chain=(after("ptp", ipMasq=True),)),
    portmap("after-bridge-masq", USUAL, TCP, chain=(after(isGateway=True, ipMasq=True),)),
    portmap("none", []),
    portmap("null", [], runtimeConfig={"portMappings": None}),
    portmap("without-runtime", [], runtimeConfig=None),
    portmap("upper-case", USUAL, "8080:80/TCP"),
    portmap("sctp", USUAL, "8080:80/sctp", TCP),
    portmap("many", USUAL, *MANY, UDP),
    portmap("one-port-two-protocols", USUAL, "53:53/tcp", "53:53/udp"),
    portmap("host-ip", OTHER, "8080:80/tcp@10.1.0.1", TCP.replace("8080", "8081")),
    portmap("host-ip-both", OTHER, "8080:80/tcp@10.1.0.1", "8081:80/tcp@fd01::1"),
    portmap("host-ip-any", OTHER, "8080:80/tcp@0.0.0.0", "8081:80/tcp@::"),
    portmap("host-ip-of-one-family", [*OTHER, "empty tables"], "8080:80/tcp@0.0.0.0"),
    portmap("host-ip-loopback", OTHER, "8080:80/tcp@127.0.0.1", UDP),
    portmap("same-port-two-addresses", [*OTHER, "each port once", "empty tables"], "80:80/tcp@10.1.0.1", "80:81/tcp@10.1.0.9"),
    portmap("without-snat", [CHECK], TCP, UDP, snat=False),
    portmap("masq-all", [CHECK, "masqAll"], TCP, UDP, masqAll=True),
    portmap("mark-bit", USUAL, TCP, markMasqBit=5),
    portmap("mark-bit-zero", USUAL, TCP, markMasqBit=0),
    portmap("external-chain", USUAL, TCP, externalSetMarkChain="MARKS", between="iptables -t nat -N MARKS; ip6tables -t nat -N MARKS"),
    portmap("external-chain-without-snat", [CHECK], TCP, externalSetMarkChain="MARKS", snat=False),
    portmap("conditions", USUAL, TCP, UDP, conditionsV4=["!", "-s", "192.0.2.0/24"], conditionsV6=["!", "-s", "2001:db8::/64"]),
    portmap("conditions-of-a-module", USUAL, TCP, conditionsV4=["-m", "mark", "--mark", "0x7/0xf"]),
    portmap("shared-there", USUAL, TCP, between="iptables -t nat -N CNI-HOSTPORT-DNAT; iptables -t nat -A OUTPUT -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT"),
    portmap("rules-of-others", USUAL, TCP, between="iptables -t nat -A POSTROUTING -s 192.0.2.7 -j MASQUERADE; iptables -t nat -A PREROUTING -d 192.0.2.7 -j ACCEPT"),
    portmap("no-address", ["empty tables"], TCP, chain=({"type": "bridge"},)),
    portmap("bad-host-port", WRONG, "0:80/tcp"),
    portmap("bad-container-port", WRONG, "80:0/tcp"),
    portmap("port-too-large", ["config code"], "70000:80/tcp"),
    portmap("bad-protocol", ["config code"], "80:80/icmp"),
    portmap("no-protocol", ["config code"], "80:80/"),
    portmap("bad-mark-bit", WRONG, TCP, markMasqBit=32),
    portmap("mark-bit-and-chain", WRONG, TCP, markMasqBit=3, externalSetMarkChain="X"),
    portmap("wrong-type", WRONG, TCP, snat="yes"),
    portmap("missing-external-chain", [], TCP, externalSetMarkChain="MISSING"),
    portmap("no-previous", ["config code"], TCP, chain=()),
]
