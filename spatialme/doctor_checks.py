"""What `spatialme doctor` looks at, one function per subject; each survives the absence of what it wants."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Any, Literal

from spatialme import __version__, weights
from spatialme.errors import OptionError, SpatialmeError

State = Literal["ok", "missing", "broken"]  # missing: something optional

OLDEST_PYTHON = (3, 10)
LEAST_MEMORY_BYTES = 4e9  # what `fast` takes at 720p, see docs/architecture.md
LEAST_DISK_BYTES = 1e9
# name of FFmpeg's encoder -> what it is for; those of NVIDIA need its GPU
ENCODERS = {
    "libx264": "H.264, the default",
    "libx265": "HEVC, the default for 10 bits and wide pictures",
    "libsvtav1": "AV1",
    "ffv1": "lossless",
    "h264_nvenc": "H.264 on an NVIDIA GPU",
    "hevc_nvenc": "HEVC on an NVIDIA GPU",
    "av1_nvenc": "AV1 on a newer NVIDIA GPU",
}
NEEDED_ENCODERS = ("libx264", "libx265")
NEEDED_PACKAGES = (
    "torch",
    "torchvision",
    "numpy",
    "numba",
    "av",
    "opencv-python-headless",
    "scenedetect",
    "transformers",
)
# package -> what it adds
OPTIONAL_PACKAGES = {
    "lightning": "training (spatialme fit)",
    "tensorboard": "training's curves",
    "triton": "compiled GPU kernels",
    "ray": "work shared among machines",
}
# weights -> what they add
WEIGHTS_ADD = {
    "tiny": "depth on any machine, the fallback",
    "depth-anything-v2-small": "better depth, what --depth auto takes",
    "depth-anything-v2-base": "finer depth, slower",
    "depth-anything-v2-large": "the finest depth, slowest",
    "propainter": "quality full: holes filled by video inpainting",
    "propainter-flow-completion": "the other half of ProPainter",
    "raft-things": "ProPainter with its published flow, for comparisons",
    "raft-large": "optical flow on a GPU",
    "raft-large-c-t": "optical flow for comparisons",
    "vgg19": "training's perceptual loss",
}


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    state: State
    subject: str
    text: str


def check_software() -> list[Finding]:
    """Python, this package, and the packages it cannot do without."""
    python = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    if sys.version_info < OLDEST_PYTHON:
        python += f"; {'.'.join(map(str, OLDEST_PYTHON))} or newer is needed"
    found = [
        Finding("ok", "spatialme", __version__),
        Finding("broken" if sys.version_info < OLDEST_PYTHON else "ok", "python", python),
    ]
    for name in NEEDED_PACKAGES:
        installed = installed_version(name)
        missing = f"not installed; run `pip install {name}`"
        found.append(Finding("ok" if installed else "broken", name, installed or missing))
    return found


def check_processor() -> list[Finding]:
    """Cores and memory."""
    import psutil

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    memory = psutil.virtual_memory()
    text = f"{memory.total / 1e9:.1f} GB, {memory.available / 1e9:.1f} GB of it free"
    if memory.available < LEAST_MEMORY_BYTES:
        text += f"; quality fast takes {LEAST_MEMORY_BYTES / 1e9:.0f} GB at 720p"
    return [Finding("ok", "processor cores", str(cores)), Finding("ok", "memory", text)]


def check_gpu() -> list[Finding]:
    """What CUDA offers to torch."""
    try:
        import torch
    except (ImportError, OSError) as error:  # OSError: a library that torch loads is not there
        return [Finding("broken", "torch", f"cannot be imported ({_one_line(error)}); install it again")]
    if not torch.cuda.is_available():
        built = f"torch is built for CUDA {torch.version.cuda}" if torch.version.cuda else "torch is built without CUDA"
        return [Finding("missing", "gpu", f"none that torch can use ({built}); everything runs on the CPU")]
    found = []
    for number in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(number)
        text = f"{properties.name}, {properties.total_memory / 1e9:.1f} GB, CUDA {torch.version.cuda}"
        found.append(Finding("ok", f"gpu cuda:{number}", text))
    return found


def check_video() -> list[Finding]:
    """Which encoders open, and whether a GPU decodes."""
    try:
        import av
    except (ImportError, OSError) as error:
        return [Finding("broken", "av", f"cannot be imported ({_one_line(error)}); install it again")]
    found = []
    for name, purpose in ENCODERS.items():
        problem = _why_encoder_fails(name)
        state: State = "ok" if problem is None else "broken" if name in NEEDED_ENCODERS else "missing"
        found.append(Finding(state, f"encoder {name}", purpose if problem is None else f"{purpose}: {problem}"))
    problem = _why_no_nvdec()
    purpose = "--decoder cuda, H.264, HEVC, VP8 and VP9 on an NVIDIA GPU"
    text = purpose if problem is None else f"{purpose}: {problem}"
    found.append(Finding("ok" if problem is None else "missing", "decoder nvdec", text))
    libraries = ".".join(map(str, av.library_versions["libavcodec"]))
    found.append(Finding("ok", "ffmpeg", f"libavcodec {libraries}, brought by av"))
    return found


def check_weights() -> list[Finding]:
    """Which networks are here, and what the others would add; the packaged one is read whole."""
    return [_weights_finding(entry) for entry in weights.WEIGHTS.values()]


def check_disk() -> list[Finding]:
    """Room for weights."""
    cache = weights.cache_dir()
    place = next(folder for folder in (cache, *cache.parents) if folder.is_dir())
    free = shutil.disk_usage(place).free
    text = f"{free / 1e9:.1f} GB free in {cache}"
    if not os.access(place, os.W_OK):
        return [Finding("missing", "weights folder", f"{cache} cannot be written; set SPATIALME_WEIGHTS to another")]
    if free < LEAST_DISK_BYTES:
        return [Finding("missing", "weights folder", f"{text}; set SPATIALME_WEIGHTS to a roomier one")]
    return [Finding("ok", "weights folder", text)]


def check_optional_packages() -> list[Finding]:
    """Packages that only some commands use."""
    found = []
    for name, adds in OPTIONAL_PACKAGES.items():
        installed = installed_version(name)
        text = f"{installed}: {adds}" if installed else f"{adds}; run `pip install {name}`"
        found.append(Finding("ok" if installed else "missing", name, text))
    return found


CHECKS: tuple[Callable[[], list[Finding]], ...] = (
    check_software,
    check_processor,
    check_gpu,
    check_video,
    check_weights,
    check_disk,
    check_optional_packages,
)


def installed_version(package: str) -> str | None:
    """The version of an installed package, by its name on PyPI or in Python; None if it is not there."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "installed" if find_spec(package.replace("-", "_")) else None


def _why_encoder_fails(name: str) -> str | None:
    """None when the encoder opens."""
    import av

    from spatialme.video.codecs import ENCODERS as KNOWN
    from spatialme.video.codecs import quieten

    quieten(name)
    try:
        context: Any = av.VideoCodecContext.create(name, "w")
    except ValueError:
        return "not in this FFmpeg build"
    if name == "libx265":
        context.options = {"x265-params": "log-level=error"}  # it does not go through FFmpeg's log
    context.width, context.height, context.pix_fmt = 512, 512, KNOWN[name].pixel_formats[0]
    context.time_base, context.framerate = Fraction(1, 25), Fraction(25)
    try:
        context.open()
    except av.FFmpegError as error:
        return "needs an NVIDIA GPU that has it" if "nvenc" in name else f"does not open ({error.strerror})"
    return None


def _why_no_nvdec() -> str | None:
    """None when it starts."""
    from spatialme.video.nvdec import find_accelerator

    try:
        find_accelerator("cuda", "auto")
    except OptionError:
        return "needs such a GPU and its driver"
    return None


def _weights_finding(entry: weights.WeightsEntry) -> Finding:
    subject, adds = f"weights {entry.name}", WEIGHTS_ADD.get(entry.name, entry.source)
    packaged = entry.url is None
    if packaged:  # read whole: without it nothing works
        try:
            weights.verify(entry.name)
        except SpatialmeError as error:
            return Finding("broken", subject, f"{_one_line(error)}; install spatialme again")
    elif weights.find(entry.name) is None:
        fetch = f"spatialme weights fetch {entry.name}{'' if entry.commercial else ' --accept-licence'}"
        return Finding("missing", subject, f"{adds}; {entry.megabytes:.0f} MB by `{fetch}`")
    return Finding("ok", subject, adds)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())
