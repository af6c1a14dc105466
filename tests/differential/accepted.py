"""Where we differ from Debian's plugins on purpose: all of it, each with its reason. Any other difference is a failure.

Debian 12 has release 1.1.1 of the reference; we follow its newest one (1.9.1). Paths are as sides.py makes them:
"after ADD: host: sysctl ipv6/conf/veth-1/accept_dad", "CHECK: code".
"""

from __future__ import annotations

import re
from collections.abc import Callable

from tests.differential.sides import ABSENT, Case, Difference, State, compare


def from_to(go: str, ours: str) -> Callable[[str, str], bool]:
    return lambda *values: values == (go, ours)


# Wherever they appear.
EVERYWHERE = [
    Difference(
        "txqueuelen",
        "1.1.1 sets a queue length of 0 on veths, which makes queueing disciplines drop; 1.6.0 leaves the kernel's",
        r"link (veth-\d|eth\d|cni0\.\d+|red) txqlen$",
        from_to(ABSENT, "1000"),
    ),
    Difference(
        "nodad",
        "addresses that we assign on our own veth and bridge are usable at once; the first IPv6 packet is delivered",
        r": address \S+ [0-9a-f:]+/\d+ nodad$",
        from_to(ABSENT, "true"),
    ),
    Difference(
        "accept_dad",
        "the same for the link-local addresses of the host's interfaces, from which neighbours are asked for",
        r"host: sysctl ipv6/conf/(veth-\d|cni0(\.\d+)?|br1)/accept_dad$",
        from_to("1", "0"),
    ),
    Difference(
        "keep_addr_on_down",
        "1.7.0: IPv6 addresses survive the interface going down",
        r"in c1: sysctl ipv6/conf/eth\d/keep_addr_on_down$",
        from_to("0", "1"),
    ),
    Difference(
        "loopback guard",
        "with a published port, what arrives for 127.0.0.0/8 is dropped: route_localnet alone would let containers in",
        r"host: nft table ip cni_hostport$",
        from_to(ABSENT, "there"),
    ),
    Difference(
        "lease mode",
        "1.4.0: lease files are for root alone",
        r"file \S+/(last_reserved_ip\.\d+|[0-9a-f.:]+)$",
        from_to("-rw-r--r--", "-rw-------"),
    ),
    Difference(
        "lease index",
        "our index of the leases, so that an ADD need not read them all; believed only while nobody else wrote there",
        r"file \S+/\.[a-zA-Z0-9_.-]+\.index( content)?$",
        lambda go, ours: go == ABSENT,
    ),
    Difference(
        "backups' folder",
        "the reference's has no mode by which anybody but root could enter it",
        r"file (tuning|other|other/place)$",
        from_to("drw-------", "drwx------"),
    ),
    Difference(
        "mac at creation",
        "a new bridge has its MAC address from the beginning; the reference's changes with its ports",
        r"host: link (cni0|br1) address$",
        from_to('"00:00:00:00:00:00"', '"random"'),
    ),
]

# Only in the cases that name them.
NAMED = [
    Difference(
        "config code",
        "a configuration that is wrong is code 7 in the specification; the reference says 999",
        r"^(ADD|CHECK|DEL)[^:]*: code$",
        from_to("999", "7"),
    ),
    Difference(
        "hairpin of the container alone",
        "its neighbours keep their addresses where the container's answers to them come by the host (br_netfilter)",
        r"host: ip6?tables nat CNI-DN-\w+ rule",
        lambda go, ours: re.sub(r"-s [0-9a-f.:]+/(24|64) ", "", go) == re.sub(r"-s [0-9a-f.:]+/(32|128) ", "", ours),
    ),
    Difference(
        "CHECK of both families",
        "the reference looks for the rules of either family with the tools of both (1.3.0 does not)",
        r"^CHECK: (status|code)$",
        lambda go, ours: (go, ours) in (("1", "0"), ("999", ABSENT)),
    ),
    Difference(
        "empty tables",
        "the reference's tools make them when they look for rules of a family that is not used",
        r"host: (nft table ip6? nat|ip6?tables nat chain [A-Z]+)$",
        lambda go, ours: (go, ours) in (("there", ABSENT), ("ACCEPT", ABSENT)),
    ),
    Difference("masqAll", "1.2.0: masquerade every source", r"host: ip6?tables nat CNI-DN-\w+ rule"),
    Difference(
        "no rules for a mapping of the other family",
        "the reference's entries lead such a port to a chain in which there is no rule for it",
        r"host: ip6?tables nat (chain CNI-|CNI-|PREROUTING|OUTPUT|POSTROUTING)",
    ),
    Difference("each port once", "an entry need not name it twice", r"host: iptables nat CNI-HOSTPORT-DNAT rule"),
    Difference(
        "names of policies",
        "1.7.0: the comments of what all ingress policies share name both; 1.1.1 knows same-bridge alone",
        r"host: ip6?tables filter (FORWARD|CNI-ISOLATION-STAGE-[12]) rule \d$",
        lambda go, ours: go == ours.replace("same-bridge|isolated", "same-bridge") or ABSENT in (go, ours),
    ),
    Difference(
        "policy ends",
        "the reference leaves a bridge's isolation for ever",
        r"^after DEL again: host: ip6?tables filter CNI-ISOLATION-STAGE-[12] rule [12]$",
        lambda go, ours: go != ABSENT,
    ),
    Difference(
        "rules of each attachment",
        "an address that has rules already gets others, which go with this attachment, and leave the first where they are",
        r"host: ip6?tables filter CNI-FORWARD rule \d$",
    ),
    Difference(
        "linklayer",
        "no table of rates is sent, without which the kernel wants to know of what kind of link the rate is",
        r"host: qdisc #\d$",
        lambda go, ours: go.replace("linklayer unspec", "linklayer ethernet") == ours,
    ),
    Difference(
        "second action",
        "the reference's filter has one more action, which no packet comes to",
        r"host: filter veth-\d #\d+$",
    ),
    Difference(
        "qdiscs stay",
        "the reference's DEL leaves what is at the host's end of the veth pair, and the container's packets go nowhere",
        r"^after DEL( again)?: host: (qdisc|filter veth-\d|link veth-\d qdisc)( #\d+)?$",
    ),
    Difference(
        "CHECK without limits",
        "the reference dies of it (1.9.1 does not)",
        r"^CHECK: (status|code)$",
        lambda go, ours: ours in ("0", ABSENT),
    ),
    Difference(
        "burst beyond 274 s",
        "the kernel counts the time that a burst lasts in 32 bits; the reference lets it overflow, we take the most there is",
        r"host: qdisc #\d$",
    ),
    Difference(
        "CHECK of values",
        "the reference compares spelling, takes IFNAME for a name (1.3.0), and lets nobody else set promiscuous mode",
        r"^CHECK: (status|code)$",
        lambda go, ours: (go, ours) in (("1", "0"), ("999", ABSENT)),
    ),
    Difference(
        "MAC as the kernel writes it",
        "the result has the interface's MAC address as everybody else writes it, not as the configuration does",
        r"^ADD: result interfaces\.\d\.mac$",
    ),
    Difference(
        "txQLen",
        "1.4.0: the length of the transmit queue",
        r"(in c1: link eth0 txqlen|file tuning\S* content|file tuning/c1_eth0.json|file tuning)$",
    ),
    Difference(
        "sysctls are put back",
        "the reference leaves them, whoever uses the namespace or the interface next",
        r"^after DEL( again)?: in c1: sysctl ",
    ),
    Difference(
        "DEL brings back",
        "the interface has its routes and addresses again; the reference's DEL leaves sbr's tables, and the main one empty",
        r"^after DEL again: in c1: (route|address) ",
    ),
    Difference(
        "routes of a VRF",
        "1.4.0: what the interface routes through gateways gets into the VRF's table; 1.1.1 loses it",
        r"^after ADD: in c1: route \d+ default ",
        lambda go, ours: go == ABSENT,
    ),
    Difference(
        "routes of the other IP version",
        "the reference moves them to the table of an address of this one, where no rule leads them to",
        r"^after ADD: in c1: route (main|10\d) f[de]\d\d::/64 ",
        lambda go, ours: ABSENT in (go, ours),
    ),
    Difference(
        "used table",
        "a table with somebody else's routes is not taken; the reference means to look at them, and sees the main table's",
        r"^after ADD: in c1: (route|rule) ",
        lambda go, ours: ABSENT in (go, ours),
    ),
    Difference(
        "lost route",
        "one outside the address's subnet, or a second to the same destination, which the reference deletes",
        r"^after ADD: in c1: route 100 10\.[89]\.0\.0/16 ",
    ),
    Difference(
        "administrator's VRF",
        "one that was there before the container's first ADD stays; the reference's DEL deletes whatever has no port",
        r"^after DEL again: in c1: ",
        lambda go, ours: go == ABSENT,
    ),
    Difference(
        "environment code",
        "a wrong CNI_ARGS is code 4 in the specification",
        r"^(ADD|CHECK)[^:]*: code$",
        from_to("999", "4"),
    ),
    Difference(
        "decoding code",
        "a result that cannot be decoded, a delegate's or the previous one, is code 6 in the specification",
        r"^(ADD|CHECK): code$",
        from_to("999", "6"),
    ),
    Difference(
        "netns code",
        "a namespace that is not there is code 8, which the reference's library has since 1.2.0",
        r"^(ADD|CHECK)[^:]*: code$",
        from_to("999", "8"),
    ),
    Difference(
        "left VLAN 1",
        "1.8.0: a port is in no other VLAN than its own; 1.1.1 leaves it in the bridge's default VLAN, too",
        r"host: vlan veth-\d 1$",
        from_to('["Egress Untagged"]', ABSENT),
    ),
    Difference(
        "advertisements in a VLAN",
        "no more than through the bridge itself may a container configure the host there (CVE-2020-10749)",
        r"host: sysctl ipv6/conf/cni0\.5/accept_ra$",
        from_to("1", "0"),
    ),
    Difference(
        "begins to filter",
        "an existing bridge that does not filter VLANs would not separate them; the reference leaves it so",
        r"host: link cni0 linkinfo info_data vlan_filtering$",
        from_to("0", "1"),
    ),
    Difference(
        "alias of a device given back",
        "1.6.0: on the host it has none; 1.1.1 leaves its name there",
        r"^after DEL again: host: link \w+ ifalias$",
        lambda go, ours: ours == ABSENT,
    ),
    Difference(
        "address of a device is announced",
        "as the reference does for its other interfaces: another container may have had the address until now",
        r"^after ADD: in c1: sysctl ipv[46]/conf/eth0/(arp|ndisc)_notify$",
        from_to("0", "1"),
    ),
    Difference(
        "given back as it was",
        "a device that was up on the host is up there again; the reference does not know what it was",
        r"^after DEL again: host: ((link|address|route) .*\b[ab]0\b|qdisc #\d)",
    ),
    Difference(
        "DEL is total",
        "what has become of the configuration since ADD must not keep an attachment or a lease alive for ever",
        r"^DEL[^:]*: (status|code)$",
        lambda go, ours: (go, ours) in (("1", "0"), ("999", ABSENT)),
    ),
    Difference(
        "CHECK without ipam",
        "the reference asks an IPAM plugin without a name, and CHECK of a bridge without ipam always fails",
        r"^CHECK: (status|code)$",
        lambda go, ours: (go, ours) in (("1", "0"), ("999", ABSENT)),
    ),
    Difference(
        "CHECK of routes",
        "the reference does not find a route whose gateway ADD itself has filled in (1.3.0), several ways to one "
        "destination, or the network of a /32 address",
        r"^CHECK: (status|code)$",
        lambda go, ours: (go, ours) in (("1", "0"), ("999", ABSENT)),
    ),
    Difference(
        "IPAM's dns",
        "1.2.0: what IPAM says of DNS is passed on if the configuration says nothing",
        r"^ADD: result dns\.",
        lambda go, ours: go == ABSENT,
    ),
    Difference(
        "ndisc_notify",
        "1.4.0: IPv6 neighbours are told of the new address; by us of a VLAN's, too",
        r"in c1: sysctl ipv6/conf/eth0/ndisc_notify$",
        from_to("0", "1"),
    ),
    Difference(
        "arp_notify",
        "of a VLAN's address as of a macvlan's: another container may have had it a moment ago",
        r"in c1: sysctl ipv4/conf/eth0/arp_notify$",
        from_to("0", "1"),
    ),
    Difference(
        "CHECK of a default master",
        "the reference does not remember which it was, and looks for an interface without a name",
        r"^CHECK: (status|code)$",
        lambda go, ours: (go, ours) in (("1", "0"), ("999", ABSENT)),
    ),
    Difference(
        "mac in passthru mode",
        "the kernel gives the link its parent's address, and the reference leaves it so: we set the one asked for",
        r"( link (eth0|up0|up1) address|result interfaces\.0\.mac)$",
    ),
    Difference(
        "ACCEPT before MASQUERADE",
        "with two addresses the reference masquerades what the second one sends inside its own subnet",
        r"^after ADD: host: ip6?tables nat CNI-[0-9a-f]+ rule [23]$",
    ),
    Difference(
        "DEL of two addresses",
        "the reference tries to delete the chain while the second address still leads there, and leaves both",
        r"^(DEL: (status|code)$|after DEL again: host: ip6?tables nat (POSTROUTING rule 1|chain CNI-))",
        lambda go, ours: ours in ("0", ABSENT),
    ),
    Difference(
        "loopback's versions",
        "the reference stamps its 1.0.0 result with an older version, and does not convert it",
        r"^ADD: result (interfaces|ips|ip4|ip6)\.",
    ),
    Difference(
        "spec 1.1",
        "1.1.1 knows the specification up to 1.0.0, and so neither GC nor STATUS",
        r"^(VERSION: result (cniVersion|supportedVersions\.6)|(GC|STATUS): code)$",
        lambda go, ours: (go, ours) in (('"1.0.0"', '"1.1.0"'), (ABSENT, '"1.1.0"'), ("4", "1")),
    ),
    Difference(
        "order of tests",
        "library 1.1.2 looks at the container ID before the command; newer ones do not, if the command needs none",
        r"^UPDATE: code$",
        from_to("3", "4"),
    ),
    Difference(
        "ID from a lease",
        "CNI_CONTAINERID=$(cat LEASE), as tutorials have it, means the ID in front of the line's end",
        r"^ADD: ",
        lambda go, ours: go in ("1", "4", ABSENT) and ours != "1",
    ),
    Difference(
        "null is no configuration",
        "the reference takes null for a configuration without a name",
        r"^ADD: code$",
        from_to("7", "6"),
    ),
    Difference(
        "last of two keys",
        "the reference wants each of them to be of the right type; we look at the last, which is what counts",
        r"^ADD: ",
    ),
    Difference(
        "CHECK of static",
        "the reference does not notice that a configured address is not there at all",
        r"^CHECK: (status|code)$",
        lambda go, ours: (go, ours) in (("0", "1"), (ABSENT, "999")),
    ),
    Difference(
        "no folder before it is needed",
        "the reference makes the network's lease folder even for a DEL or CHECK, or before an ADD that fails",
        r"file networks/[a-z-]+(/lock( content)?)?$",
        lambda go, ours: ours == ABSENT,
    ),
    Difference(
        "all or nothing",
        "an ADD that cannot have all of its addresses takes none, and does not move the round robin on",
        r"file \S+/last_reserved_ip\.0( content)?$",
    ),
    Difference(
        "files that are no leases",
        "the reference's DEL removes any file with the container's ID in it, whatever its name",
        r"^after DEL: file networks/lease-other-files/README( content)?$",
        lambda go, ours: go == ABSENT,
    ),
    Difference(
        "last_reserved_ip with a newline",
        "an administrator who writes that file with echo means that address",
        r"10\.1\.0\.[25]|result ips\.0\.address|last_reserved_ip\.0 content",
    ),
]

# Where the reference cannot do a thing and we can. Their cases show that our ADD, CHECK and DEL succeed.
REFERENCE_FAILS = {
    "isolated": "1.7.0: 1.1.1 does not know the policy",
    "two gateways": "it gives the bridge the first gateway's address, and then finds that in the way of the second's",
    "two addresses, one gateway": "it gives the host's end the same address twice",
    "same route twice": "it adds a route that is already there",
    "linkInContainer": "1.3.0: 1.1.1 does not know the option, and looks for the parent on the host",
    "vlan without IPAM": "it asks an IPAM plugin without a name; macvlan allows for that",
    "host bits of a route": "it gives the kernel a destination with host bits, which the kernel refuses",
    "IPv4-mapped subnet": "it counts the prefix of ::ffff:10.1.0.0/120 in bits of an IPv4 address",
    "dots of a name": "it takes each dot of an interface's name for a slash",
    "panic": "it dies of args.cni.sysctl where the configuration has no sysctl itself",
    "MAC and IP in CNI_ARGS": "bridge refuses host-local's key, and host-local bridge's; both read the same variable",
}

# Where the reference gives a result that cannot be right; ours refuses the configuration, and leaves nothing.
REFUSED = {
    "unknown backend": "it takes any word for its own choice, also a misspelt one",
    "gateway of the other family": "its result has an IPv6 gateway for an IPv4 address",
    "MTU of the master": "its ipvlan has an MTU that its master cannot carry",
    "route without a destination": 'its result has the destination "<nil>"',
}


def judge(case: Case, go: State, ours: State) -> None:
    """Fail unless both sides show the same, but for what is accepted, and the case's named differences are there."""
    assert set(case.differs) <= {each.name for each in NAMED} | REFERENCE_FAILS.keys() | REFUSED.keys()
    if REFUSED.keys() & set(case.differs):
        assert (go["ADD: status"], ours["ADD: code"], ours["DEL: status"]) == ("0", "7", "0")
        return
    if REFERENCE_FAILS.keys() & set(case.differs):
        assert go["ADD: status"] in ("1", "2")
        failed = {path: code for path, code in ours.items() if path.endswith(": status") and code != "0"}
        assert not failed, f"ours fails as well: {failed}"
        return
    used: set[str] = set()
    lines = compare(go, ours, [*EVERYWHERE, *(each for each in NAMED if each.name in case.differs)], used)
    assert not lines, "\n" + "\n".join(lines)
    assert set(case.differs) <= used, f"no difference any more: {set(case.differs) - used}"
