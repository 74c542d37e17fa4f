"""Runs the converters of benchmarks/gpu.py on PyTorch's meta device, with stand-ins for what a lent machine lacks."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).parents[1] / "benchmarks")  # in place of tests/


def main(quality: str) -> None:
    """Print how many clips came out."""
    import gpu
    import stand_ins

    stand_ins.prepare(stand_ins.NOT_NEEDED)
    import torch

    from spatialme import pipeline
    from spatialme.types import Clip
    from tests.meta_kernels import META, install

    install()
    pipeline.pick_device = lambda name: META
    converter = gpu.make_converter(quality, META, small=True)
    frames = torch.zeros(2, 3, 128, 160, device=META)
    clips = [Clip(frames, (None, None), 2 * n, 0, starts_shot=n == 0, ends_shot=n == 1) for n in range(2)]
    print(sum(stereo.right.shape == frames.shape for stereo in converter.stereo(clips)), "clips")


if __name__ == "__main__":
    main(*sys.argv[1:])
