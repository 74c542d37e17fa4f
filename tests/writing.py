"""Writing clips of the tests through the whole of reader, plan and writer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from spatialme.video.reader import open_source
from spatialme.video.writer import OutputOptions, StereoWriter, WriteReport, plan_output


def mirrored(image: np.ndarray) -> np.ndarray:
    """A right eye that differs from the left one in a known way."""
    return image[:, ::-1]


def write_stereo(
    source_path: Path | str,
    output: Path | str,
    *,
    start_seconds: float | None = None,
    end_seconds: float | None = None,
    **options: Any,
) -> WriteReport:
    """Write the source as left eye and its mirror image as right eye."""
    with open_source(source_path, start_seconds=start_seconds, end_seconds=end_seconds) as source:
        plan = plan_output(output, source, OutputOptions(**options))
        with StereoWriter(plan, source, end_seconds=end_seconds) as writer:
            for picture in source:
                writer.write(picture, None, mirrored(picture.rgb()))
            return writer.finish()
