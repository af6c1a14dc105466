"""`cnibox repair`: put back the rules of living attachments that somebody's reload or flush has taken away."""

from __future__ import annotations

import sys

import click

from .. import record, registry
from ..host.journal import HostError
from ..host.namespace import Machine
from ..record import Record
from ..spec.errors import CniError
from ..wiring.attachment import AttachmentPlugin, namespace_of


@click.command()
@click.option("--quiet", "-q", is_flag=True, help="say nothing when nothing was missing")
def repair(quiet: bool) -> None:
    """Put back the packet filter's rules of living containers.

    `firewall-cmd --reload`, `nft flush ruleset` or `iptables -F` take them away with everything else, and containers
    lose what they had: masquerading, published ports, the firewall's permissions. What each attachment's ADD made is
    on record in /run/cnibox; what is missing of it is put back, in the order in which it was made.
    """
    machine, failures, count = Machine(sys.argv[0]), 0, 0
    for found in record.everything():
        who = f"{found.container_id} {found.ifname} (network {found.network}, {found.plugin})"
        try:
            done = repaired(machine, found)
        except (CniError, HostError) as error:
            click.echo(f"{who}: {error}", err=True)
            failures += 1
            continue
        count += len(done)
        for words in done:
            click.echo(f"{who}: {words}")
    if not (quiet or count or failures):
        click.echo("nothing was missing")
    if failures:
        raise click.ClickException(f"{failures} attachment{'s' * (failures > 1)} could not be repaired")


def repaired(machine: Machine, found: Record) -> list[str]:
    """What was put back of one attachment; nothing of one whose container is gone."""
    plugin = registry.load(found.plugin) if found.plugin in registry.PLUGINS else None
    if plugin is None or not issubclass(plugin, AttachmentPlugin):
        return []
    sandbox = namespace_of(machine, found)
    if sandbox is None:
        return []
    sandbox.close()
    with found.lock():  # an ADD or a DEL of the container is under way until we have it
        return plugin.repair(machine, found) if found.is_there() else []
