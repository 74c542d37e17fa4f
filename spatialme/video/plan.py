"""What is going to be written, settled and checked before any work starts."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av

from spatialme.errors import OptionError
from spatialme.video import codecs, metadata
from spatialme.video.anaglyph import ANAGLYPHS, Anaglyph
from spatialme.video.codecs import CONTAINERS, IMAGE_ENCODERS, Container, Encoder
from spatialme.video.formats import delivered_format
from spatialme.video.layout import Geometry, plan_geometry
from spatialme.video.metadata import Format, StereoMode
from spatialme.video.picture import StreamInfo
from spatialme.video.place import (
    MediaSource,
    NamedSource,
    OutputKind,
    check_place,
    eye_paths,
    final_path,
    output_kind,
)
from spatialme.video.targets import PlayerNeeds, Target, find_target

_TRIAL_SIDE = 512
# Bits per pixel and frame below which few films stay, so that the check refuses only what could hardly end well.
# Measured: a hand-held street scene 0.067 with x264 at crf 18, a bicycle in a park 2.1 with FFV1.
_LEAST_LOSSY_BITS = 0.01
_LEAST_LOSSLESS_BITS = 1.0
_LEAST_IMAGE_BITS = 0.2


@dataclass(frozen=True)
class ColourTags:
    """FFmpeg's numbers for the colours of the written frames."""

    color_range: int
    colorspace: int
    color_primaries: int
    color_trc: int


@dataclass(frozen=True)
class OutputOptions:
    """What the user asked for; everything left at its default follows from the source, OUTPUT's name and the target."""

    format: Format | None = None  # None: the target's, else full_sbs
    anaglyph: Anaglyph = "dubois"
    target: Target | None = None
    codec: str | None = None
    crf: int | None = None
    preset: str | None = None
    overwrite: bool = False
    keep_tags: bool = True  # False: titles, creation time, place and other texts about the file are left out

    def __post_init__(self) -> None:
        if self.format is not None and self.format not in metadata.FORMATS:
            raise OptionError(f"unknown format {self.format!r}, expected one of {', '.join(metadata.FORMATS)}")
        if self.anaglyph not in ANAGLYPHS:
            raise OptionError(f"unknown anaglyph {self.anaglyph!r}, expected one of {', '.join(ANAGLYPHS)}")


@dataclass(frozen=True)
class OutputPlan:
    """Everything about the file (or the two files) to be written."""

    kind: OutputKind
    paths: tuple[Path, ...]  # one, or left and right; a sequence's are printf patterns
    container: Container | None  # None for images
    encoder: str  # FFmpeg's name
    encoder_options: dict[str, str]
    encoder_tag: str | None
    pixel_format: str
    geometry: Geometry
    colour: ColourTags
    frame_rate: Fraction
    time_base: Fraction
    sample_aspect: Fraction
    anaglyph: Anaglyph
    stereo: StereoMode | None
    overwrite: bool
    keep_tags: bool
    notes: tuple[str, ...]  # one line each, for the report

    @property
    def planar_format(self) -> str:
        """The pixel format in which the eyes are packed: the encoder's, with its samples in plain planes."""
        return delivered_format(self.pixel_format)

    @property
    def format(self) -> Format:
        """The packing."""
        return self.geometry.format

    def least_bytes(self, frames: int) -> int:
        """What so many written frames take at the very least."""
        if self.kind != "video":
            bits = _LEAST_IMAGE_BITS
        else:
            bits = _LEAST_LOSSLESS_BITS if codecs.ENCODERS[self.encoder].lossless else _LEAST_LOSSY_BITS
        return int(self.geometry.width * self.geometry.height * frames * len(self.paths) * bits / 8)


def plan_output(output: str | Path, source: MediaSource, options: OutputOptions) -> OutputPlan:
    """Settle and check what will be written; fast, and nothing is left behind.

    Args:
        output: A file, a folder (the name is then the input's with the player's token), or a printf pattern of images.
        source: The opened input.
        options: What the user asked for.

    Raises:
        OptionError: options that contradict each other, the container or the source.
        OutputError: a place that cannot or must not be written.
    """
    target = find_target(options.target) if options.target else None
    packing = _choose_format(options, target)
    kind, paths = name_output(output, source, options)
    for each in paths:
        check_place(each, kind, source, overwrite=options.overwrite)
    if kind == "video":
        return _plan_video(paths, source.info, options, target, packing)
    return _plan_images(paths, kind, source.info, options, packing)


def name_output(output: str | Path, source: NamedSource, options: OutputOptions) -> tuple[OutputKind, tuple[Path, ...]]:
    """The kind and the names of what will be written: one file (or pattern), or one per eye.

    Raises:
        OptionError: options that contradict each other, or a name that does not suit the input.
    """
    target = find_target(options.target) if options.target else None
    packing = _choose_format(options, target)
    token = target.file_token if target is not None else metadata.FILE_TOKEN[packing]
    path = final_path(output, source, token, _default_extension(options, target))
    kind = output_kind(path, source)
    return kind, eye_paths(path, kind) if packing == "two_files" else (path,)


def _choose_format(options: OutputOptions, target: PlayerNeeds | None) -> Format:
    if target is None:
        return options.format or "full_sbs"
    if options.format not in (None, target.format):
        raise OptionError(
            f"format {options.format} contradicts target {options.target}, which needs {target.format}; leave one out"
        )
    return target.format


def _plan_video(
    paths: tuple[Path, ...], info: StreamInfo, options: OutputOptions, target: PlayerNeeds | None, packing: Format
) -> OutputPlan:
    container = CONTAINERS[paths[0].suffix.lower()]
    stereo = metadata.STEREO_MODE.get(packing)
    most_bits = target.bit_depth if target else None
    name = options.codec or (target.codec if target else None)
    encoder = codecs.find_encoder(name) if name else _automatic_encoder(info, packing)
    if target and target.codec and codecs.find_encoder(target.codec) != encoder:
        raise OptionError(f"codec {options.codec} contradicts target {options.target}, which needs {target.codec}")
    if container not in encoder.containers:
        fitting = ", ".join(suffix for suffix, each in CONTAINERS.items() if each in encoder.containers)
        raise OptionError(f"codec {encoder.name} does not go into {paths[0].suffix}; use {fitting}, or another codec")
    pixel_format = codecs.choose_pixel_format(encoder, info.pixel_format, most_bits)
    geometry = plan_geometry(packing, info.width, info.height, pixel_format, keeps_odd_sides=encoder.keeps_odd_sides)
    if max(geometry.width, geometry.height) > encoder.widest:
        raise OptionError(
            f"{encoder.name} goes to {encoder.widest} pixels a side, the output has {geometry.width}x{geometry.height};"
            " use --codec hevc or a half format"
        )
    encoder_options = codecs.encoder_options(encoder, options.crf, options.preset, info, stereo)
    plan = OutputPlan(
        kind="video",
        paths=paths,
        container=container,
        encoder=encoder.name,
        encoder_options=encoder_options,
        encoder_tag=encoder.tag if container != "matroska" else None,
        pixel_format=pixel_format,
        geometry=geometry,
        colour=_colours(info, pixel_format),
        frame_rate=info.frame_rate,
        time_base=info.time_base,
        # The source's for every packing: players learn "half" from the mark or the name and stretch the eyes
        # themselves; a 2:1 aspect on top of that would make them stretch twice.
        sample_aspect=info.sample_aspect,
        anaglyph=options.anaglyph,
        stereo=stereo,
        overwrite=options.overwrite,
        keep_tags=options.keep_tags,
        notes=_video_notes(encoder, container, info, pixel_format, geometry),
    )
    _try_encoder(plan)
    return plan


def _automatic_encoder(info: StreamInfo, packing: Format) -> Encoder:
    """H.264 for 8 bits as far as its levels reach, else HEVC."""
    geometry = plan_geometry(packing, info.width, info.height, "yuv420p", keeps_odd_sides=False)
    small = codecs.fits_h264(geometry.width, geometry.height, info.frame_rate)
    return codecs.ENCODERS["libx264" if info.bit_depth == 8 and small else "libx265"]


def _colours(info: StreamInfo, pixel_format: str) -> ColourTags:
    source_is_rgb, result_is_rgb = av.VideoFormat(info.pixel_format).is_rgb, av.VideoFormat(pixel_format).is_rgb
    if source_is_rgb and not result_is_rgb:
        return ColourTags(1, 1, info.color_primaries, info.color_trc)  # limited range, BT.709 matrix: our own choice
    return ColourTags(info.color_range, info.colorspace, info.color_primaries, info.color_trc)


def _video_notes(
    encoder: Encoder, container: Container, info: StreamInfo, pixel_format: str, geometry: Geometry
) -> tuple[str, ...]:
    notes = []
    if geometry.note:
        notes.append(f"{geometry.note} {pixel_format}")
    if pixel_format != info.pixel_format:
        notes.append(f"pictures are written as {pixel_format}; the source has {info.pixel_format}")
    if encoder.name == "libx264" and not codecs.fits_h264(geometry.width, geometry.height, info.frame_rate):
        size = f"{geometry.width}x{geometry.height}"
        notes.append(f"few players decode H.264 of {size} at {float(info.frame_rate):.4g} fps; --codec hevc is safer")
    hdr10 = info.mastering_display is not None or info.content_light is not None
    if hdr10 and container == "matroska" and encoder.name not in ("libx265", "libsvtav1"):
        notes.append(
            f"{encoder.name} in .mkv drops HDR10's mastering display and light levels; use --codec hevc or .mp4"
        )
    return tuple(notes)


def _try_encoder(plan: OutputPlan) -> None:
    """Open the encoder once, so that what it refuses is known before the work starts.

    In the size to be written where that depends on the hardware, else in a small one: SVT-AV1 takes six seconds and
    gigabytes to open for 7680x2160.
    """
    codecs.quieten(plan.encoder)
    longest = max(plan.geometry.width, plan.geometry.height) if "nvenc" in plan.encoder else _TRIAL_SIDE
    context: Any = av.VideoCodecContext.create(plan.encoder, "w")
    context.width, context.height = min(plan.geometry.width, longest), min(plan.geometry.height, longest)
    context.pix_fmt = plan.pixel_format
    context.time_base, context.framerate = plan.time_base, plan.frame_rate
    context.options = dict(plan.encoder_options)
    try:
        context.open()
    except av.FFmpegError as error:
        size = f"{context.width}x{context.height} {plan.pixel_format}"
        hint = "it needs an NVIDIA GPU that has it" if "nvenc" in plan.encoder else "choose another codec or format"
        raise OptionError(f"encoder {plan.encoder} does not open for {size} ({error.strerror}); {hint}") from error


def _plan_images(
    paths: tuple[Path, ...], kind: OutputKind, info: StreamInfo, options: OutputOptions, packing: Format
) -> OutputPlan:
    if options.codec or options.preset or options.crf is not None:
        raise OptionError(f"codec, crf and preset are for video, OUTPUT {paths[0].name} is an image; leave them out")
    encoder = IMAGE_ENCODERS[paths[0].suffix.lower()]
    is_rgb = av.VideoFormat(info.pixel_format).is_rgb or packing == "anaglyph"
    pixel_format = encoder.for_deep if info.bit_depth > 8 else encoder.for_rgb if is_rgb else encoder.for_yuv
    geometry = plan_geometry(packing, info.width, info.height, pixel_format, keeps_odd_sides=False)
    return OutputPlan(
        kind=kind,
        paths=paths,
        container=None,
        encoder=encoder.name,
        encoder_options=dict(encoder.options),
        encoder_tag=None,
        pixel_format=pixel_format,
        geometry=geometry,
        colour=_image_colours(info, pixel_format, encoder.name),
        frame_rate=info.frame_rate,
        time_base=info.time_base,
        sample_aspect=info.sample_aspect,
        anaglyph=options.anaglyph,
        stereo=None,
        overwrite=options.overwrite,
        keep_tags=options.keep_tags,
        notes=(f"{geometry.note} {pixel_format}",) if geometry.note else (),
    )


def _image_colours(info: StreamInfo, pixel_format: str, encoder: str) -> ColourTags:
    if av.VideoFormat(pixel_format).is_rgb:
        return ColourTags(2, 0, info.color_primaries, info.color_trc)
    # JFIF and WebP fix the matrix to BT.601, in full and in limited range
    return ColourTags(2 if encoder == "mjpeg" else 1, 6, info.color_primaries, info.color_trc)


def _default_extension(options: OutputOptions, target: PlayerNeeds | None) -> str:
    if target is not None:
        return target.extension
    encoder = codecs.find_encoder(options.codec or "libx264")
    return next(extension for extension, container in CONTAINERS.items() if container == encoder.containers[0])
