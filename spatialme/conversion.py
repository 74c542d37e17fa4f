"""`convert`: one call, on the command line and in Python, from a file a person has to a stereo file they can watch."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from spatialme.errors import OptionError
from spatialme.settings import BranchName, ConverterSettings, Engine, Eye, Quality, RefineMode
from spatialme.video.anaglyph import Anaglyph
from spatialme.video.metadata import Format
from spatialme.video.nvdec import DecoderName
from spatialme.video.targets import Target
from spatialme.weights import Licence

if TYPE_CHECKING:
    from spatialme.job import Job
    from spatialme.report import ConversionReport


def convert(
    input: str | Path,
    output: str | Path,
    *,
    format: Format | None = None,
    anaglyph: Anaglyph = "dubois",
    target: Target | None = None,
    max_disparity: float = 2.5,
    convergence: float | Literal["auto"] = 0.5,
    eye: Eye = "left",
    depth: str = "auto",
    depth_size: int | None = None,
    save_depth: str | Path | None = None,
    quality: Quality = "auto",
    inpaint: Engine = "auto",
    branch: BranchName = "refined",
    refine: RefineMode = "holes",
    refiner: str | None = None,
    licence: Licence = "any",
    device: str = "auto",
    max_vram: float | None = None,
    compile: bool = False,
    devices: str | None = None,
    ray: str | None = None,
    decoder: DecoderName = "cpu",
    codec: str | None = None,
    crf: int | None = None,
    preset: str | None = None,
    start: str | float | None = None,
    end: str | float | None = None,
    frame_rate: str | float = 24,
    keep_going: bool = False,
    overwrite: bool = False,
    recursive: bool = False,
    profile: str | Path | None = None,
) -> Sequence[ConversionReport]:
    """Convert a 2D video, image, folder or image sequence to stereo 3D.

    Args:
        input: A video, an image, a folder of either, or an image sequence such as frames/%05d.png.
        output: The file to make; a folder gets the input's name with the token that players read.
        format: How the eyes are packed: full_sbs, half_sbs, full_tb, half_tb, cross_eyed, anaglyph or two_files;
            full_sbs when neither this nor a target says otherwise.
        anaglyph: Colours of --format anaglyph, for red-cyan glasses.
        target: Sets packing, codec, tags and file name at once: quest, deovr, skybox, 3dtv or youtube.
        max_disparity: Depth budget in percent of the picture's width: how strong the 3D is.
        convergence: Nearness on the screen plane, 0 (all in front) to 1 (all behind), or auto per shot.
        eye: Which eye the input is; both splits the disparity and makes two new eyes.
        depth: auto, tiny, dino, depth-anything-v2-small, -base or -large, a network's file or folder, a depth video of
            --save-depth, or a .npz or .npy of depth maps (docs/depth.md).
        depth_size: Short side of the picture that the depth network sees; larger is finer and slower.
        save_depth: Also write the depth as a gray video that can be edited and given to --depth.
        quality: draft = poly; fast = poly + propagation + expansion; full = with ProPainter; auto picks.
        inpaint: Engine of the two video-inpainting branches.
        branch: What is written: the refined result or one branch alone.
        refine: Whether the refiner's picture replaces holes only, or everything.
        refiner: Its weights: a file of `weights export`, a name of `weights list`, or blend for its untrained blend.
        licence: commercial refuses every network whose weights forbid commercial use, and names what replaces it.
        device: auto, cpu, cuda or cuda:N.
        max_vram: Gigabytes of GPU memory to stay within, by smaller clips; all there is when not given.
        compile: Compile the networks first (torch.compile): minutes at the start, faster afterwards on a long film; the
            picture differs in the last bits.
        devices: Share a video among processes, one for each of these: 0,1 for two GPUs, or cpu,cpu.
        ray: Share a video among the machines of the Ray cluster at this address; local starts one here.
        decoder: Where the input is decoded: cpu, or cuda for an NVIDIA GPU's NVDEC, not yet tried on one
            (docs/formats.md).
        codec: Video encoder, such as libx264, libx265, libsvtav1 or ffv1; chosen to fit when not given.
        crf: Quality of the encoder; lower is better and larger.
        preset: Speed of the encoder, by its own names.
        start: Begin here: seconds or [hh:]mm:ss.
        end: Stop here: seconds or [hh:]mm:ss.
        frame_rate: Frames per second of an image sequence, such as 25 or 24000/1001; a video has its own.
        keep_going: Convert what can be read of a damaged file instead of refusing it.
        overwrite: Replace OUTPUT when it exists.
        recursive: Of a folder, convert the folders inside it too, and mirror them in OUTPUT.
        profile: Write where the time goes to this .json, a trace for chrome://tracing, and a table to the log.

    Returns:
        One report per converted file; of a folder a `FolderReport`, which also tells what was skipped and what failed.

    Raises:
        SpatialmeError: Bad input, output or options; the message is one line that says what to do.
    """
    from torch import OutOfMemoryError

    from spatialme.film.spread import choose_spread, parse_devices
    from spatialme.job import Job
    from spatialme.profiling import Profile
    from spatialme.video.writer import OutputOptions

    settings = ConverterSettings(
        max_disparity=max_disparity,
        convergence=convergence,
        eye=eye,
        depth=depth,
        depth_size=depth_size,
        quality=quality,
        inpaint=inpaint,
        branch=branch,
        refine=refine,
        refiner=refiner,
        licence=licence,
        device=device if devices is None else parse_devices(devices)[0],
        max_vram=max_vram,
        compile=compile,
    )
    options = OutputOptions(
        format=format, anaglyph=anaglyph, target=target, codec=codec, crf=crf, preset=preset, overwrite=overwrite
    )
    job = Job(
        settings,
        options,
        start_seconds=parse_seconds("--start", start),
        end_seconds=parse_seconds("--end", end),
        frame_rate=parse_frame_rate(frame_rate),
        keep_going=keep_going,
        decoder=decoder,
        spread=choose_spread(device, devices, ray),
        profile=None if profile is None else Profile(Path(profile)),
    )
    if job.profile is not None and job.spread is not None:
        raise OptionError("--profile looks at one process; leave out --devices and --ray")
    try:
        with job.profile or nullcontext():
            return _convert_all(job, input, output, save_depth, recursive)
    except OutOfMemoryError:
        raise OptionError(
            f"{input} takes more GPU memory than there is or --max-vram allows; use --quality draft, --device cpu, or "
            "a smaller --max-vram, which makes clips shorter"
        ) from None


def _convert_all(
    job: Job, input: str | Path, output: str | Path, save_depth: str | Path | None, recursive: bool
) -> Sequence[ConversionReport]:
    if not Path(input).is_dir():
        return [job.convert(input, output, save_depth)]
    if save_depth is not None:
        raise OptionError(
            f"--save-depth {save_depth} names one file, and {input} is a folder; convert its files one by one"
        )
    from spatialme.folders import convert_folder

    return convert_folder(job, Path(input), output, recursive=recursive)


def parse_seconds(option: str, value: str | float | None) -> float | None:
    """Seconds of a number or of ``[hh:]mm:ss[.fraction]``.

    Raises:
        OptionError: Neither, or negative.
    """
    if value is None:
        return None
    parts = str(value).split(":")
    try:
        numbers = [float(part) for part in parts]
    except ValueError:
        numbers = [-1.0]
    if len(parts) > 3 or any(not number >= 0 for number in numbers):  # `not >=` catches nan too
        raise OptionError(f"{option} {value!r} is not a time; give seconds (90.5) or [hh:]mm:ss (1:30)")
    seconds = 0.0
    for number in numbers:
        seconds = 60 * seconds + number
    return seconds


def parse_frame_rate(value: str | float) -> Fraction:
    """Frames per second of a number or of a ratio such as 24000/1001.

    Raises:
        OptionError: Neither, or not more than 0.
    """
    try:
        rate = Fraction(str(value))
    except (ValueError, ZeroDivisionError):
        rate = Fraction(0)
    if rate <= 0:
        raise OptionError(f"--frame-rate {value!r} is not a frame rate; give a number (25) or a ratio (24000/1001)")
    return rate
