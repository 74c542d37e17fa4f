"""Every picture of a source cropped, upright, in one size and one planar format."""

from __future__ import annotations

import av
from av.video.reformatter import Interpolation, VideoReformatter

from spatialme.video.clean_aperture import Area, cropped
from spatialme.video.formats import delivered_format, has_alpha
from spatialme.video.orientation import Orientation, turned
from spatialme.video.planes import make_frame, plane_layouts, view_planes


class Upright:
    """Turns the pictures of one source; the first one it sees sets size and format for all.

    `notes` gains one line each for dropped transparency and for a size change.
    """

    def __init__(self, orientation: Orientation, area: Area | None, notes: list[str]) -> None:
        self._area = area  # of the stored picture
        self._orientation = orientation
        self._notes = notes
        self._reformatter = VideoReformatter()
        self._width = 0
        self._height = 0
        self._pixel_format = ""

    def __call__(self, frame: av.VideoFrame) -> av.VideoFrame:
        """Give the upright picture; the frame itself where nothing needs doing."""
        if not self._pixel_format and has_alpha(frame.format.name) and not frame.format.has_palette:
            self._notes.append("transparency is dropped")
        frame = self._plain(frame)
        if self._area is not None:
            frame = cropped(frame, self._area)
        frame = turned(frame, self._orientation)
        if not self._pixel_format:
            self._width, self._height, self._pixel_format = frame.width, frame.height, frame.format.name
        if (frame.width, frame.height, frame.format.name) == (self._width, self._height, self._pixel_format):
            return frame
        return self._fitted(frame)

    def _plain(self, frame: av.VideoFrame) -> av.VideoFrame:
        """The same samples in the format that `delivered_format` names."""
        wanted = delivered_format(frame.format.name)
        if frame.format.name == wanted:
            return frame
        if frame.format.name.startswith("yuvj"):  # the same planes by the name that leaves the range to its tag
            layouts = plane_layouts(wanted, frame.width, frame.height)
            return make_frame(view_planes(frame, layouts), wanted, like=frame)
        return self._reformatter.reformat(frame, format=wanted, interpolation=Interpolation.BICUBIC, threads=1)

    def _fitted(self, frame: av.VideoFrame) -> av.VideoFrame:
        note = f"the picture size changes in mid-stream; all are scaled to the first, {self._width}x{self._height}"
        if note not in self._notes:
            self._notes.append(note)
        return self._reformatter.reformat(
            frame, self._width, self._height, self._pixel_format, interpolation=Interpolation.BICUBIC, threads=1
        )
