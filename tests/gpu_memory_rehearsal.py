"""Prints the most bytes alive in a conversion without networks, and as many as the count says, as JSON."""

from __future__ import annotations

import json
import sys
from collections import deque
from pathlib import Path

sys.path[0] = str(Path(__file__).parents[1] / "benchmarks")  # in place of tests/
HEIGHT, WIDTH, FRAMES = 720, 1280, 40


class FlatDepth:
    """Holds clips back as a network's stage does, and says nothing of them."""

    name = "flat"
    lookback = lookahead = 8
    notices: tuple[str, ...] = ()

    def stream(self, clips):
        from spatialme.levels import awake, resting
        from spatialme.types import DepthClip

        waiting = deque()
        for clip in clips:
            waiting.append(resting(clip))
            ended = clip.ends_shot
            del clip
            while waiting and (ended or len(waiting) * len(waiting[0]) > self.lookahead + len(waiting[0])):
                ready = awake(waiting.popleft())
                yield DepthClip(ready, ready.frames[:, :1] * 0)


class NoMotion:
    """On the grid that RAFT would use."""

    def grid(self, height, width):
        return height // 2, width // 2

    def prepare(self, frame):
        return frame.new_zeros((1, 3, *self.grid(*frame.shape[1:])))

    def both_ways(self, first, second):
        flow = first.new_zeros((2, *first.shape[2:]))
        return flow, flow + 0


def main(quality: str, length: int) -> None:
    import stand_ins

    stand_ins.prepare()
    from fake_gpu import Meter, Stages, pretended_gpu
    from gpu_memory import clips

    from spatialme import memory, pipeline
    from spatialme.flow.estimator import FlowEstimator
    from spatialme.report import Tally
    from spatialme.settings import ConverterSettings

    for part in ("DEPTH_BYTES", "BATCH_BYTES", "ALIGNING_BYTES", "NETWORKS_BYTES", "RAFT_BYTES"):
        setattr(memory, part, 0)  # what these networks' stages would take
    pipeline.open_flow = lambda engine, device: FlowEstimator(NoMotion())
    clock = Stages()
    with pretended_gpu(), Meter(clock) as meter:
        converter = pipeline.Converter(ConverterSettings(quality=quality, device="cuda"), depth=FlatDepth())
        coming = clock.timed("upload", clips(HEIGHT, WIDTH, length, FRAMES))
        for _ in converter.stereo(coming, tally=Tally(clock)):
            pass
        counted = memory.gpu_bytes(converter.reach, length, HEIGHT * WIDTH) - memory.CUDA_BYTES
    for stage, held in meter.peak.most_common():
        print(f"{stage} {held / HEIGHT / WIDTH:.0f} bytes per pixel", file=sys.stderr)
    print(f"{meter.at_peak} at work", file=sys.stderr)
    print(json.dumps([meter.peak_bytes, counted]))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
