"""The requests: one table for interface plugins, one for IPAM plugins, one for the protocol."""

# A table: one request a line.
# fmt: off

from __future__ import annotations

from typing import Any

from tests.differential.cases_devices import DEVICES
from tests.differential.cases_firewall import FIREWALL
from tests.differential.cases_links import LINKS
from tests.differential.cases_meta import META
from tests.differential.cases_portmap import PORTMAP
from tests.differential.cases_routing import ROUTING
from tests.differential.cases_vlans import BRIDGE_VLANS
from tests.differential.sides import Case

VERSIONS = ("0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0")

SUBNET4, SUBNET6 = {"subnet": "10.1.0.0/24"}, {"subnet": "fd01::/64"}
DEFAULT4, DEFAULT6 = {"dst": "0.0.0.0/0"}, {"dst": "::/0"}
V4 = {"type": "host-local", **SUBNET4, "routes": [DEFAULT4]}
V6 = {"type": "host-local", **SUBNET6, "routes": [DEFAULT6]}
DUAL = {"type": "host-local", "ranges": [[SUBNET4], [SUBNET6]], "routes": [DEFAULT4, DEFAULT6]}
FAMILIES = {"v4": V4, "v6": V6, "dual": DUAL}


def static(*addresses: str, routes: Any = (), **more: Any) -> dict[str, Any]:
    """An IPAM section: addresses as "10.1.0.2/24" or "10.1.0.2/24 10.1.0.1", with a gateway."""
    listed = [dict(zip(("address", "gateway"), each.split(), strict=False)) for each in addresses]
    return {"type": "static", "addresses": listed, "routes": list(routes), **more}


def _case(name: str, plugin: str, config: Any, **more: Any) -> Case:
    if isinstance(config, dict):
        config = {"cniVersion": "1.0.0", "name": "net", "type": plugin, **config}
    return Case(f"{plugin}-{name}", plugin, config, **more)


def bridge(name: str, ipam: Any = None, differs: Any = (), setup: str = "", environ: Any = None, **config: Any) -> Case:
    given = {**config, **({"ipam": ipam} if ipam is not None else {})}
    return _case(name, "bridge", given, differs=tuple(differs), setup=setup, environ=environ or {})


def ptp(name: str, ipam: Any = None, differs: Any = (), setup: str = "", environ: Any = None, **config: Any) -> Case:
    given = {**config, **({"ipam": ipam} if ipam is not None else {})}
    return _case(name, "ptp", given, differs=tuple(differs), setup=setup, environ=environ or {})


def loopback(name: str, differs: Any = (), setup: str = "", environ: Any = None, **config: Any) -> Case:
    return _case(name, "loopback", config, differs=tuple(differs), setup=setup, environ={"ifname": "lo", **(environ or {})})


TWO_MASQ = ["ACCEPT before MASQUERADE", "DEL of two addresses"]
MAC = "c2:11:22:33:44:55"
PINNED = "ip link add cni0 address 02:00:00:00:00:01 up type bridge"
PORT = "ip link add p0 up master cni0 type veth peer name p1; ip link set p1 up"
DNS = {"nameservers": ["10.1.0.9"], "domain": "example.org", "search": ["a.example.org", "b"], "options": ["ndots:2"]}


def answering(script: str) -> dict[str, Any]:
    """Setup and CNI_PATH of an IPAM plugin "fake" that is this shell script, beside the real ones."""
    return {"setup": f"mkdir -p /run/fake; cat >/run/fake/fake <<'END'\n#!/bin/sh\n{script}\nEND\nchmod +x /run/fake/fake"}


IN_FAKE = {"CNI_PATH": "/run/fake"}
RESULT = '{"cniVersion": "1.0.0", "ips": [{"address": "10.1.0.5/24", "gateway": "10.1.0.1"}]}'

INTERFACES = [
    *BRIDGE_VLANS,
    *DEVICES,
    *FIREWALL,
    *LINKS,
    *META,
    *PORTMAP,
    *ROUTING,
    # --- versions and families
    *(bridge(f"version-{version}", V4, cniVersion=version, isGateway=True) for version in VERSIONS),
    *(ptp(f"version-{version}", DUAL, cniVersion=version) for version in VERSIONS),
    *(bridge(family, ipam) for family, ipam in FAMILIES.items()),
    *(bridge(f"gateway-{family}", ipam, isGateway=True) for family, ipam in FAMILIES.items()),
    *(bridge(f"masq-{family}", ipam, isGateway=True, ipMasq=True) for family, ipam in FAMILIES.items()),
    *(ptp(family, ipam) for family, ipam in FAMILIES.items()),
    *(ptp(f"masq-{family}", ipam, ipMasq=True) for family, ipam in FAMILIES.items()),
    # --- bridge: options
    bridge("l2", differs=["CHECK without ipam"]),
    bridge("l2-empty-type", {"type": ""}, differs=["CHECK without ipam"]),
    bridge("name", V4, bridge="br1"),
    bridge("mtu", V4, mtu=1400),
    bridge("mtu-larger", V4, mtu=9000),
    bridge("hairpin", V4, hairpinMode=True),
    bridge("promisc", V4, promiscMode=True),
    bridge("enabledad", DUAL, enabledad=True, isGateway=True),
    bridge("default-gateway", {"type": "host-local", **SUBNET4}, isDefaultGateway=True),
    bridge("default-gateway-v6", {"type": "host-local", **SUBNET6}, isDefaultGateway=True),
    bridge("default-gateway-other-routes", {**V4, "routes": [{"dst": "10.9.0.0/16"}]}, ["CHECK of routes"], isDefaultGateway=True),
    bridge("default-gateway-same-route", {**V4, "routes": [{"dst": "0.0.0.0/0", "gw": "10.1.0.7"}]}, isDefaultGateway=True),
    bridge("given-gateway", {**V4, "gateway": "10.1.0.77"}, isGateway=True),
    bridge("masq-without-gateway", V4, ipMasq=True),
    bridge("dns", {**V4, "resolvConf": "/run/resolv.conf"}, dns=DNS, setup="echo nameserver 10.1.0.8 >/run/resolv.conf"),
    bridge("dns-of-ipam", static("10.1.0.2/24", dns=DNS), differs=["IPAM's dns"]),
    bridge("force-address-unused", V4, isGateway=True, forceAddress=True),
    bridge("null-options", V4, isGateway=None, mtu=None, bridge=None, hairpinMode=None, dns=None),
    bridge("unknown-options", V4, whatever=1, foo={"bar": [1]}),
    bridge("case-of-keys", V4, ISGATEWAY=True, Mtu=1300),
    bridge("vlan-zero", V4, vlan=0, macspoofchk=False),
    bridge("spoof-check", V4, isGateway=True, macspoofchk=True),
    bridge("mac-args", V4, environ={"CNI_ARGS": f"MAC={MAC};IgnoreUnknown=1"}),
    bridge("mac-args-cni", V4, args={"cni": {"mac": MAC}}),
    bridge("mac-capability", V4, runtimeConfig={"mac": MAC}, capabilities={"mac": True}),
    bridge("mac-precedence", V4, runtimeConfig={"mac": MAC}, args={"cni": {"mac": "c2:11:22:33:44:66"}}),
    bridge("mac-upper-case", V4, runtimeConfig={"mac": MAC.upper()}),
    # --- bridge: addresses
    bridge("static", static("10.1.0.2/24 10.1.0.1"), isGateway=True),
    bridge("static-without-gateway", static("10.1.0.2/24", "fd01::2/64"), isGateway=True),
    bridge("two-v4", static("10.1.0.2/24 10.1.0.1", "10.2.0.2/24 10.2.0.1", routes=[DEFAULT4])),
    bridge("two-v4-masq", static("10.1.0.2/24 10.1.0.1", "10.2.0.2/24 10.2.0.1"), TWO_MASQ, ipMasq=True),
    bridge("two-v6-masq", static("fd01::2/64 fd01::1", "fd02::2/64 fd02::1"), TWO_MASQ, ipMasq=True, isGateway=True),
    bridge("two-v4-gateways", static("10.1.0.2/24 10.1.0.1", "10.2.0.2/24 10.2.0.1"), ["two gateways"], isGateway=True),
    bridge("slash-32", static("10.1.0.2/32 10.1.0.1"), ["CHECK of routes"]),
    bridge("slash-31", static("10.1.0.2/31 10.1.0.3")),
    bridge("slash-128", static("fd01::2/128")),
    bridge("upper-case-v6", static("FD01:0:0::2/64 FD01:0::1"), isGateway=True),
    # --- bridge: routes
    bridge("route-with-gateway", {**V4, "routes": [{"dst": "10.9.0.0/16", "gw": "10.1.0.9"}]}),
    bridge("route-filled-in", {**V4, "routes": [{"dst": "10.9.0.0/16"}]}, ["CHECK of routes"]),
    bridge("route-host-bits", {**V4, "routes": [{"dst": "10.9.1.2/16", "gw": "10.1.0.9"}]}, ["host bits of a route"]),
    bridge("route-by-device", static("10.1.0.2/24", routes=[{"dst": "10.9.0.0/16"}])),
    bridge("route-v6", {**V6, "routes": [{"dst": "fd09::/32", "gw": "fd01::9"}]}),
    bridge("route-ecmp-v6", {**V6, "routes": [{"dst": "fd09::/32", "gw": f"fd01::{n}"} for n in (8, 9)]}, ["CHECK of routes"]),
    bridge("route-two-v4", {**V4, "routes": [{"dst": "10.9.0.0/16", "gw": f"10.1.0.{n}"} for n in (8, 9)]}),
    bridge("route-twice", {**V4, "routes": [{"dst": "10.9.0.0/16", "gw": "10.1.0.8"}] * 2}, ["same route twice"]),
    bridge("route-unreachable", {**V4, "routes": [{"dst": "10.9.0.0/16", "gw": "10.77.0.1"}]}),
    # --- bridge: what is there before
    bridge("bridge-exists-unpinned", V4, isGateway=True, setup="ip link add cni0 type bridge"),
    bridge("bridge-exists", V4, setup="ip link add cni0 type bridge; ip link set cni0 mtu 1300"),
    bridge("bridge-exists-gateway", V4, isGateway=True, setup=f"{PINNED}; ip address add 10.1.0.1/24 dev cni0; {PORT}"),
    bridge("bridge-exists-promisc", V4, promiscMode=True, setup=f"{PINNED}; {PORT}"),
    bridge("no-bridge", V4, ["config code"], setup="ip link add cni0 type veth"),
    bridge("other-address", V4, isGateway=True, setup=f"{PINNED}; ip address add 10.5.0.1/24 dev cni0; {PORT}"),
    bridge("other-address-forced", V4, isGateway=True, forceAddress=True, setup=f"{PINNED}; ip address add 10.5.0.1/24 dev cni0; {PORT}"),
    bridge("same-address-other-prefix", V4, isGateway=True, setup=f"{PINNED}; ip address add 10.1.0.1/16 dev cni0; {PORT}"),
    bridge("other-v6-apart", V6, isGateway=True, setup=f"{PINNED}; ip address add fd05::1/64 dev cni0; {PORT}"),
    bridge("other-v6-overlaps", V6, isGateway=True, setup=f"{PINNED}; ip address add fd01::5/64 dev cni0; {PORT}"),
    bridge("other-v6-overlaps-forced", V6, isGateway=True, forceAddress=True, setup=f"{PINNED}; ip address add fd01::5/64 dev cni0; {PORT}"),
    bridge("interface-exists", V4, setup="ip -n c1 link add eth0 type veth"),
    bridge("forwarding-on", V4, isGateway=True, setup="echo 1 >/proc/sys/net/ipv4/ip_forward"),
    bridge("ipv6-disabled-in-container", V6, setup="ip netns exec c1 sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1"),
    # --- bridge: errors
    bridge("hairpin-and-promisc", V4, ["config code"], hairpinMode=True, promiscMode=True),
    bridge("vlan-too-high", V4, ["config code", "DEL is total"], vlan=5000),
    bridge("wrong-type", V4, ["config code", "DEL is total"], isGateway="yes"),
    bridge("wrong-mtu", V4, ["config code", "DEL is total"], mtu="1400"),
    bridge("fractional-mtu", V4, ["config code", "DEL is total"], mtu=1.5),
    bridge("bad-mac", V4, ["config code"], runtimeConfig={"mac": "nonsense"}),
    bridge("bad-mac-args", V4, ["environment code", "DEL is total"], environ={"CNI_ARGS": "MAC=nonsense"}),
    bridge("args-unknown", V4, ["environment code", "DEL is total"], environ={"CNI_ARGS": "FOO=1"}),
    bridge("args-unknown-ignored", V4, environ={"CNI_ARGS": "FOO=1;IgnoreUnknown=true"}),
    bridge("args-garbled", V4, ["environment code", "DEL is total"], environ={"CNI_ARGS": "FOO"}),
    bridge("args-two-equal-signs", V4, ["environment code", "DEL is total"], environ={"CNI_ARGS": "MAC=a=b"}),
    bridge("args-ip-and-mac", V4, ["MAC and IP in CNI_ARGS"], environ={"CNI_ARGS": f"IP=10.1.0.9;MAC={MAC}"}),
    bridge("ipam-unknown", {"type": "no-such"}),
    bridge("ipam-garbled", "nonsense", ["config code"]),
    bridge("ipam-path", {"type": "../host-local"}, ["config code"]),
    bridge("ipam-no-ranges", {"type": "host-local"}, ["config code", "DEL is total"]),
    bridge("no-path", V4, environ={"CNI_PATH": "/nowhere"}),
    bridge("no-netns", V4, ["netns code"], environ={"netns": "/run/netns/none"}),
    bridge("netns-plain-file", V4, ["netns code", "DEL is total"], setup="touch /run/netns/plain", environ={"netns": "/run/netns/plain"}),
    bridge("bridge-name-too-long", V4, ["config code"], bridge="a-name-that-is-too-long"),
    bridge("exhausted", {**V4, "rangeStart": "10.1.0.2", "rangeEnd": "10.1.0.2", "gateway": "10.1.0.2"}),
    # --- delegates that are not ours
    bridge("fake", {"type": "fake"}, **answering(f"echo '{RESULT}'"), environ=IN_FAKE),
    bridge("fake-without-version", {"type": "fake"}, **answering("""echo '{"ips": [{"address": "10.1.0.5/24"}]}'"""), environ=IN_FAKE),
    bridge("fake-0.2.0", {"type": "fake"}, cniVersion="0.4.0", **answering("""echo '{"cniVersion": "0.2.0", "ip4": {"ip": "10.1.0.5/24", "routes": [{"dst": "10.9.0.0/16", "gw": "10.1.0.9"}]}}'"""), environ=IN_FAKE),
    bridge("fake-0.3.1", {"type": "fake"}, **answering("""echo '{"cniVersion": "0.3.1", "ips": [{"version": "4", "address": "10.1.0.5/24"}]}'"""), environ=IN_FAKE),
    bridge("fake-interface-index", {"type": "fake"}, **answering("""echo '{"cniVersion": "1.0.0", "ips": [{"interface": 7, "address": "10.1.0.5/24"}]}'"""), environ=IN_FAKE),
    bridge("fake-dns", {"type": "fake"}, ["IPAM's dns"], **answering("""echo '{"cniVersion": "1.0.0", "ips": [{"address": "10.1.0.5/24"}], "dns": {"domain": "x"}}'"""), environ=IN_FAKE),
    bridge("fake-no-ips", {"type": "fake"}, **answering("""echo '{"cniVersion": "1.0.0"}'"""), environ=IN_FAKE),
    bridge("fake-error", {"type": "fake"}, **answering("""echo '{"code": 123, "msg": "no", "details": "way"}'; exit 1"""), environ=IN_FAKE),
    bridge("fake-error-without-code", {"type": "fake"}, **answering("""echo '{"msg": "no"}'; exit 1"""), environ=IN_FAKE),
    bridge("fake-silent", {"type": "fake"}, **answering("exit 3"), environ=IN_FAKE),
    bridge("fake-stderr", {"type": "fake"}, **answering("echo trouble >&2; exit 3"), environ=IN_FAKE),
    bridge("fake-no-json", {"type": "fake"}, **answering("echo trouble; exit 3"), environ=IN_FAKE),
    bridge("fake-no-json-success", {"type": "fake"}, ["decoding code"], **answering("echo trouble"), environ=IN_FAKE),
    bridge("fake-unknown-version", {"type": "fake"}, ["decoding code"], **answering("""echo '{"cniVersion": "9.9.9"}'"""), environ=IN_FAKE),
    bridge("fake-bad-address", {"type": "fake"}, ["decoding code"], **answering("""echo '{"cniVersion": "1.0.0", "ips": [{"address": "nonsense"}]}'"""), environ=IN_FAKE),
    # --- ptp
    ptp("mtu", DUAL, mtu=1400),
    ptp("dns", V4, dns=DNS),
    ptp("dns-of-ipam", static("10.1.0.2/24 10.1.0.1", dns=DNS)),
    ptp("two-v4", static("10.1.0.2/24 10.1.0.1", "10.2.0.2/24 10.2.0.1", routes=[DEFAULT4]), ["ACCEPT before MASQUERADE"], ipMasq=True),
    ptp("two-v4-one-gateway", static("10.1.0.2/24 10.1.0.1", "10.1.0.3/24 10.1.0.1"), ["two addresses, one gateway"]),
    ptp("routes", {**V4, "routes": [{"dst": "10.9.0.0/16"}, {"dst": "10.10.0.0/16", "gw": "10.1.0.9"}]}, ["CHECK of routes"]),
    ptp("no-gateway", static("10.1.0.2/24")),
    ptp("slash-32", static("10.1.0.2/32 10.1.0.1")),
    ptp("no-ipam", None, ["config code", "DEL is total"]),
    ptp("ipam-unknown", {"type": "no-such"}),
    ptp("wrong-mtu", V4, ["config code", "DEL is total"], mtu="big"),
    ptp("interface-exists", V4, setup="ip -n c1 link add eth0 type veth"),
    ptp("no-netns", V4, ["netns code"], environ={"netns": "/run/netns/none"}),
    ptp("args-unknown", V4, ["environment code", "DEL is total"], environ={"CNI_ARGS": "FOO=1"}),
    ptp("fake-no-ips", {"type": "fake"}, **answering("""echo '{"cniVersion": "1.0.0"}'"""), environ=IN_FAKE),
    # --- loopback
    *(loopback(f"version-{each}", [] if each == "1.0.0" else ["loopback's versions"], cniVersion=each) for each in VERSIONS),
    loopback("previous", prevResult={"cniVersion": "1.0.0", "ips": [{"address": "10.1.0.2/24"}], "dns": {"domain": "x"}}),
    loopback("previous-0.4.0", cniVersion="0.4.0", prevResult={"cniVersion": "0.4.0", "ips": [{"version": "4", "address": "10.1.0.2/24"}]}),
    loopback("other-ifname", environ={"ifname": "eth0"}),
    loopback("up-already", setup="ip -n c1 link set lo up"),
    loopback("other-address", setup="ip -n c1 link set lo up; ip -n c1 address add 10.0.0.1/8 dev lo"),
    loopback("second-address", setup="ip -n c1 address add 127.0.0.2/8 dev lo"),
    loopback("no-netns", differs=["netns code"], environ={"netns": "/run/netns/none"}),
]


def lease(name: str, ipam: Any, differs: Any = (), steps: str = "", setup: str = "", environ: Any = None, **config: Any) -> Case:
    """host-local. Each case has a network of its own; `setup` finds its folder in $D. Steps are separated by commas."""
    given = {"cniVersion": "1.0.0", "name": f"lease-{name}", "type": "x", **config}
    if ipam is not None:
        given["ipam"] = {"type": "host-local", **ipam}
    listed = tuple(step.strip() for step in (steps or "ADD, CHECK, DEL, DEL").split(","))
    return Case(f"host-local-{name}", "host-local", given, environ or {}, setup, tuple(differs), steps=listed)


def fixed(name: str, ipam: Any, differs: Any = (), steps: str = "", environ: Any = None, **config: Any) -> Case:
    """static."""
    given = {"cniVersion": "1.0.0", "name": f"static-{name}", "type": "x", "ipam": ipam, **config}
    listed = tuple(step.strip() for step in (steps or "ADD, CHECK, DEL").split(","))
    return Case(f"static-{name}", "static", given, environ or {}, "", tuple(differs), steps=listed)


SMALL = {"subnet": "10.1.0.0/29"}  # .2 to .6
PAIR = {"subnet": "10.1.0.0/24", "rangeStart": "10.1.0.10", "rangeEnd": "10.1.0.11"}
ROUND = "ADD c1, ADD c2, ADD c3, DEL c1, DEL c2, ADD c4, ADD c5, ADD c6, ADD c7, DEL c5, ADD c8, DEL c3"
WRONG = ["config code", "DEL is total"]
WRONG_ARGS = ["environment code", "DEL is total"]


def asking(*addresses: str) -> dict[str, Any]:
    return {"runtimeConfig": {"ips": list(addresses)}}


LEASES = [
    *(lease(f"version-{version}", SMALL, cniVersion=version) for version in VERSIONS),
    *(lease(f"version-dual-{version}", {"ranges": [[SMALL], [SUBNET6]]}, cniVersion=version) for version in VERSIONS),
    lease("no-version", SMALL, cniVersion=None),
    # --- ranges
    lease("v6", SUBNET6),
    lease("two-sets", {"ranges": [[{"subnet": "10.1.0.0/24"}], [{"subnet": "10.2.0.0/24"}]]}),
    lease("two-ranges", {"ranges": [[PAIR, {"subnet": "10.2.0.0/30"}]]}, steps="ADD c1, ADD c2, ADD c3, ADD c4, CHECK c3, DEL c1, ADD c5"),
    lease("old-and-new", {**SMALL, "ranges": [[{"subnet": "10.2.0.0/24"}]]}),
    lease("range", PAIR, steps="ADD c1, ADD c2, ADD c3, DEL c1, ADD c4"),
    lease("range-in-v6", {**SUBNET6, "rangeStart": "fd01::ff", "rangeEnd": "fd01::100"}, steps="ADD c1, ADD c2, ADD c3"),
    lease("range-start-is-network", {**SMALL, "rangeStart": "10.1.0.0"}, steps=ROUND),
    lease("range-end-is-broadcast", {**SMALL, "rangeStart": "10.1.0.6", "rangeEnd": "10.1.0.7"}, steps="ADD c1, ADD c2"),
    lease("range-of-one", {**SMALL, "rangeStart": "10.1.0.3", "rangeEnd": "10.1.0.3"}, steps="ADD c1, ADD c2, DEL c1, ADD c2"),
    lease("slash-30", {"subnet": "10.1.0.0/30"}, steps="ADD c1, ADD c2"),
    lease("slash-126", {"subnet": "fd01::/126"}, steps="ADD c1, ADD c2, ADD c3"),
    lease("gateway-in-the-middle", {**SMALL, "gateway": "10.1.0.3"}, steps=ROUND),
    lease("gateway-outside", {**SMALL, "gateway": "10.9.9.9"}),
    lease("gateway-empty", {**SMALL, "gateway": ""}),
    lease("gateway-of-other-family", {**SMALL, "gateway": "fd01::1"}, ["gateway of the other family"]),
    lease("v6-written-otherwise", {"subnet": "FD01:0:0::/64", "gateway": "FD01::0001"}),
    lease("mapped", {"subnet": "::ffff:10.1.0.0/120"}, ["IPv4-mapped subnet"]),
    lease("capability-ranges", {}, runtimeConfig={"ipRanges": [[{"subnet": "10.3.0.0/24"}]]}),
    lease("capability-ranges-and-own", SMALL, runtimeConfig={"ipRanges": [[{"subnet": "10.3.0.0/24"}], [SUBNET6]]}),
    lease("capability-ranges-null", SMALL, runtimeConfig={"ipRanges": None}),
    # --- order
    lease("round-robin", SMALL, steps=ROUND),
    lease("round-robin-dual", {"ranges": [[SMALL], [{"subnet": "fd01::/125"}]]}, steps=ROUND),
    lease("last-reserved", SMALL, setup="mkdir -p $D; printf 10.1.0.4 >$D/last_reserved_ip.0", steps="ADD c1, ADD c2"),
    lease("last-reserved-newline", SMALL, ["last_reserved_ip with a newline"], setup="mkdir -p $D; echo 10.1.0.4 >$D/last_reserved_ip.0", steps="ADD c1"),
    lease("last-reserved-garbled", SMALL, setup="mkdir -p $D; echo x >$D/last_reserved_ip.0", steps="ADD c1"),
    lease("last-reserved-elsewhere", SMALL, setup="mkdir -p $D; printf 10.7.0.4 >$D/last_reserved_ip.0", steps="ADD c1"),
    lease("last-reserved-is-last", SMALL, setup="mkdir -p $D; printf 10.1.0.6 >$D/last_reserved_ip.0", steps="ADD c1"),
    # --- who holds what
    lease("twice", SMALL, steps="ADD, ADD, DEL, ADD, DEL"),
    lease("two-interfaces", SMALL, steps="ADD c1 eth0, ADD c1 eth1, CHECK c1 eth1, DEL c1 eth0, CHECK c1 eth0, DEL c1 eth1"),
    lease("never-added", SMALL, ["no folder before it is needed"], steps="DEL, DEL c2"),
    lease("check-never-added", SMALL, ["no folder before it is needed"], steps="CHECK"),
    lease("check-after-del", SMALL, steps="ADD, DEL, CHECK"),
    lease("check-of-other-interface", SMALL, steps="ADD c1 eth0, CHECK c1 eth1"),
    lease("exhausted", {"ranges": [[SUBNET6], [{"subnet": "10.1.0.0/30"}]]}, ["all or nothing"], steps="ADD c1, ADD c2, DEL c2, DEL c1"),
    lease("old-lease", SMALL, setup="mkdir -p $D; printf c1 >$D/10.1.0.2", steps="CHECK, ADD c2, DEL, DEL"),
    lease("old-lease-newline", SMALL, setup="mkdir -p $D; echo c1 >$D/10.1.0.2", steps="CHECK, DEL"),
    lease("old-lease-and-add", SMALL, setup="mkdir -p $D; printf c1 >$D/10.1.0.2", steps="ADD, DEL"),
    lease("lf-lease", SMALL, setup=r"mkdir -p $D; printf 'c1\neth0' >$D/10.1.0.2", steps="CHECK, DEL"),
    lease("other-files", SMALL, ["files that are no leases"], setup=r"mkdir -p $D/dir; printf 'c1\r\neth0' >$D/README; printf x >$D/dir/file", steps="ADD, DEL"),
    lease("foreign-range", SMALL, setup=r"mkdir -p $D; printf 'c1\r\neth0' >$D/10.9.0.2", steps="ADD, DEL"),
    lease("empty-lease", SMALL, setup="mkdir -p $D; : >$D/10.1.0.2", steps="ADD, DEL"),
    lease("container-id-prefix", SMALL, steps="ADD c1, ADD c11, DEL c1, CHECK c11, DEL c11"),
    # --- asked for
    lease("asked-capability", SMALL, **asking("10.1.0.5")),
    lease("asked-capability-prefix", SMALL, **asking("10.1.0.5/24")),
    lease("asked-args", SMALL, environ={"CNI_ARGS": "IP=10.1.0.5"}),
    lease("asked-args-prefix", SMALL, environ={"CNI_ARGS": "IP=10.1.0.5/29"}),
    lease("asked-args-empty", SMALL, environ={"CNI_ARGS": "IP="}),
    lease("asked-args-cni", SMALL, args={"cni": {"ips": ["10.1.0.5"]}}),
    lease("asked-both-families", {"ranges": [[SMALL], [SUBNET6]]}, **asking("fd01::99", "10.1.0.5")),
    lease("asked-one-of-two-sets", {"ranges": [[SMALL], [SUBNET6]]}, **asking("fd01::99")),
    lease("asked-everywhere", {"ranges": [[SMALL], [SUBNET6]]}, environ={"CNI_ARGS": "IP=10.1.0.5"}, args={"cni": {"ips": ["fd01::9"]}}),
    lease("asked-twice-the-same", SMALL, args={"cni": {"ips": ["10.1.0.5"]}}, **asking("10.1.0.5")),
    lease("asked-two-of-one-set", SMALL, ["all or nothing"], **asking("10.1.0.5", "10.1.0.6")),
    lease("asked-outside", SMALL, ["all or nothing"], **asking("10.2.0.5")),
    lease("asked-gateway", SMALL, **asking("10.1.0.1")),
    lease("asked-gateway-in-range", {**SMALL, "rangeStart": "10.1.0.1", "gateway": "10.1.0.1"}, **asking("10.1.0.1")),
    lease("asked-network", SMALL, ["all or nothing"], **asking("10.1.0.0")),
    lease("asked-broadcast", SMALL, ["all or nothing"], **asking("10.1.0.7")),
    lease("asked-taken", SMALL, **asking("10.1.0.5"), steps="ADD c1, ADD c2, DEL c2, DEL c1, ADD c2"),
    lease("asked-again", SMALL, **asking("10.1.0.5"), steps="ADD c1, ADD c1"),
    lease("asked-v6-written-otherwise", SUBNET6, **asking("FD01:0::0005")),
    lease("asked-garbled", SMALL, WRONG, **asking("nonsense")),
    lease("asked-no-list", SMALL, WRONG, runtimeConfig={"ips": "10.1.0.5"}),
    lease("asked-args-garbled", SMALL, WRONG_ARGS, environ={"CNI_ARGS": "IP=nonsense"}),
    lease("args-unknown", SMALL, WRONG_ARGS, environ={"CNI_ARGS": "FOO=1"}),
    lease("args-unknown-ignored", SMALL, environ={"CNI_ARGS": "FOO=1;IgnoreUnknown=1"}),
    lease("args-lower-case", SMALL, WRONG_ARGS, environ={"CNI_ARGS": "ip=10.1.0.5"}),
    lease("args-trailing", SMALL, WRONG_ARGS, environ={"CNI_ARGS": "IP=10.1.0.5;"}),
    lease("args-ignore-garbled", SMALL, WRONG_ARGS, environ={"CNI_ARGS": "IgnoreUnknown=maybe"}),
    # --- passed on
    lease("routes", {**SMALL, "routes": [DEFAULT4, {"dst": "10.9.0.0/16", "gw": "10.1.0.9"}, {"dst": "10.9.1.2/16"}]}),
    lease("routes-null", {**SMALL, "routes": None}),
    lease("route-without-dst", {**SMALL, "routes": [{"gw": "10.1.0.9"}]}, ["route without a destination"]),
    lease("route-garbled", {**SMALL, "routes": [{"dst": "nonsense"}]}, WRONG),
    lease("route-gateway-garbled", {**SMALL, "routes": [{"dst": "10.9.0.0/16", "gw": "nonsense"}]}, WRONG),
    lease("resolv-conf", {**SMALL, "resolvConf": "/run/r.conf"}, setup="printf '# x\n;y\nnameserver 10.1.0.9\nnameserver fd01::9\nsearch a b\nsearch c\ndomain d\ndomain e\noptions x y\nnameserver\n  nameserver 10.1.0.8\n\n' >/run/r.conf"),
    lease("resolv-conf-empty", {**SMALL, "resolvConf": "/dev/null"}),
    lease("resolv-conf-missing", {**SMALL, "resolvConf": "/run/missing.conf"}, ["no folder before it is needed"]),
    lease("data-dir", {**SMALL, "dataDir": "/var/lib/cni/elsewhere"}),
    lease("data-dir-empty", {**SMALL, "dataDir": ""}),
    # --- wrong
    lease("no-ipam", None, WRONG),
    lease("no-ranges", {}, WRONG),
    lease("empty-ranges", {"ranges": []}, WRONG),
    lease("empty-set", {"ranges": [[]]}, WRONG),
    lease("ranges-no-list", {"ranges": "x"}, WRONG),
    lease("range-without-subnet", {"ranges": [[{"rangeStart": "10.1.0.2"}]]}, WRONG),
    lease("range-start-only", {"rangeStart": "10.1.0.2"}, WRONG),
    lease("subnet-garbled", {"subnet": "nonsense"}, WRONG),
    lease("subnet-no-prefix", {"subnet": "10.1.0.0"}, WRONG),
    lease("subnet-leading-zero", {"subnet": "10.01.0.0/24"}, WRONG),
    lease("subnet-host-bits", {"subnet": "10.1.0.1/24"}, WRONG),
    lease("subnet-31", {"subnet": "10.1.0.0/31"}, WRONG),
    lease("subnet-32", {"subnet": "10.1.0.0/32"}, WRONG),
    lease("subnet-127", {"subnet": "fd01::/127"}, WRONG),
    lease("subnet-number", {"subnet": 10}, WRONG),
    lease("mixed-families", {"ranges": [[SMALL, SUBNET6]]}, WRONG),
    lease("start-outside", {**SMALL, "rangeStart": "10.2.0.1"}, WRONG),
    lease("end-outside", {**SMALL, "rangeEnd": "10.2.0.1"}, WRONG),
    lease("end-before-start", {**SMALL, "rangeStart": "10.1.0.5", "rangeEnd": "10.1.0.3"}, WRONG),
    lease("start-garbled", {**SMALL, "rangeStart": "nonsense"}, WRONG),
    lease("gateway-garbled", {**SMALL, "gateway": "nonsense"}, WRONG),
    lease("overlap-in-set", {"ranges": [[SMALL, {"subnet": "10.1.0.0/30"}]]}, WRONG),
    lease("overlap-of-sets", {"ranges": [[SMALL], [{"subnet": "10.1.0.0/30"}]]}, WRONG),
    lease("two-v4-in-0.2.0", {"ranges": [[SMALL], [{"subnet": "10.2.0.0/24"}]]}, WRONG, cniVersion="0.2.0"),
    lease("routes-no-list", {**SMALL, "routes": "x"}, WRONG),
    lease("data-dir-number", {**SMALL, "dataDir": 1}, ["config code"]),
    # --- static
    *(fixed(f"version-{version}", static("10.1.0.2/24 10.1.0.1", "fd01::2/64 fd01::1", routes=[DEFAULT4, DEFAULT6]), cniVersion=version) for version in VERSIONS),
    fixed("host-bits", static("10.1.0.2/24")),
    fixed("several", static("10.1.0.2/24", "10.1.0.3/24", "10.2.0.2/16 10.2.0.1", "fd01::2/128")),
    fixed("routes", static("10.1.0.2/24", routes=[{"dst": "10.9.1.2/16", "gw": "10.1.0.9"}, DEFAULT6])),
    fixed("dns", static("10.1.0.2/24", dns=DNS)),
    fixed("gateway-elsewhere", static("10.1.0.2/24 10.9.9.9")),
    fixed("nothing", {"type": "static"}),
    fixed("nothing-0.2.0", {"type": "static"}, cniVersion="0.2.0"),
    fixed("null", {"type": "static", "addresses": None, "routes": None, "dns": None}),
    fixed("args", {"type": "static"}, environ={"CNI_ARGS": "IP=10.1.0.2/24;GATEWAY=10.1.0.1"}),
    fixed("args-lists", {"type": "static"}, environ={"CNI_ARGS": "IP=10.1.0.2/24,10.2.0.2/24,fd01::2/64;GATEWAY=10.2.0.1,fd01::1"}),
    fixed("args-and-config", static("10.3.0.2/24 10.3.0.1"), environ={"CNI_ARGS": "IP=10.1.0.2/24;GATEWAY=10.3.0.9"}),
    fixed("args-gateway-only", static("10.3.0.2/24"), environ={"CNI_ARGS": "GATEWAY=10.3.0.9"}),
    fixed("args-cni", static("10.3.0.2/24 10.3.0.1"), args={"cni": {"ips": ["10.1.0.2/24", "fd01::2/64"]}}),
    fixed("capability", static("10.3.0.2/24 10.3.0.1"), **asking("10.1.0.2/24")),
    fixed("capability-and-args-cni", static("10.3.0.2/24"), args={"cni": {"ips": ["10.4.0.2/24"]}}, **asking("10.1.0.2/24")),
    fixed("capability-empty", static("10.3.0.2/24"), **asking()),
    fixed("check-gateway", static("10.1.0.2/24 10.1.0.1"), steps="CHECK", prevResult={"cniVersion": "1.0.0", "ips": [{"address": "10.1.0.2/24", "gateway": "10.1.0.7"}]}),
    fixed("check-absent", static("10.1.0.2/24"), ["CHECK of static"], steps="CHECK", prevResult={"cniVersion": "1.0.0", "ips": []}),
    fixed("check-without-result", static("10.1.0.2/24"), ["config code"], steps="CHECK"),
    fixed("address-bare", static("10.1.0.2"), ["config code"]),
    fixed("address-garbled", static("nonsense"), ["config code"]),
    fixed("address-missing", {"type": "static", "addresses": [{}]}, ["config code"]),
    fixed("gateway-garbled", static("10.1.0.2/24 nonsense"), ["config code"]),
    fixed("route-garbled", static("10.1.0.2/24", routes=[{"dst": "x"}]), ["config code"]),
    fixed("two-v4-in-0.2.0", static("10.1.0.2/24", "10.1.0.3/24"), ["config code"], cniVersion="0.2.0"),
    fixed("args-bare", {"type": "static"}, ["environment code"], environ={"CNI_ARGS": "IP=10.1.0.2"}),
    fixed("args-gateway-garbled", {"type": "static"}, ["environment code"], environ={"CNI_ARGS": "IP=10.1.0.2/24;GATEWAY=x"}),
    fixed("args-unknown", static("10.1.0.2/24"), ["environment code"], environ={"CNI_ARGS": "FOO=1"}),
    fixed("args-cni-bare", {"type": "static"}, ["config code"], args={"cni": {"ips": ["10.1.0.2"]}}),
    fixed("capability-bare", {"type": "static"}, ["config code"], **asking("10.1.0.2")),
    fixed("no-ipam", None, ["config code"]),
    fixed("addresses-no-list", {"type": "static", "addresses": "x"}, ["config code"]),
]


def ask(name: str, verb: str | None = "ADD", config: Any = None, differs: Any = (), plugin: str = "static", **environ: Any) -> Case:
    """A request that reaches no plugin, or a plugin that does nothing. `config`: what differs from a valid one, or bytes."""
    valid = {"cniVersion": "1.0.0", "name": "net", "type": plugin, "ipam": static("10.1.0.2/24")}
    given = config if isinstance(config, (bytes, list)) else {**valid, **(config or {})}
    steps = (verb,) if verb is not None else ()
    return Case(f"protocol-{name}", plugin, given, environ, "", tuple(differs), steps=steps)


PLUGINS = ("bridge", "ptp", "loopback", "host-local", "static")
REQUIRED = ("container_id", "netns", "ifname", "CNI_PATH")
GARBAGE = {
    "empty": b"",
    "space": b" \n",
    "text": b"nonsense",
    "cut": b'{"name": "net"',
    "trailing": b'{"cniVersion": "1.0.0", "name": "net"} x',
    "nan": b'{"cniVersion": "1.0.0", "name": NaN}',
    "list": b"[]",
    "string": b'"x"',
    "number": b"1",
    "comma": b'{"name": "net",}',
    "deep": b"[" * 20000,
    "single-quotes": b"{'name': 'net'}",
}

PROTOCOL = [
    *(ask(f"version-of-{each}", "VERSION", plugin=each, differs=["spec 1.1"]) for each in PLUGINS),
    ask("version-bare", "VERSION", b"", ["spec 1.1"], container_id=None, netns=None, ifname=None, CNI_PATH=None),
    *(ask(f"bare-run-of-{each}", None, plugin=each) for each in PLUGINS),
    # --- variables
    *(ask(f"{verb}-without-{each}", verb, **{each: None}) for verb in ("ADD", "CHECK", "DEL") for each in REQUIRED),
    *(ask(f"empty-{each}", "ADD", **{each: ""}) for each in REQUIRED),
    ask("without-all", "ADD", container_id=None, netns=None, ifname=None, CNI_PATH=None),
    *(ask(f"unknown-command-{each}", each) for each in ("add", "UPDATE", "ADD ")),
    ask("GC-in-1.0.0", "GC", differs=["spec 1.1"]),
    ask("STATUS-in-1.0.0", "STATUS", differs=["spec 1.1"]),
    ask("unknown-command-alone", "UPDATE", container_id=None, differs=["order of tests"]),
    *(ask(f"container-id-{number}", "ADD", container_id=each) for number, each in enumerate(("-x", "a b", "a/b", "..", "ä", ".a", "a\n", "a" * 300))),
    *(ask(f"good-container-id-{number}", "ADD", container_id=each) for number, each in enumerate(("a", "0", "A_b.c-d", "a" * 128))),
    *(ask(f"ifname-{number}", "ADD", ifname=each) for number, each in enumerate((".", "..", "a/b", "a:b", "a b", "a" * 16, "a\tb", "ä" * 8, "a\u00a0b"))),
    *(ask(f"good-ifname-{number}", "ADD", ifname=each) for number, each in enumerate(("a", "a" * 15, "ä" * 7, "a.b", "-"))),
    ask("lease-as-container-id", "ADD", container_id="c1\r\neth0", differs=["ID from a lease"]),
    # --- configuration
    *(ask(f"json-{name}", "ADD", each) for name, each in GARBAGE.items()),
    ask("json-null", "ADD", b"null", ["null is no configuration"]),
    ask("json-bom", "ADD", b'\xef\xbb\xbf{"cniVersion": "1.0.0", "name": "net"}'),
    ask("json-null-name", "ADD", {"name": None}),
    ask("name-empty", "ADD", {"name": ""}),
    ask("name-number", "ADD", {"name": 1}),
    *(ask(f"name-{number}", "ADD", {"name": each}) for number, each in enumerate(("a b", "-a", "a/b", ".a", "ä", "a\n"))),
    *(ask(f"good-name-{number}", "ADD", {"name": each}) for number, each in enumerate(("a", "0", "A_b.c-d", "a" * 200))),
    ask("no-type", "ADD", {"type": None}),
    ask("name-twice", "ADD", b'{"cniVersion": "1.0.0", "name": 1, "name": "net", "ipam": {}}', ["last of two keys"]),
    ask("name-other-case", "ADD", b'{"CNIVERSION": "1.0.0", "Name": "net", "ipam": {}}'),
    # --- versions
    *(ask(f"version-{number}", "ADD", {"cniVersion": each}) for number, each in enumerate(("", "0.0.9", "1.0", "2.0.0", "x", "1.0.0.0", "0.3", "v1.0.0"))),
    ask("version-null", "ADD", {"cniVersion": None}),
    ask("version-number", "ADD", {"cniVersion": 1}),
    *(ask(f"check-version-{number}", "CHECK", {"cniVersion": each}) for number, each in enumerate(("0.1.0", "0.3.1", "", "1.0", "2.0.0", "0.3.9"))),
    ask("check-version-garbled", "CHECK", {"cniVersion": "x"}),
    ask("check-version-four-parts", "CHECK", {"cniVersion": "1.0.0.0"}),
    ask("del-version-unknown", "DEL", {"cniVersion": "2.0.0"}),
    # --- prevResult
    ask("previous-other-family", "CHECK", {"prevResult": {"cniVersion": "0.4.0", "ips": []}}, ["decoding code"]),
    ask("previous-no-object", "CHECK", {"prevResult": "x"}, ["decoding code"]),
    ask("previous-garbled", "CHECK", {"prevResult": {"cniVersion": "1.0.0", "ips": "x"}}, ["decoding code"]),
    ask("previous-without-version", "CHECK", {"prevResult": {"ips": [{"address": "10.1.0.2/24"}]}}),
    ask("previous-null", "CHECK", {"prevResult": None}, ["config code"]),
]
