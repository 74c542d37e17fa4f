"""Each eye as a frame in the pixel format to be written; the source's own eye without a detour through RGB."""

from __future__ import annotations

import av
import numpy as np
from av.video.reformatter import ColorRange

from spatialme.video import anaglyph, convert_pixels, layout
from spatialme.video.formats import bit_depth
from spatialme.video.picture import Picture, StreamInfo
from spatialme.video.plan import ColourTags, OutputPlan
from spatialme.video.planes import make_frame, plane_layouts, read_planes
from spatialme.video.scaling import CHANGE_FORMAT

# (H, W, 3) uint8 or uint16 RGB over its full range; or planes in the plan's planar format, as `read_planes` gives them
EyeImage = np.ndarray | tuple[np.ndarray, ...]

_FULL = int(ColorRange.JPEG)


def planar_encoding(plan: OutputPlan, info: StreamInfo, dtype: np.dtype | type) -> convert_pixels.YuvEncoding | None:
    """How an eye's RGB of this type becomes the planes that are packed; None where RGB is wanted, or no planar YUV."""
    if plan.format == "anaglyph" or not plan.planar_format.startswith("yuv"):
        return None
    return convert_pixels.encoding_like(_blank_eye(plan, info.width, info.height), dtype)


def check_eyes(info: StreamInfo, plan: OutputPlan, *eyes: EyeImage | None) -> None:
    """Raise ValueError for an eye that is not of the source's size, or not what the plan packs."""
    wanted = (info.height, info.width, 3)
    for eye in eyes:
        if isinstance(eye, tuple):
            _check_planes(eye, info, plan)
        elif eye is not None and (eye.shape != wanted or eye.dtype not in (np.uint8, np.uint16)):
            raise ValueError(f"an eye must be {wanted} uint8 or uint16, got {eye.shape} {eye.dtype}")


def packed_frames(
    picture: Picture, left: EyeImage | None, right: EyeImage | None, plan: OutputPlan
) -> list[av.VideoFrame]:
    """The frames to encode: one, or two where the eyes go to files of their own.

    Args:
        picture: The source picture.
        left: Of the source's size; planes only where `planar_encoding` says how. None stands for the picture itself.
        right: The same for the right eye.
        plan: What is being written.
    """
    geometry = plan.geometry
    if plan.format == "anaglyph":
        eyes = [_as_rgb(picture, eye) for eye in (left, right)]
        deepest = max((eye.dtype for eye in eyes), key=lambda dtype: dtype.itemsize)
        mixed = anaglyph.mix(_as_depth(eyes[0], deepest), _as_depth(eyes[1], deepest), plan.anaglyph)
        frames = [layout.place(_from_array(mixed, plan), geometry)]
    elif plan.format == "two_files":
        frames = [layout.place(eye_frame(picture, eye, plan), geometry) for eye in (left, right)]
    else:
        frames = [layout.pack(eye_frame(picture, left, plan), eye_frame(picture, right, plan), geometry)]
    for frame in frames:
        tag(frame, plan.colour)
    return [_for_encoder(frame, plan) for frame in frames]


def eye_frame(picture: Picture, eye: EyeImage | None, plan: OutputPlan) -> av.VideoFrame:
    """One eye at the source's size in the plan's planar format."""
    if isinstance(eye, tuple):
        packable = make_frame(eye, plan.planar_format)
        tag(packable, plan.colour)
        return packable
    if eye is not None:
        return _from_array(eye, plan)
    frame, wanted = picture.frame, plan.planar_format
    same_colours = (frame.color_range == _FULL, frame.colorspace) == (
        plan.colour.color_range == _FULL,
        plan.colour.colorspace,
    )
    if frame.format.name == wanted and same_colours:
        return frame
    are_rgb = (frame.format.is_rgb, av.VideoFormat(wanted).is_rgb)
    if all(are_rgb):
        return frame.reformat(format=wanted, interpolation=CHANGE_FORMAT, threads=1)
    if not any(are_rgb) and same_colours:
        changed = _with_neutral_chroma if frame.format.name.startswith("gray") else _same_colours
        return changed(frame, wanted)
    return _from_array(picture.rgb(), plan)


def tag(frame: av.VideoFrame, colour: ColourTags) -> None:
    """Give a frame the colour tags of what is written."""
    frame.color_range = colour.color_range
    frame.colorspace = colour.colorspace
    frame.color_primaries = colour.color_primaries
    frame.color_trc = colour.color_trc


def _check_planes(planes: tuple[np.ndarray, ...], info: StreamInfo, plan: OutputPlan) -> None:
    layouts = plane_layouts(plan.planar_format, info.width, info.height)
    wanted = [((layout.height, layout.width), layout.dtype.name) for layout in layouts]
    found = [(plane.shape, plane.dtype.name) for plane in planes]
    if found != wanted:
        raise ValueError(f"an eye in {plan.planar_format} must have planes {wanted}, got {found}")


def _from_array(array: np.ndarray, plan: OutputPlan) -> av.VideoFrame:
    return convert_pixels.from_rgb(array, _blank_eye(plan, array.shape[1], array.shape[0]))


def _blank_eye(plan: OutputPlan, width: int, height: int) -> av.VideoFrame:
    eye = av.VideoFrame(width, height, plan.planar_format)
    tag(eye, plan.colour)
    return eye


def _for_encoder(frame: av.VideoFrame, plan: OutputPlan) -> av.VideoFrame:
    """The same samples in the arrangement that the encoder wants (p010le for yuv420p10le, bgr0 for rgb24)."""
    if frame.format.name == plan.pixel_format:
        return frame
    return _same_colours(frame, plan.pixel_format)


def _same_colours(frame: av.VideoFrame, pixel_format: str) -> av.VideoFrame:
    """Another depth or chroma subsampling; matrix and range stay."""
    limits = ColorRange.JPEG if frame.color_range == _FULL else ColorRange.MPEG
    return frame.reformat(
        format=pixel_format, interpolation=CHANGE_FORMAT, src_color_range=limits, dst_color_range=limits, threads=1
    )


def _with_neutral_chroma(frame: av.VideoFrame, pixel_format: str) -> av.VideoFrame:
    """Gray as colour: the luma as it is, scaled to the other depth, chroma at its middle."""
    luma = read_planes(frame)[0]
    had, has = bit_depth(frame.format.name), bit_depth(pixel_format)
    scaled = luma.astype(np.uint32) << max(0, has - had) >> max(0, had - has)
    result = av.VideoFrame(frame.width, frame.height, pixel_format)
    for number, plane in enumerate(read_planes(result)):
        plane[...] = scaled if number == 0 else 1 << (has - 1)
    return result


def _as_rgb(picture: Picture, eye: EyeImage | None) -> np.ndarray:
    assert not isinstance(eye, tuple), "planar_encoding says that RGB is wanted"
    return picture.rgb() if eye is None else eye


def _as_depth(array: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """8 bit values as 16 bit ones over the full range (255 becomes 65535)."""
    return array if array.dtype == dtype else array.astype(dtype) * 257
