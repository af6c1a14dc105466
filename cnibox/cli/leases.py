"""`cnibox leases`, `cnibox reclaim`: who holds which address; take back those that no container can have."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec

import click

from ..host.journal import HostError, Journal
from ..spec.errors import CniError
from ..spec.request import is_name
from ..wiring.leases import DATA_DIR, Leases, ago, boot_time, is_garbled

P = ParamSpec("P")
Entry = tuple[str, str, str, float, str]  # address, container ID, interface, when it was made, why it is nobody's

in_data_dir = click.option(
    "--data-dir",
    default=DATA_DIR,
    show_default=True,
    help="the folder of the leases: dataDir in the configuration of host-local",
)


def told(command: Callable[P, None]) -> Callable[P, None]:
    """What goes wrong with leases is for people to read."""

    @wraps(command)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except (CniError, HostError) as error:
            raise click.ClickException(str(error)) from None

    return wrapper


@click.command()
@click.argument("network", required=False)
@in_data_dir
@told
def leases(network: str | None, data_dir: str) -> None:
    """List the addresses that host-local has leased, in NETWORK or in all networks."""
    rows = [("ADDRESS", "NETWORK", "CONTAINER", "INTERFACE", "AGE", "")]
    for name in [network] if network else networks(data_dir):
        with opened(name, data_dir).look() as found:
            for address, container, ifname, made, note in entries(found):
                rows.append((address, name, container or "?", ifname or "?", ago(made), note))
    if len(rows) == 1:
        click.echo(f"no leases in {data_dir}{'/' + network if network else ''}")
        return
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    for row in rows:
        click.echo("  ".join(f"{cell:{width}}" for cell, width in zip(row, [*widths, 0], strict=True)).rstrip())


@click.command()
@click.argument("network")
@in_data_dir
@click.option("--dry-run", is_flag=True, help="only say which")
@told
def reclaim(network: str, data_dir: str, dry_run: bool) -> None:
    """Release the leases of NETWORK that no container can have any more.

    Those made before this boot, which no container outlives, and the garbled ones, which name no container.
    Plugins wait meanwhile.
    """
    found = opened(network, data_dir)
    with found:
        old = [entry for entry in entries(found) if entry[4]]
        for address, container, ifname, made, note in old:
            if not dry_run:
                found.release(address)
            owner = f"container {container} {ifname}".rstrip() if container else "no container"
            verb = "would release" if dry_run else "released"
            click.echo(f"{verb} {address} of {owner}, made {ago(made)} ago: {note}")
        left = len(found.all()) - (len(old) if dry_run else 0)
    click.echo(f"{len(old)} {'to release' if dry_run else 'released'}, {left} left")


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
    """The names of the networks that have leases there."""
    try:
        with os.scandir(data_dir) as folders:
            return sorted(each.name for each in folders if is_name(each.name) and each.is_dir(follow_symlinks=False))
    except OSError as error:
        raise click.ClickException(f"{data_dir}: {error.strerror} (--data-dir says where the leases are)") from None


def entries(found: Leases) -> list[Entry]:
    """Every lease, IPv4 before IPv6, in order."""
    found.reread()
    boot = boot_time()
    result: list[Entry] = []
    for address, owner in found.all():
        made = found.made(address)
        if made is not None:
            note = "garbled" if is_garbled(owner) else "before this boot" if made < boot else ""
            result.append((address, *owner, made, note))
    return sorted(result, key=lambda entry: (":" in entry[0], int(ipaddress.ip_address(entry[0]))))
