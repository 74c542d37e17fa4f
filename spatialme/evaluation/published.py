"""Rows that papers print, for orientation: other clips, other disparity, other machines."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PublishedRow:
    """One row of a paper's table."""

    method: str
    source: str  # paper, data
    values: dict[str, float]  # by the columns of our tables


def _row(method: str, source: str, **values: float) -> PublishedRow:
    return PublishedRow(method, source, values)


_SPATIALME = "SpatialMe paper, StereoV1K"  # its MAE has an unknown scale (arXiv 2412.11512, tables II and III)
_M2SVID = "M2SVid paper, Stereo4D"  # latency for 16 frames on an A100 in its text, not per frame
_STEREOPILOT = "StereoPilot paper, Stereo4D"

PUBLISHED = (
    _row("3D-Photography", _SPATIALME, lpips=0.1121, ssim=0.8163, psnr=22.228),
    _row("Stereo Diffusion", _SPATIALME, lpips=0.1501, ssim=0.7702, psnr=23.019),
    _row("AdaMPI", _SPATIALME, lpips=0.0608, ssim=0.7911, psnr=24.254),
    _row("SpatialMe", _SPATIALME, lpips=0.0478, ssim=0.8522, psnr=31.445),
    _row("SpatialMe, poly alone", _SPATIALME, lpips=0.0701, ssim=0.8249, psnr=29.488),
    _row("SpatialMe, DL alone", _SPATIALME, lpips=0.0683, ssim=0.8260, psnr=29.576),
    _row("SpatialMe, DL and DE", _SPATIALME, lpips=0.0668, ssim=0.8284, psnr=29.896),
    _row("SVG", _M2SVID, psnr=25.6, ms_ssim=0.926, lpips=0.217),
    _row("StereoCrafter, 25 steps", _M2SVID, psnr=24.9, ms_ssim=0.909, lpips=0.242),
    _row("StereoCrafter, 1 step", _M2SVID, psnr=25.3, ms_ssim=0.911, lpips=0.262),
    _row("M2SVid", _M2SVID, psnr=26.2, ms_ssim=0.915, lpips=0.180),
    _row("StereoPilot", _STEREOPILOT, ssim=0.861, psnr=27.7, lpips=0.087),
    _row("Mono2Stereo", _STEREOPILOT, ssim=0.649, psnr=20.9, lpips=0.222),
)
