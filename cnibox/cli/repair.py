"""`cnibox repair`: put back the rules of living attachments that somebody's reload or flush has taken away."""

from __future__ import annotations

import gc
import sys

import click

from .. import record, registry
from ..host import links
from ..host.namespace import Machine
from ..record import Record
from ..spec.errors import INVALID_CONFIG, IO_FAILURE, CniError
from ..wiring.attachment import AttachmentPlugin, namespace_of
from . import failure, output


@click.command()
@click.option("--quiet", "-q", is_flag=True, help="say nothing when nothing was missing")
def repair(quiet: bool) -> None:
    """Put back the packet filter's rules of living containers.

    `firewall-cmd --reload`, `nft flush ruleset` or `iptables -F` take them away with everything else, and containers
    lose what they had: masquerading, published ports, the firewall's permissions. What each attachment's ADD made is
    on record in /run/cnibox; what is missing of it is put back, in the order in which it was made.
    """
    gc.disable()  # as for a plugin (prelude.start): with 10,000 published ports it takes half of the time
    machine, failures, count = Machine(sys.argv[0]), 0, 0
    everything = record.everything()
    short = output.shortened({each.container_id for each in everything})
    for each in everything:
        who = f"{short[each.container_id]} {each.ifname} (network {each.network}, {each.plugin})"
        try:
            done = repaired(machine, each)
        except Exception as error:  # one garbled record must not keep the others from their rules
            output.complain(f"{who}: {failure.why(error)}")
            failures += 1
            continue
        count += len(done)
        for words in done:
            output.say(f"{who}: {words}")
    if not (quiet or count or failures):
        output.say("nothing was missing" if everything else f"no attachments are on record in {record.ATTACHMENTS}")
    if failures:
        raise click.ClickException(f"{failures} attachment{'s' * (failures > 1)} could not be repaired")


def repaired(machine: Machine, attachment: Record) -> list[str]:
    """What was put back of one attachment; nothing of one whose container is gone."""
    if attachment.plugin not in registry.PLUGINS:
        text = f"this cnibox has no plugin {attachment.plugin}"
        raise CniError(INVALID_CONFIG, text, f"its record is {attachment.path}")
    plugin = registry.load(attachment.plugin)
    if not issubclass(plugin, AttachmentPlugin):
        return []
    lock = record.lock_of(attachment.container_id)
    if lock is None:
        return []
    with lock:  # from here on no ADD and no DEL of the container is under way
        current = attachment.again()
        if current is None or not _is_alive(machine, current):
            return []
        return plugin.repair(machine, current)


def _is_alive(machine: Machine, attachment: Record) -> bool:
    """Whether namespace and interface are there: a Go plugin's DEL takes the interface, and knows of no record."""
    if "namespace" not in attachment.facts:  # each plugin writes it
        advice = "attach the container again, or remove the file if the container is gone"
        raise CniError(IO_FAILURE, f"its record {attachment.path} is garbled, its rules are not known", advice)
    sandbox = namespace_of(machine, attachment)
    if sandbox is None:
        return False
    try:
        return not attachment.facts.get("hasLink", True) or links.find(sandbox, attachment.ifname) is not None
    finally:
        sandbox.close()
