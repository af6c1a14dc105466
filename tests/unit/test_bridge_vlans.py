"""bridge's options `vlan` and `vlanTrunk`: what they mean, and what is wrong with them."""

from __future__ import annotations

from typing import Any

import pytest

from cnibox.host.vlans import NATIVE, TAGGED, ranges
from cnibox.plugins.main.bridge import Bridge
from cnibox.spec.errors import CniError
from cnibox.spec.options import Values
from cnibox.spec.request import Request
from cnibox.wiring.vlans import membership


def parsed(**options: Any) -> Values:
    config = {"cniVersion": "1.1.0", "name": "net", "type": "bridge", **options}
    return Bridge.options.parse(Request("ADD", config=config))


def meaning(**options: Any) -> list[tuple[int, int, int]]:
    option = parsed(**options)
    return ranges(membership(option.vlan, option.vlanTrunk or []))


@pytest.mark.parametrize(
    "options, expected",
    [
        ({}, []),
        ({"vlan": 0}, []),
        ({"vlan": None, "vlanTrunk": None}, []),
        ({"vlan": 5}, [(5, 5, NATIVE)]),
        ({"vlan": 4094}, [(4094, 4094, NATIVE)]),
        ({"vlanTrunk": []}, []),
        ({"vlanTrunk": [{}]}, []),
        ({"vlanTrunk": [{"id": 10}]}, [(1, 1, NATIVE), (10, 10, TAGGED)]),
        ({"vlanTrunk": [{"minID": 10, "maxID": 10}]}, [(1, 1, NATIVE), (10, 10, TAGGED)]),
        (
            {"vlanTrunk": [{"minID": 20, "maxID": 30, "id": 5}, {"id": 31}, {"minID": 25, "maxID": 28}, {"id": 33}]},
            [(1, 1, NATIVE), (5, 5, TAGGED), (20, 31, TAGGED), (33, 33, TAGGED)],
        ),
        ({"vlanTrunk": [{"minID": 1, "maxID": 4094}]}, [(1, 1, NATIVE), (2, 4094, TAGGED)]),
        (
            {"vlan": 12, "vlanTrunk": [{"minID": 10, "maxID": 14}]},
            [(10, 11, TAGGED), (12, 12, NATIVE), (13, 14, TAGGED)],
        ),
        ({"vlan": 5, "vlanTrunk": [{"ID": 10}]}, [(5, 5, NATIVE), (10, 10, TAGGED)]),
    ],
)
def test_meaning(options: dict[str, Any], expected: list[tuple[int, int, int]]) -> None:
    assert meaning(**options) == expected


@pytest.mark.parametrize(
    "options, expected",
    [
        ({"vlan": -1}, 'option "vlan" of bridge: must be a whole number from 0 to 4094, not -1'),
        ({"vlan": 4095}, "from 0 to 4094, not 4095"),
        ({"vlan": "5"}, "from 0 to 4094"),
        ({"vlanTrunk": {"id": 5}}, 'option "vlanTrunk" of bridge: must be a list'),
        ({"vlanTrunk": [5]}, 'option "vlanTrunk[0]" of bridge: must be an object, not 5'),
        (
            {"vlanTrunk": [{"id": 0}]},
            'option "vlanTrunk[0].id" of bridge: must be a whole number from 1 to 4094, not 0',
        ),
        ({"vlanTrunk": [{"id": 1}, {"id": 4095}]}, 'option "vlanTrunk[1].id"'),
        ({"vlanTrunk": [{"minID": 0, "maxID": 5}]}, 'option "vlanTrunk[0].minID"'),
        ({"vlanTrunk": [{"minID": 5, "maxID": 4095}]}, 'option "vlanTrunk[0].maxID"'),
        ({"vlanTrunk": [{"minID": 9, "maxID": 5}]}, 'option "vlanTrunk[0]" of bridge: minID 9 is greater than maxID 5'),
        (
            {"vlanTrunk": [{"id": 3}, {"minID": 9}]},
            'option "vlanTrunk[1]" of bridge: minID and maxID must be given together, maxID is missing',
        ),
        ({"vlanTrunk": [{"maxID": 9, "id": 3}]}, "minID and maxID must be given together, minID is missing"),
        ({"preserveDefaultVlan": 1}, 'option "preserveDefaultVlan" of bridge: must be true or false'),
    ],
)
def test_faults(options: dict[str, Any], expected: str) -> None:
    with pytest.raises(CniError) as caught:
        meaning(**options)
    assert caught.value.code == 7
    assert expected in str(caught.value)


def test_default_vlan_is_not_preserved() -> None:
    assert parsed().preserveDefaultVlan is False
