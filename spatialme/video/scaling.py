"""libswscale's flags by number: PyAV 17, the newest for Python 3.10, has no names for the accuracy flags."""

from __future__ import annotations

_BICUBIC = 0x4
_LANCZOS = 0x200
_FULL_CHROMA_INPUT = 0x4000
_ACCURATE_ROUNDING = 0x40000
_BIT_EXACT = 0x80000  # the same result on every processor

CHANGE_FORMAT = _BICUBIC | _ACCURATE_ROUNDING | _FULL_CHROMA_INPUT | _BIT_EXACT
# Lanczos over twice its usual width is swscale's low-pass for a squeeze by two
SQUEEZE = _LANCZOS | _ACCURATE_ROUNDING | _BIT_EXACT
