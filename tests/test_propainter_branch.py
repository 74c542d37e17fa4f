"""The `propainter` branches: published order, streaming, what may be skipped, flow, weights."""

from __future__ import annotations

import importlib.util
import itertools
import weakref
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import spatialme_propainter as propainter
import torch
import torch.nn.functional as F
from spatialme_propainter import painter, schedule, shot
from spatialme_propainter.decoding import decode_tiles, tiles_with_holes
from spatialme_propainter.upsampling import UpsampledConv
from torch import Tensor, nn

from spatialme import weights
from spatialme.errors import WeightsError
from spatialme.flow import FlowEstimator, carry_flow
from spatialme.flow.dis import Dis
from spatialme.flow.raft import Raft
from spatialme.inpaint.propainter import (
    Propainter,
    PropainterExpansion,
    _load_networks,
    open_propainter,
    open_propainter_expansion,
    ready,
)
from spatialme.inpaint.propainter_flow import FullSizeRaft
from spatialme.inpaint.propainter_input import prepare_input
from spatialme.types import Motion, WarpedClip, cut, join
from tests.scenes import LayeredScene, square_scene, true_warped_clip
from tests.seeded_weights import seeded_state

CPU = torch.device("cpu")
FLOAT_PARITY = 1e-4  # float32 sums in another order
SHORT = propainter.Schedule(flow_length=6, flow_padding=2, image_length=8, image_padding=3)


@pytest.fixture(autouse=True)
def _inference_on_one_thread() -> Iterator[None]:
    """Maps this small gain nothing from threads, and lose a factor of ten to their barriers on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.inference_mode():
        yield
    torch.set_num_threads(threads)


def _seeded(network: nn.Module):
    shapes = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    network.load_state_dict(network.state_dict() | seeded_state(shapes))
    return network.eval()


@pytest.fixture(scope="module")
def networks() -> propainter.Networks:
    return propainter.Networks(_seeded(propainter.InpaintGenerator()), _seeded(propainter.FlowCompletion()))


class QuickGenerator(propainter.InpaintGenerator):
    """The network with means for its slow parts; still every frame of a window has a say in the result."""

    def __init__(self) -> None:
        super().__init__()
        layers = (UpsampledConv(128, 4), nn.LeakyReLU(0.2), nn.Conv2d(4, 4, 3, padding=1), nn.LeakyReLU(0.2))
        self.decoder = nn.Sequential(*layers, UpsampledConv(4, 4), nn.LeakyReLU(0.2), nn.Conv2d(4, 3, 3, padding=1))

    def encode(self, frames, masks, masks_updated):
        return F.avg_pool2d(torch.cat((frames, masks.float(), masks_updated.float()), dim=1), 4).repeat(1, 26, 1, 1)[
            :, :128
        ]

    def propagate(self, features, masks, flows_forward, flows_backward):
        return features + features.mean(dim=1, keepdim=True)

    def tokenise(self, features):
        rows, columns = (-(-side // 3) for side in features.shape[3:])
        return features.mean(dim=(2, 3, 4)).view(*features.shape[:2], 1, 1, 1).expand(-1, -1, rows, columns, 512)

    def transform(self, tokens, plan, *, feature_size, num_local_frames):
        return tokens.mean().expand(1, num_local_frames, 128, *feature_size)


class QuickCompletion(propainter.FlowCompletion):
    """Inside holes, the mean of what the piece knows."""

    def forward(self, masked_flows, masks):
        return masked_flows.mean(dim=(1, 3, 4), keepdim=True).expand_as(masked_flows)


@pytest.fixture(scope="module")
def quick() -> propainter.Networks:
    return propainter.Networks(_seeded(QuickGenerator()), _seeded(QuickCompletion()))


def shot_frames(num_frames: int, *, height: int = 48, width: int = 64, seed: int = 0) -> list[propainter.ShotFrame]:
    """Random frames with smooth flow at frame size, and a hole that half moves with it."""
    draw = torch.Generator().manual_seed(seed)
    colours = torch.rand(num_frames, 3, height, width, generator=draw) * 2 - 1
    coarse = 2 * torch.randn(num_frames, 2, 3, 4, generator=draw)
    forward = F.interpolate(coarse, size=(height, width), mode="bicubic")
    holes = torch.zeros(num_frames, 1, height, width, dtype=torch.bool)
    for t in range(num_frames):
        left = 10 + t % 20
        holes[t, :, height // 4 : height // 2, left : left + 9] = True
    backward = -0.9 * forward.roll(1, 0)
    return [propainter.ShotFrame(c * ~h, h, f, b, h) for c, h, f, b in zip(colours, holes, forward, backward)]


def square_clip(frames: int = 12, *, width: int = 60, height: int = 44) -> WarpedClip:
    """A moving square of known motion, at a size that no network takes as it is."""
    scene = square_scene(
        width=width,
        height=height,
        frames=frames,
        square_size=18,
        square_velocity=(1.0, 0.0),
        background_velocity=(-0.5, 0.5),
        max_disparity_percent=10,
    )
    return replace(true_warped_clip(scene), motion=true_motion(scene))


def true_motion(scene: LayeredScene) -> Motion:
    return Motion(scene.flow_forward, scene.flow_backward, scene.forward_visible, scene.backward_visible)


def in_pieces(clip: WarpedClip, size: int) -> list[WarpedClip]:
    return [cut(clip, i, min(i + size, len(clip))) for i in range(0, len(clip), size)]


# --- the published order ----------------------------------------------------------------------------------------------


def published_windows(num_frames: int, subvideo_length: int = 80) -> list[tuple[list[int], list[int]]]:
    """ALGORITHMS.md, section 4 step 4, word by word."""
    found = []
    for f in range(0, num_frames, 5):
        local = [i for i in range(f - 5, f + 6) if 0 <= i < num_frames]
        if num_frames <= subvideo_length:
            others = [i for i in range(0, num_frames, 10) if i not in local]
        else:
            start, end = max(0, f - 40), min(num_frames, f + 40)
            others = [i for i in range(start, end, 10) if i not in local]
        found.append((local, others))
    return found


@pytest.mark.parametrize("num_frames", [1, 5, 6, 80, 81, 200])
def test_windows_and_references_are_the_published_ones(num_frames):
    found = []
    for centre in range(0, num_frames, schedule.WINDOW_STEP):
        others = schedule.references(centre, num_frames, whole=num_frames <= propainter.PUBLISHED.whole_up_to)
        found.append((list(schedule.neighbours(centre, num_frames)), others))
    assert found == published_windows(num_frames)
    if num_frames == 200:
        assert found[20] == (list(range(95, 106)), [60, 70, 80, 90, 110, 120, 130])


@pytest.mark.parametrize("padding", [0, 3, 5, 9])
@pytest.mark.parametrize("num_items", [0, 1, 4, 5, 6, 10, 23])
def test_sub_videos_lie_on_a_grid_from_the_first_item(num_items, padding):
    wanted = []
    for start in range(0, num_items, 5):
        first, last = max(0, start - padding), min(num_items, start + 5 + padding)
        wanted.append((list(range(first, last)), list(range(start, min(num_items, start + 5)))))
    found = [(piece, piece[core]) for piece, core in schedule.sub_videos(iter(range(num_items)), 5, padding)]
    assert found == wanted


def published_loop(
    frames: list[propainter.ShotFrame], networks: propainter.Networks, plan: propainter.Schedule
) -> np.ndarray:
    """The published inference, stated again with whole tensors, and the network called as a whole in every window."""
    count = len(frames)
    colours, holes = torch.stack([f.colour for f in frames]), torch.stack([f.hole for f in frames]).float()
    forward = torch.stack([f.flow_forward for f in frames])[:-1]
    backward = torch.stack([f.flow_backward for f in frames])[1:]
    completed = torch.empty(2, count - 1, *forward.shape[1:])
    for start in range(0, count - 1, plan.flow_length):
        end = min(start + plan.flow_length, count - 1)
        first, last = max(0, start - plan.flow_padding), min(end + plan.flow_padding, count - 1)
        part = networks.flow_completion.complete(
            forward[None, first:last], backward[None, first:last], holes[None, first : last + 1]
        )
        completed[:, start:end] = torch.cat(part)[:, start - first : end - first]
    filled, unfilled = torch.empty_like(colours), torch.empty_like(holes)
    for start in range(0, count, plan.image_length):
        end = min(start + plan.image_length, count)
        first, last = max(0, start - plan.image_padding), min(end + plan.image_padding, count)
        flows = completed[:, None, first : last - 1]
        results = propainter.propagate_images(colours[None, first:last], holes[None, first:last], *flows)
        filled[start:end], unfilled[start:end] = (part[0, start - first : end - first] for part in results)
    composed: list[np.ndarray | None] = [None] * count
    for local, others in published_windows(count, plan.whole_up_to):
        seen = [*local, *others]
        flows = completed[:, None, local[0] : local[-1]]
        painted = networks.generator(
            filled[None, seen], (flows[0], flows[1]), holes[None, seen], unfilled[None, seen], len(local)
        )
        for index, image in zip(local, ((painted[0] + 1) / 2 * 255).numpy().astype(np.uint8)):
            known = composed[index]
            image = image.astype(np.float32)
            composed[index] = (image if known is None else known * 0.5 + image * 0.5).astype(np.uint8)
    return np.stack([image for image in composed if image is not None])


@pytest.mark.parametrize(("num_frames", "plan"), [(12, propainter.PUBLISHED), (19, SHORT)])
def test_exact_mode_is_the_published_loop(networks, num_frames, plan):
    frames = shot_frames(num_frames)
    wanted = published_loop(frames, networks, plan)
    found = torch.stack(list(propainter.inpaint_shot(frames, networks, plan, as_published=True)))
    difference = (found * 255).round().numpy() - wanted
    # kept features differ by float rounding, which moves a value over a step of the 8 bits now and then
    assert np.abs(difference).max() <= 1
    assert (difference != 0).mean() < 1e-3


def test_default_mode_differs_from_the_published_one_by_blending_alone(networks):
    """With one window per frame there is nothing to blend: frames 0-4 of a shot of five."""
    frames = shot_frames(5)
    exact = list(propainter.inpaint_shot(frames, networks, propainter.PUBLISHED, as_published=True))
    found = list(propainter.inpaint_shot(frames, networks, propainter.Schedule()))
    for frame, one, other in zip(frames, exact, found):
        within = frame.hole.expand_as(one)
        assert (one - other)[within].abs().max() <= 1 / 255 + FLOAT_PARITY  # cut to 8 bits


# --- streaming --------------------------------------------------------------------------------------------------------


def test_only_holes_are_painted_and_none_is_left(networks):
    clip = square_clip(6)
    branch = Propainter(networks)
    (filled,) = branch.stream([clip])
    assert torch.equal(filled.hole, clip.hole)
    known = ~clip.hole.expand_as(clip.view)
    assert torch.equal(filled.view[known], clip.view[known])
    inside = filled.view[~known]
    assert inside.isfinite().all()
    assert 0 <= inside.min() <= inside.max() <= 1
    assert not torch.equal(inside, clip.view[~known])


@pytest.mark.parametrize("exact", [False, True])
def test_result_does_not_depend_on_clip_cuts(quick, exact):
    clip = square_clip(14)
    branch = Propainter(quick, exact=exact)
    (whole,) = branch.stream([clip])
    for size in (1, 4):
        pieces = list(branch.stream(in_pieces(clip, size)))
        assert [len(piece) for piece in pieces] == [len(piece) for piece in in_pieces(clip, size)]
        assert torch.equal(join(pieces).view, whole.view)


def test_a_cut_separates_shots(quick):
    first, second = square_clip(8), square_clip(11)
    second = replace(second, clip=replace(second.clip, shot=1, first_index=8))
    branch = Propainter(quick)
    together = list(branch.stream([*in_pieces(first, 3), *in_pieces(second, 4)]))
    (alone,), (other,) = branch.stream([first]), branch.stream([second])
    assert torch.equal(join(together[:3]).view, alone.view)
    assert torch.equal(join(together[3:]).view, other.view)


@pytest.mark.parametrize("frames", [1, 2])
def test_shortest_shots(networks, frames):
    clip = square_clip(frames)
    (filled,) = Propainter(networks).stream([clip])
    assert filled.view.shape == clip.view.shape
    assert filled.view.isfinite().all()


def test_a_frame_depends_on_no_more_than_the_declared_frames(quick):
    plan = propainter.Schedule(flow_length=4, flow_padding=2, image_length=5, image_padding=4)
    frames = shot_frames(130, height=32, width=32)
    wanted = list(propainter.inpaint_shot(frames, quick, plan))
    changed = frames.copy()
    at = 64
    changed[at] = replace(frames[at], colour=-frames[at].colour, flow_forward=5 - frames[at].flow_forward)
    found = list(propainter.inpaint_shot(changed, quick, plan))
    differs = [t for t in range(130) if not torch.equal(found[t], wanted[t])]
    assert at in differs
    assert at - plan.lookahead <= min(differs)
    assert max(differs) <= at + plan.lookback
    # the bounds are no empty promise: references reach 30 and 40 frames
    assert min(differs) <= at - 30
    assert max(differs) >= at + 40


@pytest.mark.parametrize("plan", [propainter.Schedule(), SHORT, replace(SHORT, whole_up_to=20)])
def test_no_more_frames_are_taken_than_declared(quick, plan):
    taken = 0

    def counted() -> Iterator[propainter.ShotFrame]:
        nonlocal taken
        for frame in itertools.islice(itertools.cycle(shot_frames(20, height=16, width=16)), 150):
            taken += 1
            yield frame

    ahead = [taken - 1 - t for t, _ in enumerate(propainter.inpaint_shot(counted(), quick, plan))]
    assert len(ahead) == 150
    assert max(ahead) == plan.lookahead


def test_memory_does_not_grow_with_the_shot(quick, monkeypatch):
    alive = 0

    def tracked(value):
        nonlocal alive
        alive += 1
        weakref.finalize(value, died)
        return value

    def died() -> None:
        nonlocal alive
        alive -= 1

    linked, updated = shot.LinkedFrame, painter.UpdatedFrame
    monkeypatch.setattr(shot, "LinkedFrame", lambda *fields: tracked(linked(*fields)))
    monkeypatch.setattr(shot, "UpdatedFrame", lambda **fields: tracked(updated(**fields)))

    def most_alive(num_frames: int) -> int:
        source = itertools.islice(itertools.cycle(shot_frames(20, height=16, width=16)), num_frames)
        painted = propainter.inpaint_shot((tracked(replace(frame)) for frame in source), quick, propainter.Schedule())
        return max(alive for _ in painted)

    # pieces of flow and of frames with their context, and references that reach 40 frames ahead
    assert most_alive(200) == most_alive(140) < 120
    assert alive == 0


def test_features_and_tokens_are_dropped_behind_the_window(quick, monkeypatch):
    counts = []

    class Counting(painter._Shot):
        def leave(self, centre):
            super().leave(centre)
            kept = [*self.features.values(), *self._tokens.values()]
            assert all(each.untyped_storage().nbytes() == each.numel() * each.element_size() for each in kept)
            counts.append((len(self.features), len(self._tokens)))

    monkeypatch.setattr(painter, "_Shot", Counting)
    list(propainter.inpaint_shot(shot_frames(120, height=16, width=16), quick, propainter.Schedule()))
    # features of this centre, five neighbours after it and the references ahead; tokens of every fifth frame around
    assert max(features for features, _ in counts) <= 6 + 7
    assert max(tokens for _, tokens in counts) <= 8 + 8


def test_frames_encoded_in_portions_are_painted_alike(networks, monkeypatch):
    frames = shot_frames(7, height=32, width=48)
    whole = list(propainter.inpaint_shot(frames, networks, propainter.Schedule()))
    sizes = []
    encode = networks.generator.encode
    monkeypatch.setattr(networks.generator, "encode", lambda *maps: [sizes.append(len(maps[0])), encode(*maps)][1])
    monkeypatch.setattr(painter, "ENCODED_PIXELS", 2 * 32 * 48)
    portioned = list(propainter.inpaint_shot(frames, networks, propainter.Schedule()))
    assert sizes == [2, 2, 2, 1]
    torch.testing.assert_close(torch.stack(portioned), torch.stack(whole), atol=1e-5, rtol=0)


def test_linked_frames_keep_nothing_but_themselves(quick):
    for each in shot.complete_flows(shot_frames(25, height=16, width=16), quick.flow_completion, propainter.Schedule()):
        assert each.flows is None or each.flows.untyped_storage().nbytes() == each.flows.numel() * 4


def test_a_clip_without_motion_is_refused(quick):
    with pytest.raises(ValueError, match="without motion cannot be carried"):
        list(Propainter(quick).stream([replace(square_clip(2), motion=None)]))


def test_a_schedule_without_frames_is_refused():
    with pytest.raises(ValueError, match="at least one frame and no negative padding"):
        propainter.Schedule(flow_length=0)
    with pytest.raises(ValueError, match="at least one frame and no negative padding"):
        propainter.Schedule(image_padding=-1)


# --- what is kept, shared and skipped ---------------------------------------------------------------------------------


def test_every_frame_is_encoded_once(quick, monkeypatch):
    encoded = 0
    encode = QuickGenerator.encode

    def counting(self, frames, masks, updated):
        nonlocal encoded
        encoded += len(frames)
        return encode(self, frames, masks, updated)

    monkeypatch.setattr(QuickGenerator, "encode", counting)
    list(propainter.inpaint_shot(shot_frames(96, height=16, width=16), quick, propainter.Schedule()))
    assert encoded == 96


@pytest.mark.parametrize("size", [(18, 32), (40, 33), (45, 17)])
def test_decoded_tiles_equal_the_whole_decoded_frame(networks, size):
    generator = networks.generator
    draw = torch.Generator().manual_seed(1)
    features = torch.randn(2, 128, *size, generator=draw)
    holes = torch.zeros(2, 1, 4 * size[0], 4 * size[1])
    holes[0, :, 3:5, -1] = 1
    holes[1, :, 63:65, 5] = 1
    tiles = tiles_with_holes(holes)
    assert int(tiles.sum()) == 3
    nothing = list(torch.full((2, 3, *holes.shape[2:]), 9.0))
    found = torch.stack(decode_tiles(generator.decoder, features, tiles, nothing))
    wanted = generator.decode(features[None])[0]
    within = F.interpolate(tiles[:, None].float(), scale_factor=64)[..., : holes.shape[2], : holes.shape[3]] > 0
    torch.testing.assert_close(found[within.expand_as(found)], wanted[within.expand_as(found)], atol=1e-5, rtol=0)
    assert (found[~within.expand_as(found)] == 9).all()


def test_decoding_tiles_never_waits_for_the_device():
    # tensors on the meta device have no values: whatever would read one back raises
    with torch.device("meta"):
        decoder = propainter.InpaintGenerator().decoder
        features, colours = torch.empty(2, 128, 18, 32), list(torch.empty(2, 3, 72, 128))
    painted = decode_tiles(decoder, features, torch.tensor([[[True, False]] * 2, [[False, False]] * 2]), colours)
    assert painted[0].shape == (3, 72, 128)
    assert painted[1] is colours[1]


def test_decoding_tiles_alone_changes_nothing_inside_holes(networks, monkeypatch):
    frames = shot_frames(6, height=32, width=48)
    found = list(propainter.inpaint_shot(frames, networks, propainter.Schedule()))
    monkeypatch.setattr(painter, "_paint", painter._paint_whole)
    wanted = list(propainter.inpaint_shot(frames, networks, propainter.Schedule()))
    for frame, one, other in zip(frames, found, wanted):
        torch.testing.assert_close(one * frame.hole, other * frame.hole, atol=FLOAT_PARITY, rtol=0)


def test_windows_that_propagation_has_filled_keep_the_filling(networks, monkeypatch):
    """A still background, shown by every second frame: it is copied, and no network runs."""
    texture = torch.rand(3, 32, 48) * 2 - 1
    still = torch.zeros(2, 32, 48)
    hole = torch.zeros(1, 32, 48, dtype=torch.bool)
    hole[:, 8:20, 10:20] = True
    frames = []
    for t in range(12):
        mask = hole if t % 2 else ~hole & False
        frames.append(propainter.ShotFrame(texture * ~mask, mask, still, still, mask & False))
    for part in ("encode", "propagate", "transform"):
        monkeypatch.delattr(propainter.InpaintGenerator, part)
    for colour in propainter.inpaint_shot(frames, networks, propainter.Schedule()):
        torch.testing.assert_close(colour, (texture + 1) / 2, atol=1e-6, rtol=0)  # a mean of equals


def test_overlapping_windows_are_weighted_by_distance():
    blend = painter.WeightedMean()
    for value, distance in ((0.0, 3), (1.0, 2)):
        blend.add(torch.full((3, 1, 1), value), distance)
    expected = ((3 * 0.0 + 4 * 1.0) / 7 + 1) / 2
    torch.testing.assert_close(blend.result(), torch.full((3, 1, 1), expected))


def test_half_precision_stays_close(networks):
    frames = shot_frames(3, height=32, width=48)
    wanted = list(propainter.inpaint_shot(frames, networks, propainter.Schedule()))
    halved = propainter.Networks(_seeded(propainter.InpaintGenerator()).bfloat16(), networks.flow_completion)
    coarse = [replace(frame, colour=frame.colour.bfloat16()) for frame in frames]
    for frame, one, other in zip(frames, propainter.inpaint_shot(coarse, halved, propainter.Schedule()), wanted):
        error = (one - other)[frame.hole.expand_as(one)]
        assert error.square().mean().sqrt() < 0.015  # as of the network itself, see test_propainter_networks


def test_both_branches_share_one_flow(quick):
    class Counting(Dis):
        pairs = 0

        def both_ways(self, first, second):
            self.pairs += 1
            return super().both_ways(first, second)

    method = Counting()
    clip = square_clip(6, width=120, height=88)
    moving = FlowEstimator(method).stream(in_pieces(replace(clip, motion=None), 2))
    dl = Propainter(quick)
    de = PropainterExpansion(Propainter(quick))
    assert (dl.name, de.name) == ("propainter", "propainter_expansion")
    assert dl.needs_motion
    assert de.needs_motion
    for_dl, for_de = itertools.tee(moving)
    filled = list(zip(dl.stream(for_dl), de.stream(for_de)))
    assert method.pairs == 5
    assert all(one.view.shape == other.view.shape for one, other in filled)
    assert sum(int(other.hole.sum()) for _, other in filled) > 0


# --- sizes, masks, flow -----------------------------------------------------------------------------------------------


def test_frames_are_padded_and_holes_get_a_rim():
    clip = square_clip(2)
    assert clip.motion is not None
    prepared = prepare_input(clip, clip.motion, dtype=torch.float32, flow_at_frame_size=False)
    assert prepared.colour.shape == (2, 3, 48, 64)
    wanted = F.max_pool2d(clip.hole.float(), 3, 1, 1) > 0
    assert torch.equal(prepared.hole[..., :44, :60], wanted)
    assert torch.equal(prepared.colour[..., :44, :60], (clip.view * 2 - 1) * ~wanted)
    assert (prepared.colour[prepared.hole.expand_as(prepared.colour)] == 0).all()
    wide = square_clip(1, width=1920, height=48)
    assert wide.motion is not None
    rim = prepare_input(wide, wide.motion, dtype=torch.float32, flow_at_frame_size=False).hole
    assert torch.equal(rim, F.max_pool2d(wide.hole.float(), 5, 1, 2) > 0)


@pytest.mark.parametrize("at_frame_size", [False, True])
def test_flow_on_another_grid_leads_to_the_same_place(at_frame_size):
    """A zoom: flow that is linear in the position, given on a grid of about half the frame's size."""
    clip = square_clip(1, width=120, height=84)
    y, x = torch.meshgrid(torch.arange(42) + 0.5, torch.arange(61) + 0.5, indexing="ij")
    flow = torch.stack((0.05 * x + 1, 0.1 * y - 2))[None]  # px of the 42 x 61 grid
    motion = Motion(flow, -flow, torch.ones(1, 1, 42, 61) > 0, torch.ones(1, 1, 42, 61) > 0)
    prepared = prepare_input(clip, motion, dtype=torch.float32, flow_at_frame_size=at_frame_size)
    height, width = prepared.flow_forward.shape[2:]
    assert (height, width) == ((88, 120) if at_frame_size else (48, 64))
    # the same in px of the frame, at the new grid's centres
    frame_y = (torch.arange(height) + 0.5) * 88 / height
    frame_x = (torch.arange(width) + 0.5) * 120 / width
    u = (0.05 * frame_x * 61 / 120 + 1) * 120 / 61
    v = (0.1 * frame_y * 42 / 84 - 2) * 84 / 42
    scale_x, scale_y = 120 / width, 88 / height
    inside = (..., slice(2, 80 * height // 88), slice(2, width - 2))  # not where the border is repeated
    found = prepared.flow_forward * torch.tensor((scale_x, scale_y)).view(2, 1, 1)
    wanted = torch.stack((u.expand(height, width), v[:, None].expand(height, width)))[None]
    torch.testing.assert_close(found[inside], wanted[inside], atol=1e-4, rtol=0)
    torch.testing.assert_close(prepared.flow_backward, -prepared.flow_forward)


def test_flow_can_be_estimated_on_the_warped_frames(quick):
    seen: list[Motion] = []

    class Spy(Propainter):
        def _with_motion(self, clips):
            for clip, motion in super()._with_motion(clips):
                seen.append(motion)
                yield clip, motion

    clip = replace(square_clip(5, width=120, height=88), motion=None)
    branch = Spy(quick, raft=FlowEstimator(Dis()))
    assert not branch.needs_motion
    list(branch.stream(in_pieces(clip, 2)))
    (on_view,) = FlowEstimator(Dis()).stream([replace(clip, clip=replace(clip.clip, frames=clip.view))])
    assert on_view.motion is not None
    assert torch.equal(join(seen).forward, on_view.motion.forward)


def test_raft_runs_at_frame_size_in_full_precision(tmp_path):
    from torchvision.models.optical_flow import raft_large

    torch.save(_seeded(raft_large(weights=None, progress=False)).state_dict(), tmp_path / "raft.pth")
    raft = FullSizeRaft(tmp_path / "raft.pth", CPU)
    assert raft.grid(1080, 1918) == (1080, 1920)
    assert raft.grid(90, 160) == (128, 160)
    raft._iterations = 1
    frame = raft.prepare(torch.rand(3, 128, 136))
    with torch.autocast("cpu", torch.bfloat16):
        flow, _ = raft.both_ways(frame, frame)
    assert flow.dtype == torch.float32
    assert flow.shape == (2, 128, 136)


@pytest.mark.weights
def test_carried_flow_beats_raft_on_the_holed_view():
    path = weights.find("raft-things")
    if path is None:
        pytest.skip("needs RAFT: spatialme weights fetch raft-things")
    scene = square_scene(
        width=320,
        height=180,
        frames=2,
        square_size=70,
        square_velocity=(3.0, 1.0),
        background_velocity=(-1.5, 0.5),
        max_disparity_percent=4,
    )
    clip = true_warped_clip(scene)
    (moving,) = FlowEstimator(Raft(path, CPU)).stream([clip])
    assert moving.motion is not None
    disparity = clip.source_disparity
    carried, _ = carry_flow(moving.motion, disparity, disparity.roll(-1, 0), clip.disparity, clip.hole, "forward")
    on_view = FlowEstimator(FullSizeRaft(path, CPU)).stream([replace(clip, clip=replace(clip.clip, frames=clip.view))])
    motion = next(on_view).motion
    assert motion is not None

    def error_px(flow: Tensor) -> float:
        scale = torch.tensor((320 / flow.shape[3], 180 / flow.shape[2])).view(2, 1, 1)
        at_frame_size = F.interpolate(flow, size=(180, 320), mode="bilinear") * scale
        distance = (at_frame_size - scene.flow_right_forward).norm(dim=1, keepdim=True)
        return float(distance[:1][clip.hole[:1]].mean())

    assert error_px(carried) < error_px(motion.forward)


# --- weights ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SPATIALME_WEIGHTS", str(tmp_path))
    _load_networks.cache_clear()
    yield tmp_path
    _load_networks.cache_clear()


def test_missing_weights_are_named_with_licence_and_command(cache):
    assert not ready("any")
    with pytest.raises(WeightsError) as raised:
        open_propainter(CPU)
    message = str(raised.value)
    assert "\n" not in message
    assert "ProPainter.pth (NTU S-Lab 1.0 (non-commercial))" in message
    assert "recurrent_flow_completion.pth" in message
    assert "run `spatialme weights fetch propainter --accept-licence`" in message
    assert "raft" not in message


def test_raft_weights_are_asked_for_only_when_used(cache, networks):
    torch.save(networks.generator.state_dict(), cache / "ProPainter.pth")
    torch.save(networks.flow_completion.state_dict(), cache / "recurrent_flow_completion.pth")
    assert ready("any")
    assert not ready("commercial")
    branch = open_propainter(CPU)
    assert branch.networks is open_propainter(CPU, exact=True).networks
    assert next(branch.networks.generator.parameters()).dtype == torch.float32
    expansion = open_propainter_expansion(CPU).inpainter
    assert isinstance(expansion, Propainter)
    assert expansion.networks is branch.networks
    with pytest.raises(WeightsError, match=r"needs raft-things.pth .*; run `spatialme weights fetch raft-things`"):
        open_propainter(CPU, flow="raft")


def test_commercial_use_is_refused(cache):
    with pytest.raises(
        WeightsError, match=r"non-commercial.*--licence commercial excludes; use `--inpaint propagation`"
    ):
        open_propainter(CPU, licence="commercial")


def test_damaged_weights_are_refused_in_one_line(cache):
    for name in ("ProPainter.pth", "recurrent_flow_completion.pth"):
        (cache / name).write_bytes(b"<html>")
    with pytest.raises(WeightsError, match="no readable PyTorch checkpoint; delete it and fetch it again"):
        open_propainter(CPU)


# --- the command that checks published figures ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def davis():
    path = Path(__file__).parents[1] / "benchmarks" / "propainter_davis.py"
    spec = importlib.util.spec_from_file_location("propainter_davis", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_davis_figures_are_of_whole_frames_in_8_bits(davis):
    truth = np.random.default_rng(0).integers(0, 200, (2, 16, 16, 3)).astype(np.uint8)
    found = truth + np.uint8(5)
    psnr, ssim = davis.compare(found, truth)
    assert psnr == pytest.approx(20 * np.log10(255 / 5))
    assert 0.99 < ssim < 1
    assert davis.compare(truth, truth)[1] == pytest.approx(1)


def test_davis_command_inpaints_a_folder_of_pictures(davis, networks, tmp_path):
    from torchvision.models.optical_flow import raft_large

    draw = np.random.default_rng(0)
    for folder in ("frames", "masks"):
        (tmp_path / folder).mkdir()
    for n in range(2):
        cv2.imwrite(str(tmp_path / "frames" / f"{n:05}.png"), draw.integers(0, 256, (90, 120, 3)))
    mask = np.zeros((90, 120), np.uint8)
    mask[30:40, 50:60] = 255
    cv2.imwrite(str(tmp_path / "masks" / "00000.png"), mask)
    pictures, holes = davis.read_video(tmp_path / "frames", tmp_path / "masks", (128, 128), 1)
    assert pictures.shape == (2, 128, 128, 3)
    assert holes.shape == (2, 128, 128)
    assert holes[1].sum() > holes[1, 43:56, 54:63].sum() > 0

    torch.save(_seeded(raft_large(weights=None, progress=False)).state_dict(), tmp_path / "raft.pth")
    raft = FullSizeRaft(tmp_path / "raft.pth", CPU)
    raft._iterations = 1
    painted = davis.inpaint(pictures, holes, networks, raft, CPU)
    assert np.array_equal(painted[holes == 0], pictures[holes == 0])
    assert not np.array_equal(painted[holes == 1], pictures[holes == 1])
