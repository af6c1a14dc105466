"""dummy: addresses in the container that no wire leads to: what is sent there is dropped, what is bound there is local.

{"type": "dummy", "ipam": {"type": "static", "addresses": [{"address": "10.9.9.9/32"}]}}
"""

from __future__ import annotations

from ...host import links
from ...spec import errors
from ...spec.errors import CniError
from ...wiring.link import LinkPlugin


class Dummy(LinkPlugin):
    kind = "dummy"

    def validate(self) -> None:
        super().validate()
        if not self.ipam_name():
            text = "dummy needs an IPAM plugin: without addresses its interface is of no use"
            raise CniError(errors.INVALID_CONFIG, text, 'add "ipam": {"type": "static", ...}')

    def create_link(self) -> None:
        links.create(self.sandbox, self.request.ifname, self.kind, [])
