"""Facts about an input for the report, from its headers and first picture."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from av.stream import AttachmentStream, Disposition, Stream

from spatialme.video.files import is_image, is_pattern
from spatialme.video.opening import choose_video, open_container
from spatialme.video.picture import StreamInfo
from spatialme.video.reader import open_source


@dataclass(frozen=True)
class OtherStream:
    """A stream beside the video that is converted."""

    index: int  # in the container
    kind: str  # "audio", "subtitle", "attachment", "data", "video", or "cover" for attached pictures
    codec: str  # FFmpeg's name, or an attachment's MIME type; "unknown" where it has none
    language: str | None  # as the container says it, mostly ISO 639-2
    title: str | None  # of an attachment, its file name
    default: bool


@dataclass(frozen=True)
class Facts:
    """What an input is."""

    info: StreamInfo
    others: tuple[OtherStream, ...]
    warnings: tuple[str, ...]  # those known without reading on


def probe(path: str | Path, *, keep_going: bool = False) -> Facts:
    """Open an input, decode its first picture and close it again.

    Raises:
        InputError: as `open_source`.
    """
    with open_source(path, keep_going=keep_going) as source:
        info, warnings = source.info, tuple(source.warnings)
    given = Path(path)
    if is_pattern(given) or is_image(given):
        return Facts(info, (), warnings)
    with open_container(given) as container:
        chosen, _ = choose_video(container, given)
        others = tuple(_described(stream) for stream in container.streams if stream.index != chosen.index)
    return Facts(info, others, warnings)


def _described(stream: Stream) -> OtherStream:
    if isinstance(stream, AttachmentStream):
        return OtherStream(stream.index, "attachment", stream.mimetype or "unknown", None, stream.name, False)
    context = getattr(stream, "codec_context", None)
    return OtherStream(
        index=stream.index,
        kind="cover" if stream.disposition & Disposition.attached_pic else stream.type,
        codec=(stream.name if context is None else context.codec.canonical_name) or "unknown",
        language=stream.metadata.get("language"),
        title=stream.metadata.get("title") or stream.metadata.get("name"),  # MP4 calls it name
        default=bool(stream.disposition & Disposition.default),
    )
