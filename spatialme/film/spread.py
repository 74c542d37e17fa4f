"""Which workers share a film, by the options that name them."""

from __future__ import annotations

from spatialme.errors import OptionError
from spatialme.film.cluster import Cluster
from spatialme.film.produce import Spread
from spatialme.film.workers import Processes


def choose_spread(device: str, devices: str | None, ray: str | None) -> Spread | None:
    """The workers that options ask for; None for this process alone.

    Args:
        device: Of a single process.
        devices: One process for each.
        ray: Address of a cluster.

    Raises:
        OptionError: Options that contradict each other, or a nonsense list of devices.
    """
    if devices is None and ray is None:
        return None
    if devices is not None and (ray is not None or device != "auto"):
        other = f"--ray {ray}" if ray is not None else f"--device {device}"
        raise OptionError(f"--devices {devices} contradicts {other}; leave one out")
    return Cluster(ray) if ray is not None else Processes(parse_devices(str(devices)))


def parse_devices(devices: str) -> tuple[str, ...]:
    """The devices of a list such as ``0,1``, ``cpu,cpu`` or ``cuda:0,cuda:2``; a number is a GPU's.

    Raises:
        OptionError: An empty place in the list, or kinds mixed, whose results differ.
    """
    names = [name.strip() for name in devices.split(",")]
    named = tuple(f"cuda:{name}" if name.isdigit() else name for name in names)
    if not all(named) or len({name.partition(":")[0] for name in named}) > 1 or "auto" in named:
        raise OptionError(f"--devices {devices!r} is not a list of like devices; give one such as 0,1 or cpu,cpu")
    return named
