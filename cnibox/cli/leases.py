"""`cnibox leases`, `cnibox reclaim`: who holds which address; take back those that no container can have."""

from __future__ import annotations

import ipaddress
import os

import click

from ..host.journal import Journal
from ..spec.request import is_name
from ..wiring.leases import DATA_DIR, Leases, ago, is_garbled
from ..wiring.leases.stale import boot_time, is_stale
from . import output

Entry = tuple[str, str, str, float, str]  # address, container ID, interface, when it was made, why it is nobody's

in_data_dir = click.option(
    "--data-dir",
    default=DATA_DIR,
    show_default=True,
    help="the folder of the leases: dataDir in the configuration of host-local",
)


@click.command()
@click.argument("network", required=False)
@in_data_dir
def leases(network: str | None, data_dir: str) -> None:
    """List the addresses that host-local has leased.

    In NETWORK, or in all networks.
    """
    head = ("ADDRESS", "NETWORK", "CONTAINER", "INTERFACE", "AGE", "")
    found = [
        (name, entry)
        for name in ([network] if network else networks(data_dir))
        for entry in listed(opened(name, data_dir))
    ]
    if not found:
        output.say(f"no leases in {data_dir}{'/' + network if network else ''}")
        return
    short = output.shortened({entry[1] for _, entry in found})
    rows = [
        (address, name, short[container] or "?", ifname or "?", ago(made), note)
        for name, (address, container, ifname, made, note) in found
    ]
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(5)]
    for row in (head, *rows):
        output.say("  ".join(f"{cell:{width}}" for cell, width in zip(row, [*widths, 0], strict=True)).rstrip())


@click.command()
@click.argument("network")
@in_data_dir
@click.option("--dry-run", is_flag=True, help="only say which")
def reclaim(network: str, data_dir: str, dry_run: bool) -> None:
    """Release the leases of NETWORK that no container can have any more.

    Those made before this boot, which no container outlives, and the garbled ones, which name no container.
    Plugins wait meanwhile.
    """
    found = opened(network, data_dir)
    with found:
        every = entries(found)
        short = output.shortened({entry[1] for entry in every})
        old = [entry for entry in every if entry[4]]
        for address, container, ifname, made, note in old:
            if not dry_run:
                found.release(address)
            owner = f"container {short[container]} {ifname}".rstrip() if container else "no container"
            verb = "would release" if dry_run else "released"
            output.say(f"{verb} {address} of {owner}, made {ago(made)} ago: {note}")
        left = len(found.all()) - (len(old) if dry_run else 0)
    output.say(f"{len(old)} {'to release' if dry_run else 'released'}, {left} left")


def opened(network: str, data_dir: str) -> Leases:
    """The leases of a network that has some."""
    if not is_name(network):
        raise click.ClickException(f"{network!r} cannot be the name of a network")
    found = Leases(Journal(), network, os.path.abspath(data_dir))
    if not found.exist():
        known = " ".join(networks(data_dir)) or "none"
        raise click.ClickException(f"no leases of network {network} in {data_dir} (there are those of: {known})")
    return found


def networks(data_dir: str) -> list[str]:
    """The names of the networks that have leases there. The usual folder is made by the first lease."""
    try:
        with os.scandir(data_dir) as folders:
            return sorted(each.name for each in folders if is_name(each.name) and each.is_dir(follow_symlinks=False))
    except FileNotFoundError as error:
        if data_dir == DATA_DIR:
            return []
        raise click.ClickException(f"{data_dir}: {error.strerror} (--data-dir says where the leases are)") from None


def listed(found: Leases) -> list[Entry]:
    """Every lease, read without the lock."""
    with found.look():
        return entries(found)


def entries(found: Leases) -> list[Entry]:
    """Every lease, IPv4 before IPv6, in order."""
    found.reread()
    boot = boot_time()
    result: list[Entry] = []
    for address, owner in found.all():
        made = found.made(address)
        if made is not None:
            old = is_stale(found, address, owner, boot)
            note = "garbled" if is_garbled(owner) else "before this boot" if old else ""
            result.append((address, *owner, made, note))
    return sorted(result, key=lambda entry: (":" in entry[0], int(ipaddress.ip_address(entry[0]))))
