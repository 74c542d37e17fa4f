"""The speed that `spatialme doctor` promises: the packaged 720p clip converted for a few seconds."""

from __future__ import annotations

from spatialme import weights
from spatialme.doctor_checks import Finding
from spatialme.errors import SpatialmeError
from spatialme.estimate import duration_text, measure_cost
from spatialme.pipeline import Converter
from spatialme.settings import ConverterSettings, Quality
from spatialme.video.reader import open_source
from spatialme.video.writer import OutputOptions

CLIP = weights.PACKAGED / "dog.mp4"  # 1280x720
FILM_SECONDS, FILM_RATE = 2 * 60 * 60, 24
QUALITIES: tuple[Quality, ...] = ("draft", "fast")


def check_speed(device: str) -> list[Finding]:
    """Frames per second of a conversion with its decoding and encoding, and what that means for a film.

    The depth network is one that is here: `tiny` on a CPU, Depth Anything V2 Small on a GPU if it has been fetched.
    """
    found: list[Finding] = []
    depth = None
    for quality in QUALITIES:
        subject = f"speed of {quality}"
        try:
            converter = Converter(
                ConverterSettings(quality=quality, depth=_depth_here(device), device=device), depth=depth
            )
            depth = converter.depth
            cost = measure_cost(lambda: open_source(CLIP), converter, OutputOptions())
        except SpatialmeError as error:
            found.append(Finding("broken", subject, " ".join(str(error).split())))
            break
        film = duration_text(FILM_SECONDS * FILM_RATE * cost.seconds_per_frame)
        text = f"about {1 / cost.seconds_per_frame:.1f} fps at 1280x720, a film of two hours in {film}"
        conditions = f"{converter.device.type}, --depth {depth.name}, {cost.frames} frames measured just now"
        found.append(Finding("ok", subject, f"{text} ({conditions})"))
    return found


def _depth_here(device: str) -> str:
    import torch

    gpu = device.startswith("cuda") or (device == "auto" and torch.cuda.is_available())
    return "depth-anything-v2-small" if gpu and weights.find("depth-anything-v2-small") else "tiny"
