"""Where we differ from Debian's plugins on purpose: all of it, each with its reason. Any other difference is a failure.

Debian 12 has release 1.1.1 of the reference; we follow its newest one (1.9.1). Paths are as sides.py makes them:
"after ADD: host: sysctl ipv6/conf/veth-1/accept_dad", "CHECK: code".
"""

from __future__ import annotations

from collections.abc import Callable

from tests.differential.sides import ABSENT, Case, Difference, State, compare


def from_to(go: str, ours: str) -> Callable[[str, str], bool]:
    return lambda *values: values == (go, ours)


# Wherever they appear.
EVERYWHERE = [
    Difference(
        "txqueuelen",
        "1.1.1 sets a queue length of 0 on veths, which makes queueing disciplines drop; 1.6.0 leaves the kernel's",
        r"link (veth-\d|eth\d) txqlen$",
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
        r"host: sysctl ipv6/conf/(veth-\d|cni0|br1)/accept_dad$",
        from_to("1", "0"),
    ),
    Difference(
        "keep_addr_on_down",
        "1.7.0: IPv6 addresses survive the interface going down",
        r"in c1: sysctl ipv6/conf/eth\d/keep_addr_on_down$",
        from_to("0", "1"),
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
        "vlan code",
        "until VLANs come, the option is not supported: code 2",
        r"^ADD: code$",
        from_to("999", "2"),
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
    "two gateways": "it gives the bridge the first gateway's address, and then finds that in the way of the second's",
    "two addresses, one gateway": "it gives the host's end the same address twice",
    "same route twice": "it adds a route that is already there",
    "host bits of a route": "it gives the kernel a destination with host bits, which the kernel refuses",
    "IPv4-mapped subnet": "it counts the prefix of ::ffff:10.1.0.0/120 in bits of an IPv4 address",
    "MAC and IP in CNI_ARGS": "bridge refuses host-local's key, and host-local bridge's; both read the same variable",
}

# Where the reference gives a result that cannot be right; ours refuses the configuration, and leaves nothing.
REFUSED = {
    "gateway of the other family": "its result has an IPv6 gateway for an IPv4 address",
    "route without a destination": 'its result has the destination "<nil>"',
}


def judge(case: Case, go: State, ours: State) -> None:
    """Fail unless both sides show the same, but for what is accepted, and the case's named differences are there."""
    assert set(case.differs) <= {each.name for each in NAMED} | REFERENCE_FAILS.keys() | REFUSED.keys()
    if REFUSED.keys() & set(case.differs):
        assert (go["ADD: status"], ours["ADD: code"], ours["DEL: status"]) == ("0", "7", "0")
        return
    if REFERENCE_FAILS.keys() & set(case.differs):
        assert go["ADD: status"] == "1"
        failed = {path: code for path, code in ours.items() if path.endswith(": status") and code != "0"}
        assert not failed, f"ours fails as well: {failed}"
        return
    used: set[str] = set()
    lines = compare(go, ours, [*EVERYWHERE, *(each for each in NAMED if each.name in case.differs)], used)
    assert not lines, "\n" + "\n".join(lines)
    assert set(case.differs) <= used, f"no difference any more: {set(case.differs) - used}"
