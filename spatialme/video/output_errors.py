"""What FFmpeg and the disk say when a file cannot be written, in one line."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import av

from spatialme.errors import OutputError

_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def as_output_errors(path: Path) -> Iterator[None]:
    """Turn what FFmpeg and the disk say inside the block into an `OutputError` about `path`."""
    try:
        yield
    except (av.FFmpegError, OSError) as error:
        if error.errno in _NO_SPACE:
            text = f"no space left for {path} ({os.strerror(error.errno)}); free some or choose another drive"
            raise OutputError(text) from error
        said = getattr(error, "log", None)
        detail = f"{error.strerror or error}" + (f": {said[2].strip()}" if said else "")
        raise OutputError(f"{path} could not be written ({detail}); try another codec or container") from error
    except ValueError as error:
        raise OutputError(f"{path} could not be written ({error}); try another codec or container") from error
