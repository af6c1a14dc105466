"""static: which addresses a configuration and its runtime give, and what CHECK sees."""

from __future__ import annotations

from typing import Any

import pytest

from cnibox.host.namespace import Machine
from cnibox.plugins.ipam.static import Static
from cnibox.spec.errors import CniError
from cnibox.spec.request import Request

TWO = [{"address": "10.1.2.3/24", "gateway": "10.1.2.1"}, {"address": "FD00::3/64"}]


def plugin(command: str, ipam: Any, cni_args: str = "", version: str = "1.1.0", **config: Any) -> Static:
    whole = {"cniVersion": version, "name": "net1", "type": "x", "ipam": {"type": "static"} | ipam} | config
    request = Request(
        command, container_id="c1", ifname="eth0", args=cni_args, config=whole, version=version, name="net1"
    )
    machine = Machine("/none")
    machine.host.close()  # no IPAM plugin enters a namespace
    return Static("static", request, machine)


def ips(*arguments: Any, **named: Any) -> list[tuple[str, str]]:
    given = plugin("ADD", *arguments, **named).add().ips
    return [(str(each.address), str(each.gateway or "")) for each in given]


def test_addresses_routes_and_dns() -> None:
    routes = [{"dst": "0.0.0.0/0"}, {"dst": "fd01::1/64", "gw": "fd00::1", "mtu": 1400, "scope": 0}]
    dns = {"nameservers": ["10.0.0.1"], "domain": "d", "search": ["s"], "options": ["o"]}
    result = plugin("ADD", {"addresses": TWO, "routes": routes, "dns": dns}).add()
    assert result.to_object("1.1.0") == {
        "cniVersion": "1.1.0",
        "dns": dns,
        "ips": [{"address": "10.1.2.3/24", "gateway": "10.1.2.1"}, {"address": "fd00::3/64"}],
        "routes": routes,
    }
    assert plugin("ADD", {}).add().to_object("1.0.0") == {"cniVersion": "1.0.0"}


def test_cni_args_add_and_the_others_replace() -> None:
    args = "IP=10.9.0.5/16, 10.8.0.5/16;GATEWAY=10.9.0.1,10.1.2.99;MAC=02:00:00:00:00:01".replace(", ", ",")
    given = [
        ("10.1.2.3/24", "10.1.2.1"),
        ("fd00::3/64", ""),
        ("10.9.0.5/16", "10.9.0.1"),
        ("10.8.0.5/16", ""),
    ]
    assert ips({"addresses": TWO}, args) == given
    named = {"args": {"cni": {"ips": ["10.7.0.5/16"]}}}
    assert ips({"addresses": TWO}, args, **named) == [("10.7.0.5/16", "")]
    runtime = {"runtimeConfig": {"ips": ["10.6.0.5/16", "fd00::6/64"]}}
    assert ips({"addresses": TWO}, args, **named, **runtime) == [("10.6.0.5/16", ""), ("fd00::6/64", "")]


@pytest.mark.parametrize("address", [None, "", "x.x.x.x/24", "$IP", "{{ .Address }}", "10.1.2.<n>/24"])
@pytest.mark.parametrize(
    ("args", "config", "gateways"),
    [
        ("IP=10.9.0.5/16 , fd00::5/64; GATEWAY= fd00::1 ,10.9.0.1".replace("; ", ";"), {}, ("10.9.0.1", "fd00::1")),
        ("", {"args": {"cni": {"ips": ["10.9.0.5/16", "fd00::5/64"]}}}, ("", "")),
        ("", {"runtimeConfig": {"ips": ["10.9.0.5/16", "fd00::5/64"]}}, ("", "")),
    ],
)
def test_placeholders_of_a_template(address: str | None, args: str, config: Any, gateways: tuple[str, str]) -> None:
    """ADD gives the runtime's addresses; STATUS has none; an ADD without them says what is missing."""
    ipam = {"addresses": [{"address": address, "gateway": "$GATEWAY"}]}
    assert ips(ipam, args, **config) == [("10.9.0.5/16", gateways[0]), ("fd00::5/64", gateways[1])]
    plugin("STATUS", ipam).status()
    with pytest.raises(CniError, match=r'"ipam.addresses\[0\].address" of static: there is no address') as caught:
        plugin("ADD", ipam).add()
    assert caught.value.code == 7 and "CNI_ARGS" in caught.value.details


def test_real_addresses_of_a_template_stay_beside_those_of_cni_args() -> None:
    mixed = {"addresses": [*TWO, {"address": "$IP"}]}
    assert [address for address, _ in ips(mixed, "IP=10.9.0.5/16")] == ["10.1.2.3/24", "fd00::3/64", "10.9.0.5/16"]


@pytest.mark.parametrize("gateway", ["$GW", "nonsense", "10.1.2.x"])
def test_a_real_address_has_a_real_gateway_or_none(gateway: str) -> None:
    ipam = {"addresses": [*TWO, {"address": "10.4.0.2/16", "gateway": gateway}]}
    for args in ("", "IP=10.9.0.5/16"):  # CNI_ARGS only adds
        with pytest.raises(CniError, match=r'"ipam.addresses\[2\].gateway" of static: must be an IP address') as caught:
            plugin("ADD", ipam, args).add()
        assert caught.value.code == 7
    assert ips(ipam, runtimeConfig={"ips": ["10.9.0.5/16"]}) == [("10.9.0.5/16", "")]
    assert ips({"addresses": [{"address": "10.4.0.2/16", "gateway": ""}]}) == [("10.4.0.2/16", "")]


WRONG: list[tuple[int, dict[str, Any], str, str]] = [
    (7, {"addresses": [{"address": "10.1.2.3"}]}, "", "ipam.addresses[0].address"),
    (
        7,
        {"addresses": [{"address": "10.1.2.3/24", "gateway": "10.1.2.1/24"}]},
        "",
        "ipam.addresses[0].gateway",
    ),
    (7, {"addresses": [{"address": "10.1.2.3/33"}]}, "", "0 to 32"),
    (4, {}, "IP=10.1.2.3", "IP=10.1.2.3"),
    (4, {}, "IP=10.1.2.3/24;GATEWAY=x", "GATEWAY=x"),
    (4, {}, "WHAT=1", "unknown args"),
    (7, {"routes": [{"gw": "10.0.0.1"}]}, "", "ipam.routes[0].dst"),
]


@pytest.mark.parametrize(("code", "ipam", "args", "text"), WRONG)
def test_wrong_values(code: int, ipam: dict[str, Any], args: str, text: str) -> None:
    for command in ("ADD", "STATUS"):
        with pytest.raises(CniError) as caught:
            plugin(command, ipam, args)
        assert caught.value.code == code and text in str(caught.value)


def test_old_versions_have_one_address_of_each_family() -> None:
    two = {"addresses": [{"address": "10.1.2.3/24"}, {"address": "10.1.2.4/24"}]}
    for verb in ("add", "status"):
        with pytest.raises(CniError, match=r"CNI version 0.2.0 does not support more than 1 address"):
            getattr(plugin("ADD", two, version="0.2.0"), verb)()
    assert len(ips({"addresses": TWO}, version="0.2.0")) == 2
    assert len(ips(two, version="0.3.0")) == 2


def test_check() -> None:
    def check(*given: dict[str, str]) -> None:
        plugin("CHECK", {"addresses": TWO}, prevResult={"cniVersion": "1.1.0", "ips": list(given)}).check()

    right = {"address": "10.1.2.3/24", "gateway": "10.1.2.1"}, {"address": "fd00::3/64"}
    check(*right)
    check({"address": "10.5.5.5/24"}, *right)
    with pytest.raises(CniError, match=r"address fd00::3/64 is configured, but ADD's result does not have it"):
        check(right[0])
    with pytest.raises(CniError, match=r"Failed to match gateway of 10.1.2.3/24: 10.1.2.9 in ADD's result"):
        check({"address": "10.1.2.3/24", "gateway": "10.1.2.9"}, right[1])
    with pytest.raises(CniError, match="prevResult"):
        plugin("CHECK", {"addresses": TWO}).check()


def test_delete_and_gc_have_nothing_to_do_and_nothing_to_complain_of() -> None:
    plugin("DEL", {"addresses": "nonsense"}, "X").delete()
    plugin("GC", {"routes": 5}).gc(set())
