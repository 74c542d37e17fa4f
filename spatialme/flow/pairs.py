"""Neighbouring frames across clip borders, without copying a frame."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from spatialme.types import WarpedClip, cut


def with_next_frame(clips: Iterable[WarpedClip]) -> Iterator[tuple[WarpedClip, WarpedClip | None]]:
    """Yield each clip with the frame (T = 1) that follows it in its shot, None at the shot's end.

    Holds one clip and one frame.

    Raises:
        ValueError: The stream ends inside a shot.
    """
    held: WarpedClip | None = None
    for clip in clips:
        if held is not None:
            yield held, cut(clip, 0, 1)
        held = clip
        if clip.clip.ends_shot:
            yield clip, None
            held = None
    if held is not None:
        raise ValueError("the last clip of a stream must have ends_shot set")
