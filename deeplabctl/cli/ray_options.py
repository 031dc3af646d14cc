"""Define the options of infer that spread images over a Ray cluster."""

from __future__ import annotations

import os
import re
from importlib.util import find_spec
from typing import TYPE_CHECKING, Annotated

import typer

from deeplabctl.errors import DeepLabError

if TYPE_CHECKING:
    from deeplabctl.prediction.ray_cluster import RayRequest


def _checked_address(address: str | None) -> str | None:
    if address and not re.fullmatch(r"local|auto|(ray://)?[^\s/]+:\d+", address):
        raise typer.BadParameter(
            f"expected local, auto, HOST:PORT, ray://HOST:PORT, or nothing behind it, got {address!r}; "
            "put inputs before --ray"
        )
    return address


RayOption = Annotated[
    str | None,
    typer.Option(
        "--ray",
        metavar="[ADDRESS]",
        callback=_checked_address,
        help="Spread the images over a Ray cluster: auto, HOST:PORT or ray://HOST:PORT; local starts Ray on this "
        "machine. Without an address: $RAY_ADDRESS, else local.",
        rich_help_panel="Cluster",
    ),
]
RayWorkersOption = Annotated[
    int | None,
    typer.Option(
        "--ray-workers",
        metavar="N",
        min=1,
        help="Networks in the cluster, which divide its CPUs. Default: one for each machine, or for each GPU.",
        rich_help_panel="Cluster",
    ),
]


def read_ray(address: str | None, workers: int | None) -> RayRequest | None:
    """Return what the options ask for; a usage error if one needs the other, DeepLabError without the package."""
    if address is None:
        if workers is not None:
            raise typer.BadParameter("requires --ray", param_hint="--ray-workers")
        return None
    if find_spec("ray") is None:
        raise DeepLabError("`ray` needs the package ray: pip install 'deeplabctl[ray]'")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", ".*")  # it would print warnings on stdout; its logs have them
    from deeplabctl.prediction.ray_cluster import RayRequest

    return RayRequest(address or os.environ.get("RAY_ADDRESS") or "local", workers)
