"""`spatialme refine-maps`: what the refiner does with one frame, as one picture (the paper's figure 7)."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from spatialme.errors import OptionError
from spatialme.settings import Engine, RefineMode
from spatialme.weights import Licence

if TYPE_CHECKING:
    from torch import Tensor

    from spatialme.pipeline import Converter
    from spatialme.refine import Refiner
    from spatialme.refine.mhfu import MHFUOutput
    from spatialme.types import WarpedClip


def refine_maps(
    input: str | Path,
    output: str | Path,
    *,
    start: str | float | None = None,
    max_disparity: float = 2.5,
    depth: str = "auto",
    inpaint: Engine = "propagation",
    refiner: str | None = None,
    licence: Licence = "any",
    device: str = "auto",
) -> str:
    """Show how the refiner fuses the branches of one frame: masks M1, M2 and M3, and the content C.

    Args:
        input: A video, an image or an image sequence.
        output: The picture to make, a .png.
        start: Which frame: seconds or [hh:]mm:ss; the first when not given.
        max_disparity: Depth budget in percent of the picture's width.
        depth: As in convert.
        inpaint: Engine of the two video-inpainting branches.
        refiner: Weights of the refiner to show, as in convert.
        licence: As in convert.
        device: auto, cpu, cuda or cuda:N.

    Returns:
        What the picture shows, in order.

    Raises:
        SpatialmeError: The input cannot be read, or the picture not written; one line says why.
    """
    import numpy as np

    from spatialme.conversion import parse_seconds
    from spatialme.pipeline import Converter
    from spatialme.preview_sheet import write_png
    from spatialme.refine.panels import draw_panels
    from spatialme.settings import ConverterSettings
    from spatialme.shots import to_arrays

    picture = Path(output)
    if picture.suffix.lower() != ".png":
        raise OptionError(f"OUTPUT {picture} is the picture of the maps; give a name that ends with .png")
    settings = ConverterSettings(
        max_disparity=max_disparity,
        depth=depth,
        quality="fast",
        inpaint=inpaint,
        refiner=refiner,
        licence=licence,
        device=device,
    )
    seen = look(Converter(settings), Path(input), parse_seconds("--start", start))
    panels = draw_panels([seen.left, *seen.branches, seen.hole, *seen.answer])
    write_png(picture, to_arrays(panels[None], np.uint8)[0])
    return f"{picture}: left, poly, expansion, dl, holes; below them refined, M1, M2, M3 and C"


@dataclass(frozen=True)
class Seen:
    """One frame at the refiner."""

    left: Tensor  # (1, 3, H, W)
    branches: tuple[Tensor, Tensor, Tensor]  # poly, expansion, dl; (1, 3, H, W) each
    hole: Tensor  # (1, 1, H, W) bool
    answer: MHFUOutput


class Onlooker:
    """Stands in a converter's refiner's place and keeps what the first frame was."""

    def __init__(self, refiner: Refiner):
        self.network, self.trained = refiner.network, refiner.trained
        self.seen: Seen | None = None

    def __call__(self, warped: WarpedClip, *, poly: Tensor, expansion: Tensor, dl: Tensor, mode: RefineMode) -> Tensor:
        """Fuse the first frame and keep everything; what is returned nobody looks at."""
        if self.seen is None:
            from spatialme.levels import to_colours

            branches, hole = (poly[:1], expansion[:1], dl[:1]), warped.hole[:1]
            self.seen = Seen(to_colours(warped.clip.frames[:1]), branches, hole, self.network(*branches, hole))
        return poly


def look(converter: Converter, path: Path, start_seconds: float | None) -> Seen:
    """Run a converter on a file until its first frame has come to the refiner.

    Raises:
        InputError: The file cannot be read, or has no frame there.
    """
    from spatialme.shots import tag_shots
    from spatialme.video.picture import Picture
    from spatialme.video.reader import open_source

    assert converter.refiner is not None
    onlooker = Onlooker(converter.refiner)
    converter.refiner = onlooker  # type: ignore[assignment]
    with closing(open_source(path, start_seconds=start_seconds)) as source:
        clips = tag_shots(source, Picture.rgb, clip_length=1, device=converter.device)
        next(converter.stereo(clips))
    assert onlooker.seen is not None
    return onlooker.seen
