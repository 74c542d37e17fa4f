"""Several machines share a film through Ray; input and output lie on storage that all of them see."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from spatialme.errors import OptionError, OutputError
from spatialme.film.film import Film
from spatialme.film.produce import Missing
from spatialme.film.stretch import Stretch, convert_stretch
from spatialme.film.workers import ShareOutcome, missing_shares, open_converter, take_note
from spatialme.report import Tally

LOCAL = "local"  # the address that starts a cluster on this machine, for the time of the work
RETRIES = 3  # of a share whose worker or machine died
WAITING_SHARES = 2  # per worker, so that none waits for the scan


@dataclass(frozen=True)
class Cluster:
    """The workers of a Ray cluster; one share at a time takes a GPU, or a processor core where there is none."""

    address: str

    def __call__(self, missing: Missing) -> int:
        """Convert what is missing.

        Raises:
            OptionError: Ray is not installed, or there is no cluster at the address.
            OutputError: A share failed, however often it was tried.
        """
        ray = _import_ray()
        try:
            ray.init(address=None if self.address == LOCAL else self.address, log_to_driver=False)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise OptionError(
                f"no Ray cluster at {self.address} ({_first_line(error)}); start one, or use {LOCAL}"
            ) from error
        try:
            return _share_out(ray, missing)
        except ray.exceptions.RayTaskError as error:
            raise OutputError(f"a worker failed: {_last_line(error)}") from error
        except ray.exceptions.RayError as error:
            raise OutputError(f"the Ray cluster failed ({_first_line(error)}); the same command tries again") from error
        finally:
            ray.shutdown()


def _share_out(ray: Any, missing: Missing) -> int:
    kind = missing.converter.device.type
    resources = {"num_gpus": 1} if kind == "cuda" else {"num_cpus": 1}
    workers = int(ray.cluster_resources().get("GPU" if kind == "cuda" else "CPU", 1))
    convert = ray.remote(max_retries=RETRIES, **resources)(convert_share)
    film, device = ray.put(missing.film), kind
    stretches = missing_shares(missing)
    pending: list[Any] = []
    made = 0
    while True:
        stretch = next(stretches, None) if len(pending) < WAITING_SHARES * workers else None
        if stretch is not None:
            pending.append(convert.remote(film, stretch, device))
            continue
        if not pending:
            return made
        done, pending = ray.wait(pending)
        for outcome in ray.get(done):
            made += take_note(missing, outcome)


def convert_share(film: Film, stretch: Stretch, device: str) -> ShareOutcome:
    """Convert one share in a worker of the cluster, on the device that Ray shows to it."""
    film = replace(film, settings=replace(film.settings, device=device))
    converter = open_converter(film.settings)
    tally = Tally()
    frames: list[int] = []
    outcome = convert_stretch(film, converter, stretch, tally, on_frames=frames.append)
    return ShareOutcome(outcome.segments, sum(frames), tally.parts())


def _import_ray() -> Any:
    try:
        import ray
    except ImportError:
        raise OptionError("--ray needs Ray; install it with: pip install 'spatialme[ray]'") from None
    return ray


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0]


def _last_line(error: BaseException) -> str:
    return str(error).strip().rpartition("\n")[2]
