"""The depth stage's compiled loops do what their PyTorch twins do, and the encoder is torchvision's MobileNetV2."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.models import mobilenet_v2

from spatialme.depth import edges, edges_numba, motion, motion_numba, temporal
from spatialme.depth.mobilenet import mobilenet_features
from spatialme.shots import to_arrays
from spatialme.types import Clip, cut

HEIGHT, WIDTH = 54, 80


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def smooth(count: int, channels: int, seed: int) -> Tensor:
    """(count, channels, HEIGHT, WIDTH) blobs some eight pixels wide."""
    coarse = random(count, channels, HEIGHT // 8, WIDTH // 8, seed=seed)
    return F.interpolate(coarse, size=(HEIGHT, WIDTH), mode="bicubic", align_corners=False).clamp(0, 1)


def moving(images: Tensor, count: int) -> Tensor:
    """(count, C, HEIGHT, WIDTH): one picture that moves by 2 px right and 1 down per frame."""
    return torch.cat([images.roll((t, 2 * t), dims=(-2, -1)) for t in range(count)])


def shot(count: int) -> temporal.RawDepth:
    """A shot under a moving camera whose depth wanders in scale and offset, and is noisy."""
    generator = torch.Generator().manual_seed(5)
    gain, offset = (torch.rand(count, 1, 1, 1, generator=generator) for _ in range(2))
    depth = moving(smooth(1, 1, 1), count) + 0.1 * smooth(count, 1, 2)
    clip = Clip(moving(smooth(1, 3, 3), count), (None,) * count, 0, 0, True, True)
    return temporal.relate(clip, 40 * ((1 + gain) * depth + offset), before=None)


def test_the_encoder_is_torchvisions():
    theirs, ours = mobilenet_v2(weights=None).features[:18].eval(), mobilenet_features().eval()
    assert list(theirs.state_dict()) == list(ours.state_dict())
    ours.load_state_dict({n: v + 0.1 * random(*v.shape) if v.dtype.is_floating_point else v
                          for n, v in theirs.state_dict().items()})  # fmt: skip
    theirs.load_state_dict(ours.state_dict())
    images = random(1, 3, 64, 96)
    for mine, other in zip(ours, theirs):
        assert torch.equal(mine(images), other(images))
        images = other(images)


def test_a_conversion_starts_without_torchs_compiler():
    """torchvision alone would bring it in: three seconds of a start of three."""
    names = "[name for name in ('torch._dynamo', 'torchvision') if name in sys.modules]"
    code = f"import sys, spatialme.job, spatialme.depth.tiny; print({names})"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


@pytest.mark.parametrize("size", [(HEIGHT, WIDTH), (6, 9), (2, 1)])
@pytest.mark.parametrize("radius", [1, 2, 4])
def test_a_box_is_an_average(size: tuple[int, int], radius: int):
    image = random(1, 1, *size)
    found = image.clone()[0, 0].numpy()
    motion_numba.box(found, radius, np.empty_like(found), found)
    # sums of at most 81 numbers in another order
    np.testing.assert_allclose(found, motion.box(image, radius)[0, 0].numpy(), rtol=1e-5)


def test_flow_is_refined_alike():
    first, second = moving(smooth(1, 1, 1), 2).split(1)
    start = torch.cat((1.5 + smooth(1, 1, 2), 0.5 + smooth(1, 1, 3)), dim=1)
    fast, plain = motion.refine_numba(first, second, start), motion.refine_torch(first, second, start)
    # rounding grows in patches without texture, and where the clamped step just clamps
    torch.testing.assert_close(fast, plain, rtol=0, atol=2e-3)
    assert (fast - start).abs().max() > 0.3
    assert (fast[0, :, 8:-8, 8:-8].flatten(1).median(dim=1).values - torch.tensor([2.0, 1.0])).abs().max() < 0.1


def test_flow_of_a_batch_is_that_of_its_pictures():
    frames = moving(smooth(1, 1, 1), 3)
    both = motion.flow(frames[:2], frames[1:])
    assert torch.equal(both[1:], motion.flow(frames[1:2], frames[2:]))


def test_flow_stays_finite_where_it_leads_far_outside():
    first = smooth(2, 1, 1)
    start = torch.full((2, 2, HEIGHT, WIDTH), 1e30)
    assert motion.refine_numba(first, first, start).isfinite().all()


@pytest.mark.parametrize("core", [slice(0, 1), slice(8, 10), slice(15, 17)])
def test_neighbours_are_averaged_alike(core: slice):
    raw = shot(17)
    for fast, plain in zip(temporal.average_numba(raw, core), temporal.average_torch(raw, core)):
        # float32 of values near 100, chained over 8 frames
        torch.testing.assert_close(fast, plain, rtol=0, atol=2e-3)
    own = raw.inverse[core]
    assert (temporal.average_numba(raw, core)[2] - own).abs().max() > 1


def test_averaging_starts_from_any_window():
    raw = shot(20)
    whole = temporal.average_numba(raw, slice(9, 11))
    window = temporal.average_numba(cut(raw, 1, 19), slice(8, 10))
    assert all(torch.equal(one, other) for one, other in zip(whole, window))


@pytest.mark.parametrize("size", [(HEIGHT, WIDTH), (7, 5), (1, 2)])
@pytest.mark.parametrize("radius", [edges.PIXEL_RADIUS, edges.RAMP_RADIUS])
def test_neighbourhoods_are_described_alike(size: tuple[int, int], radius: int):
    nearness = random(2, 1, *size)
    fast = [np.empty((2, *size), np.float32) for _ in range(4)]
    edges_numba.neighbourhood(nearness[:, 0].numpy(), radius, edges.LIMITS, *fast)
    for mine, plain in zip(fast, edges.neighbourhood(nearness, radius)):
        np.testing.assert_allclose(mine, plain[:, 0].numpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("size", [(HEIGHT, WIDTH), (3 * HEIGHT, 4 * WIDTH - 1), (20, 30)])
def test_pixels_take_the_nearness_of_their_colour_alike(size: tuple[int, int]):
    nearness, guide = (smooth(2, 1, 1) > 0.5).float(), smooth(2, 3, 2)
    colours = F.interpolate(guide, size=size, mode="bilinear", align_corners=False)
    fast, plain = (joint(nearness, guide, colours, 2) for joint in (edges.joint_numba, edges.joint_torch))
    torch.testing.assert_close(fast, plain, rtol=0, atol=1e-5)  # sums in another order


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_images_for_the_encoder_are_rounded_as_on_a_gpu(dtype: type):
    view = 1.2 * random(2, 3, 9, 14) - 0.1
    levels = view.clamp(0, 1).mul(float(np.iinfo(dtype).max)).add(0.5).to(torch.int32)
    for found, expected in zip(to_arrays(view, dtype), levels.permute(0, 2, 3, 1).numpy()):
        assert found.dtype == dtype
        np.testing.assert_array_equal(found, expected)
    assert np.array_equal(to_arrays(view.flip(-1), dtype)[0], to_arrays(view, dtype)[0][:, ::-1])
