"""What a user can choose about the picture, and what the choices mean; light enough for `--help`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from spatialme.errors import OptionError
from spatialme.weights import Licence

Eye = Literal["left", "right", "both"]
Quality = Literal["auto", "draft", "fast", "full"]
Engine = Literal["auto", "propagation", "propainter"]
BranchName = Literal["refined", "poly", "propagation", "expansion", "propainter", "propainter_expansion"]
RefineMode = Literal["holes", "everywhere"]

# engine of the DL and DE branches -> (DL branch, DE branch)
ENGINES: dict[str, tuple[BranchName, BranchName]] = {
    "propagation": ("propagation", "expansion"),
    "propainter": ("propainter", "propainter_expansion"),
}


@dataclass(frozen=True)
class ConverterSettings:
    """How frames become stereo pairs; see `spatialme convert --help` for what each option does."""

    max_disparity: float = 2.5  # percent of the width
    convergence: float | Literal["auto"] = 0.5  # nearness on the screen plane
    eye: Eye = "left"  # which eye the input is
    depth: str = "auto"  # estimator's name, or a depth video
    depth_size: int | None = None  # short side of the depth network's input; None = the network's own
    quality: Quality = "auto"
    inpaint: Engine = "auto"
    branch: BranchName = "refined"
    refine: RefineMode = "holes"
    refiner: str | None = None  # weights: a name, a file, or blend; None: the packaged default
    licence: Licence = "any"  # commercial refuses weights that forbid commercial use
    device: str = "auto"
    max_vram: float | None = None  # GB of GPU memory; None: all there is
    compile: bool = False  # networks run through torch.compile

    def __post_init__(self) -> None:
        if self.max_vram is not None and not self.max_vram > 0:
            raise OptionError(f"--max-vram {self.max_vram:g} is not an amount of memory; give gigabytes, such as 6")


@dataclass(frozen=True)
class BranchPlan:
    """Which branches run, in the refiner's order (poly, DL, DE), and what becomes of them."""

    names: tuple[BranchName, ...]
    refined: bool  # fused by the refiner; else the only branch is written as it is


def plan_branches(settings: ConverterSettings, *, propainter_ready: bool, gpu: bool) -> BranchPlan:
    """Settle quality, engine and branch into the branches to run.

    Args:
        settings: The user's choices.
        propainter_ready: ProPainter's weights are on this machine and allowed.
        gpu: A GPU computes; without one, ``auto`` never chooses ProPainter.

    Raises:
        OptionError: Two choices contradict each other.
    """
    if settings.refiner is not None and (settings.branch != "refined" or settings.quality == "draft"):
        chosen = f"--branch {settings.branch}" if settings.branch != "refined" else "--quality draft"
        raise OptionError(
            f"--refiner {settings.refiner} has no use with {chosen}, which runs no refiner; leave one out"
        )
    if settings.branch != "refined":
        return BranchPlan((settings.branch,), refined=False)
    if settings.quality == "draft":
        if settings.inpaint != "auto":
            raise OptionError(
                f"--inpaint {settings.inpaint} has no use with --quality draft, which runs the poly branch alone; "
                "use --quality fast or full"
            )
        return BranchPlan(("poly",), refined=False)
    engine = settings.inpaint
    if engine == "auto":
        wanted = settings.quality == "full" or (settings.quality == "auto" and gpu and propainter_ready)
        engine = "propainter" if wanted else "propagation"
    return BranchPlan(("poly", *ENGINES[engine]), refined=True)
