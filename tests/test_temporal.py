"""Stabilisation: no pulsing, no shimmer, no ghosts, nothing across a cut, and no trace of how a shot was cut up."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from spatialme.depth import motion, temporal
from spatialme.depth.network import NetworkDepth, SingleThreaded
from spatialme.depth.tiny import TinyNetwork
from spatialme.types import Clip

HEIGHT, WIDTH = 48, 64
FRAMES = 20


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Pictures this small gain nothing from threads, and wait for each other on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def texture(height: int, width: int, seed: int) -> Tensor:
    """(3, h, w) smooth colours that motion can be measured on."""
    coarse = torch.rand(1, 3, height // 4, width // 4, generator=torch.Generator().manual_seed(seed))
    return F.interpolate(coarse, size=(height, width), mode="bilinear", align_corners=False)[0]


def noise(count: int, deviation: float, seed: int) -> Tensor:
    """(count, 1, HEIGHT, WIDTH) the smooth shimmer of a network, not white noise."""
    coarse = torch.randn(count, 1, HEIGHT // 4, WIDTH // 4, generator=torch.Generator().manual_seed(seed))
    return deviation * F.interpolate(coarse, size=(HEIGHT, WIDTH), mode="bilinear", align_corners=False)


def true_depth() -> Tensor:
    """(1, 1, HEIGHT, WIDTH) a floor that comes nearer downwards, and a block in front of it."""
    depth = torch.linspace(0, 1, HEIGHT).view(1, 1, HEIGHT, 1).expand(1, 1, HEIGHT, WIDTH).clone()
    depth[..., 10:30, 20:40] = 0.9
    return depth


class Scripted:
    """A network whose answers are given; it is asked one frame at a time, in order."""

    name = "scripted"
    device = torch.device("cpu")

    def __init__(self, answers: Tensor):
        self.answers = answers

    def __call__(self, frames: Tensor) -> Tensor:
        # the frame's number is written into its corner, since threads may ask in any order
        return self.answers[(frames[:, 0, 0, 0] * 255).round().long()]


def numbered(frames: Tensor) -> Tensor:
    frames = frames.clone()
    frames[:, 0, 0, 0] = torch.arange(len(frames)) / 255
    return frames


def cut_up(frames: Tensor, size: int, shots: tuple[int, ...] = ()) -> Iterator[Clip]:
    """Clips of at most `size` frames; `shots` are the first frames of further shots."""
    bounds = [0, *shots, len(frames)]
    for shot, (begin, end) in enumerate(pairwise(bounds)):
        for start in range(begin, end, size):
            part = frames[start : min(start + size, end)]
            yield Clip(part, (None,) * len(part), start, shot, start == begin, start + size >= end)


def stabilised(frames: Tensor, raw: Tensor, size: int = 7, shots: tuple[int, ...] = ()) -> Tensor:
    """(T, 1, HEIGHT, WIDTH) nearness at network size, by way of `relate` and `stabilise`."""
    depth = NetworkDepth(Scripted(raw))
    return torch.cat([value.nearness for value in depth.stream(cut_up(numbered(frames), size, shots))])


def per_frame_range(raw: Tensor) -> Tensor:
    low, high = raw.amin(dim=(1, 2, 3), keepdim=True), raw.amax(dim=(1, 2, 3), keepdim=True)
    return (raw - low) / (high - low)


def flicker(nearness: Tensor) -> float:
    """Mean absolute second difference over time."""
    return float((nearness[2:] - 2 * nearness[1:-1] + nearness[:-2]).abs().mean())


def test_a_wandering_scale_and_offset_leave_no_trace():
    frames = texture(HEIGHT, WIDTH, 0).expand(FRAMES, -1, -1, -1)
    generator = torch.Generator().manual_seed(1)
    scale = 3 + torch.rand(FRAMES, 1, 1, 1, generator=generator)
    offset = 5 * torch.rand(FRAMES, 1, 1, 1, generator=generator)
    nearness = stabilised(frames, scale * true_depth() + offset)
    # float32 rounding of values near 8, chained over 8 frames; a 16 bit disparity map of 50 px would not show it
    assert (nearness - nearness[:1]).abs().max() < 5e-4


def test_shimmer_on_a_static_scene_drops_more_than_five_fold():
    frames = texture(HEIGHT, WIDTH, 0).expand(FRAMES, -1, -1, -1)
    generator = torch.Generator().manual_seed(1)
    scale = 3 + torch.rand(FRAMES, 1, 1, 1, generator=generator)
    raw = scale * (true_depth() + noise(FRAMES, 0.03, 2)) + 5
    assert flicker(per_frame_range(raw)) > 5 * flicker(stabilised(frames, raw))


def test_shimmer_under_a_moving_camera_drops_three_fold():
    wide = texture(HEIGHT, WIDTH + 2 * FRAMES, 0)
    depth = F.pad(true_depth(), (0, 2 * FRAMES, 0, 0), mode="replicate")
    frames = torch.stack([wide[..., 2 * t : 2 * t + WIDTH] for t in range(FRAMES)])
    clean = torch.cat([depth[..., 2 * t : 2 * t + WIDTH] for t in range(FRAMES)])
    before = noise(FRAMES, 0.05, 3)
    after = stabilised(frames, clean + before) - stabilised(frames, clean)
    inner = slice(12, -12)  # at the sides the camera brings in what no other frame shows
    assert flicker(after[..., inner]) < flicker(before[..., inner]) / 3


def test_what_stands_still_amid_motion_is_read_where_it_stands():
    """A camera follows something plain: on so small a grid the flow there is that of what passes by."""
    wide = texture(HEIGHT, WIDTH + 2 * FRAMES, 0)
    frames = torch.stack([wide[..., 2 * t : 2 * t + WIDTH] for t in range(FRAMES)])
    depth = torch.linspace(0, 1, HEIGHT).view(1, 1, HEIGHT, 1).repeat(1, 1, 1, WIDTH)
    frames[..., 16:32, 24:40] = 0.5
    depth[..., 16:32, 24:40] = torch.linspace(0.2, 0.8, 16)
    raw = depth + noise(FRAMES, 0.01, 2)
    (clip,) = cut_up(frames, FRAMES)
    related = temporal.relate(clip, raw, before=None)
    inside = (..., slice(19, 29), slice(27, 37))  # past the square over which colours are compared
    assert related.to_previous[1:][inside].norm(dim=1).mean() > 1
    steadied = temporal.stabilise(related, slice(0, FRAMES))
    # read where the flow leads, it flickers more than without any filter
    assert flicker(per_frame_range(raw)[inside]) > 10 * flicker(steadied[inside])


def test_a_moving_edge_leaves_no_ghost():
    background, front = texture(HEIGHT, WIDTH, 0) * 0.4, 0.6 + texture(HEIGHT, WIDTH, 1) * 0.4
    frames, depth = [], []
    for t in range(FRAMES):
        mask = torch.zeros(1, HEIGHT, WIDTH)
        mask[:, 12:36, 2 * t : 2 * t + 16] = 1
        shifted = torch.roll(front, 2 * t, dims=-1)
        frames.append(mask * shifted + (1 - mask) * background)
        depth.append((0.2 + 0.6 * mask).unsqueeze(0))
    nearness = stabilised(torch.stack(frames), torch.cat(depth))
    truth = F.max_pool2d((torch.cat(depth) - 0.2) / 0.6, (1, 3), 1, (0, 1))  # with its outline (`outlines`)
    wrong = (nearness - truth).abs() > 0.25
    # a ghost would be a strip 2 px wide for each of four frames; the edge's own pixel column may blend
    assert wrong.float().mean() < 0.01
    ring = F.max_pool2d(truth, 5, 1, 2) - truth  # background within 2 px of the object
    far = (ring == 0) & (truth == 0)
    assert nearness[far].max() < 0.2


def test_what_appears_suddenly_is_neither_foreseen_nor_faded_in():
    frames = texture(HEIGHT, WIDTH, 0).expand(FRAMES, -1, -1, -1).clone()
    depth = torch.full((FRAMES, 1, HEIGHT, WIDTH), 0.2)
    depth[:, :, -4:] = 0.9  # keeps the range the same all the while
    frames[10:, :, 12:30, 20:44] = 1 - texture(18, 24, 1)
    depth[10:, :, 12:30, 20:44] = 0.8
    truth = (depth - 0.2) / 0.7
    nearness = stabilised(frames, depth)
    inside = (slice(14, 28), slice(22, 42))  # two pixels in, past the square over which colours are compared
    # colours that differ by half weigh (1 + 6^2)^-2 of their own; eight such neighbours against one
    assert nearness[9, 0][inside].max() < 0.1
    assert (nearness[10, 0][inside] - truth[10, 0][inside]).abs().max() < 0.1


@pytest.mark.parametrize("size", [3, 7, FRAMES])
def test_the_result_does_not_depend_on_the_clips(size: int):
    frames = torch.stack([torch.roll(texture(HEIGHT, WIDTH, 0), t, dims=-1) for t in range(FRAMES)])
    raw = torch.cat([torch.roll(true_depth(), t, dims=-1) for t in range(FRAMES)]) + noise(FRAMES, 0.05, 4)
    shots = (9,)
    assert torch.equal(stabilised(frames, raw, size, shots), stabilised(frames, raw, 1, shots))


def test_a_frame_depends_on_nothing_beyond_the_declared_reach():
    frames = texture(HEIGHT, WIDTH, 0).expand(2 * FRAMES, -1, -1, -1).clone()
    raw = true_depth() + noise(2 * FRAMES, 0.05, 5)
    whole = stabilised(frames, raw)
    middle = FRAMES
    changed, changed_frames = raw.clone(), frames.clone()
    for outside in (slice(0, middle - NetworkDepth.lookback), slice(middle + NetworkDepth.lookahead + 1, None)):
        changed[outside] = changed[outside] * 2 - 1
        changed_frames[outside] = 1 - changed_frames[outside]
    assert torch.equal(stabilised(changed_frames, changed)[middle], whole[middle])
    assert not torch.equal(stabilised(changed_frames, changed)[0], whole[0])


def test_a_cut_starts_afresh():
    frames = torch.cat([texture(HEIGHT, WIDTH, seed).expand(10, -1, -1, -1) for seed in (0, 1)])
    raw = torch.cat([true_depth() + noise(10, 0.05, 6), 40 * true_depth().flip(-2) + noise(10, 0.05, 7)])
    both = stabilised(frames, raw, shots=(10,))
    second = NetworkDepth(Scripted(raw))
    alone = torch.cat([v.nearness for v in second.stream(cut_up(numbered(frames)[10:], 4))])
    assert torch.equal(both[10:], alone)


def test_nearness_stays_in_range_and_fills_it():
    frames = texture(HEIGHT, WIDTH, 0).expand(FRAMES, -1, -1, -1)
    nearness = stabilised(frames, (100 * true_depth() - 30).expand(FRAMES, -1, -1, -1))
    assert nearness.min() == 0
    assert nearness.max() == 1
    # 1 % of the pixels at either end may be clipped
    assert (nearness == 0).float().mean() < 0.05


@pytest.mark.parametrize("value", [0.0, 7.0, -3.0])
def test_constant_depth_lies_in_the_middle(value: float):
    frames = texture(HEIGHT, WIDTH, 0).expand(4, -1, -1, -1)
    nearness = stabilised(frames, torch.full((4, 1, HEIGHT, WIDTH), value))
    assert torch.equal(nearness, torch.full_like(nearness, 0.5))


def test_a_single_frame_is_a_shot():
    nearness = stabilised(texture(HEIGHT, WIDTH, 0).unsqueeze(0), true_depth())
    assert nearness.shape == (1, 1, HEIGHT, WIDTH)
    assert nearness.max() == 1


def test_a_batch_on_a_gpu_would_see_the_same_pairs():
    """`relate` and `stabilise` give the same for all frames at once as frame by frame."""
    frames = torch.stack([torch.roll(texture(HEIGHT, WIDTH, 0), t, dims=-1) for t in range(9)])
    raw = true_depth() + noise(9, 0.05, 8)
    (clip,) = cut_up(frames, 9)
    with SingleThreaded(2) as pool:
        single = temporal.relate(clip, raw, before=None, each=pool)
    batch = temporal.relate(clip, raw, before=None)
    # sums over a batch may be split differently: a few units in the last place
    torch.testing.assert_close(batch.gain, single.gain, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(batch.to_previous, single.to_previous, rtol=1e-4, atol=1e-4)
    together = temporal.stabilise(single, slice(0, 9))
    apart = torch.cat([temporal.stabilise(single, slice(t, t + 1)) for t in range(9)])
    assert torch.equal(together, apart)


def test_flow_follows_a_known_shift():
    wide = texture(HEIGHT + 20, WIDTH + 20, 0).mean(dim=0, keepdim=True).unsqueeze(0)
    first = wide[..., 10 : 10 + HEIGHT, 10 : 10 + WIDTH]
    second = wide[..., 7 : 7 + HEIGHT, 5 : 5 + WIDTH]
    found = motion.flow(first, second)[0, :, 8:-8, 8:-8]
    # first[y, x] is second[y + 3, x + 5]; smoothing and texture leave a fifth of a pixel
    assert (found[0] - 5).abs().median() < 0.2
    assert (found[1] - 3).abs().median() < 0.2


def test_sampling_reads_where_the_flow_leads():
    image = torch.arange(12.0).view(1, 1, 3, 4)
    ones = torch.ones(1, 1, 3, 4)
    right = torch.cat((ones, 0 * ones), dim=1)
    # grid_sample's own rounding of coordinates
    assert (motion.sample(image, right)[..., :3] - image[..., 1:]).abs().max() < 1e-5
    assert motion.inside(right)[0, 0, 0].tolist() == [1, 1, 1, 0]


@pytest.mark.parametrize("threads", [1, 2])
def test_the_network_answers_alike_for_any_number_of_threads(threads: int):
    frames = torch.stack([F.interpolate(texture(36, 64, seed)[None], scale_factor=4)[0] for seed in range(3)])
    before = torch.get_num_threads()
    network = TinyNetwork(device=torch.device("cpu"))  # as large as in use: small sums are not split
    try:
        torch.set_num_threads(threads)
        found = torch.cat([v.nearness for v in NetworkDepth(network).stream(cut_up(frames, 3))])
        torch.set_num_threads(3 - threads)
        other = torch.cat([v.nearness for v in NetworkDepth(network).stream(cut_up(frames, 2))])
        assert torch.get_num_threads() == 3 - threads
    finally:
        torch.set_num_threads(before)
    assert torch.equal(found, other)
