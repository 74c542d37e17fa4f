"""The refiner: the paper's equations term by term, its initial blend, its budgets, its file, and composition."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import save_file
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from spatialme.errors import OptionError, WeightsError
from spatialme.refine import Refiner, compose
from spatialme.refine.fuu import FeatureUpdateUnit
from spatialme.refine.mhfu import MHFU, SIZES, MHFUSize, fuse, initial_blend
from spatialme.types import Clip, WarpedClip, cut

TINY = MHFUSize(channels=(4, 6, 8))
FLOAT32 = 2e-6  # a few roundings of values in [0, 1]


def views(*, frames=2, height=20, width=28, seed=0):
    """Three branch views and a hole mask with a strip inside and one at the right edge."""
    torch.manual_seed(seed)
    hole = torch.zeros(frames, 1, height, width, dtype=torch.bool)
    hole[..., 3:15, 9:14] = True
    hole[..., -4:] = True
    return [torch.rand(frames, 3, height, width) for _ in range(3)], hole


def trained(size=TINY, seed=0):
    """A network whose every weight matters, as after training."""
    torch.manual_seed(seed)
    network = MHFU(size)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return network.eval()


def warped_clip(hole, seed=1):
    torch.manual_seed(seed)
    frames = torch.rand(len(hole), 3, *hole.shape[2:])
    clip = Clip(frames, (None,) * len(frames), first_index=0, shot=0, starts_shot=True, ends_shot=True)
    zeros = torch.zeros(hole.shape)
    return WarpedClip(clip, zeros, frames * ~hole, zeros, hole)


def test_update_unit_is_equations_4_to_7_with_three_separate_convolutions():
    torch.manual_seed(0)
    unit = FeatureUpdateUnit(5, 7)
    feature, coarse = torch.randn(2, 5, 9, 12), torch.randn(2, 7, 5, 6)
    both = torch.cat([feature, F.interpolate(coarse, (9, 12), mode="bilinear", align_corners=False)], dim=1)
    weights, biases = unit.convolutions.weight.split(5), unit.convolutions.bias.split(5)
    z, q, r = (F.conv2d(both, weight, bias, padding=1) for weight, bias in zip(weights, biases))
    z, q, r = torch.sigmoid(z), torch.tanh(q), torch.tanh(r)
    torch.testing.assert_close(unit(feature, coarse), q * z + (1 - z) * r)


def test_fuse_is_equations_1_to_3():
    (poly, expansion, dl), _ = views()
    m1, m2, m3 = torch.rand(3, 2, 1, 20, 28)
    content = torch.rand(2, 3, 20, 28)
    first = m1 * poly + (1 - m1) * expansion
    second = m2 * first + (1 - m2) * dl
    expected = m3 * second + (1 - m3) * content
    torch.testing.assert_close(fuse(poly, expansion, dl, m1, m2, m3, content), expected, atol=FLOAT32, rtol=0)


@pytest.mark.parametrize("name", SIZES)
def test_untrained_network_returns_exactly_its_initial_blend(name):
    branches, hole = views()
    poly, expansion, dl = branches
    answer = MHFU(SIZES[name])(*branches, hole)
    assert (answer.m1 == 0.5).all()
    assert (answer.m2 == 0.5).all()
    torch.testing.assert_close(answer.m3, torch.full_like(answer.m3, 0.9975), atol=1e-6, rtol=0)
    expected = 0.9975 * (0.25 * poly + 0.25 * expansion + 0.5 * dl) + 0.0025 * answer.content
    torch.testing.assert_close(answer.fused, expected, atol=FLOAT32, rtol=0)
    torch.testing.assert_close(initial_blend(*branches), answer.fused, atol=FLOAT32, rtol=0)


@pytest.mark.parametrize(("name", "most_kmac"), [("small", 20), ("base", 200)])
def test_sizes_stay_within_their_budget_per_pixel(name, most_kmac):
    side = 64
    branches, hole = views(frames=1, height=side, width=side)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        MHFU(SIZES[name])(*branches, hole)
    assert counter.get_total_flops() / 2 / side**2 <= 1000 * most_kmac


@pytest.mark.parametrize(("height", "width"), [(16, 16), (17, 23), (1, 1), (3, 70)])
def test_any_size_gives_the_same_size_with_every_output_in_range(height, width):
    branches, hole = views(height=height, width=width)
    answer = trained(MHFUSize(channels=(4, 4, 4, 4)))(*branches, hole)
    assert [part.shape[1] for part in answer] == [3, 1, 1, 1, 3]
    for part in answer:
        assert part.shape[-2:] == (height, width)
        assert part.min() >= 0
        assert part.max() <= 1


def test_padding_only_repeats_the_border():
    branches, hole = views(height=17, width=23)
    network = trained()
    padded = [F.pad(view, (0, 1, 0, 3), mode="replicate") for view in (*branches, hole.float())]
    torch.testing.assert_close(network(*padded).fused[..., :17, :23], network(*branches, hole).fused)


def test_network_is_fully_convolutional():
    branches, hole = views(height=8, width=160)
    network = trained()
    shifted = [view.roll(-16, dims=-1) for view in (*branches, hole)]
    whole, moved = network(*branches, hole).m1, network(*shifted).m1
    # away from the seam and the edges, farther than the receptive field (under 50 px for three levels)
    torch.testing.assert_close(moved[..., 56:88], whole[..., 72:104])


def test_updates_see_encoder_features_as_they_are_and_the_deepest_passes_unchanged():
    branches, hole = views()
    network = trained()
    features, updates, decoded = [], [], []
    for encoder in network.encoders:
        encoder.register_forward_hook(lambda _, __, output: features.append(output))
    for update in network.updates:
        update.register_forward_hook(lambda _, inputs, output: updates.append((*inputs, output)))
    for decoder in network.decoders:
        decoder.register_forward_pre_hook(lambda _, inputs: decoded.append(inputs[0]))
    network(*branches, hole)
    for level, (fine, coarse, updated) in zip((1, 0), updates):
        assert torch.equal(fine, features[level])
        assert torch.equal(coarse, features[level + 1])
        assert torch.equal(decoded[1 - level][:, : TINY.channels[level]], updated)
    upsampled = F.interpolate(features[2], features[1].shape[-2:], mode="bilinear", align_corners=False)
    assert torch.equal(decoded[0][:, TINY.channels[1] :], upsampled)


def test_without_hole_input_the_mask_has_no_say():
    branches, hole = views()
    network = trained(MHFUSize(channels=(4, 6), hole_input=False))
    assert torch.equal(network(*branches, hole).fused, network(*branches, ~hole).fused)
    seeing = trained(MHFUSize(channels=(4, 6)))
    assert not torch.equal(seeing(*branches, hole).fused, seeing(*branches, ~hole).fused)


def test_deepest_level_reaches_the_output_and_every_weight_learns():
    branches, hole = views()
    network = trained().train()
    network(*branches, hole).fused.square().mean().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in network.parameters())


def test_untrained_network_moves_in_its_first_step_and_wholly_in_its_second():
    branches, hole = views()
    network = MHFU(TINY)
    optimiser = torch.optim.SGD(network.parameters(), lr=1.0)
    for _ in range(2):
        optimiser.zero_grad()
        network(*branches, hole).fused.square().mean().backward()
        optimiser.step()
    assert all(p.grad.abs().max() > 0 for p in network.parameters())


def test_masks_keep_full_precision_under_autocast():
    branches, hole = views()
    with torch.autocast("cpu", torch.bfloat16):
        answer = MHFU(TINY)(*branches, hole)
    assert answer.fused.dtype == torch.float32
    torch.testing.assert_close(answer.fused, initial_blend(*branches), atol=3e-3, rtol=0)  # bfloat16 has 8 bits


def test_network_exports_with_a_free_size_in_steps_of_its_coarsest_level():
    branches, hole = views(height=32, width=48)
    network = trained()
    free = {2: 4 * torch.export.Dim("rows", min=2, max=1024), 3: 4 * torch.export.Dim("columns", min=2, max=1024)}
    program = torch.export.export(network, (*branches, hole), dynamic_shapes=(free,) * 4)
    others, other_hole = views(height=36, width=56)
    exported = program.module()(*others, other_hole)
    torch.testing.assert_close(tuple(exported), tuple(network(*others, other_hole)), atol=1e-5, rtol=0)


def test_bad_sizes_are_named():
    with pytest.raises(ValueError, match="channels must be at least two positive numbers"):
        MHFUSize(channels=(8,))
    with pytest.raises(ValueError, match="channels must be at least two positive numbers"):
        MHFUSize(channels=(8, 0))


# --- Refiner ----------------------------------------------------------------------------------------------------------


def test_untrained_refiner_says_so_and_equals_its_network():
    branches, hole = views()
    refiner = Refiner.untrained()
    assert not refiner.trained
    everywhere = refiner(warped_clip(hole), *branches, mode="everywhere")
    torch.testing.assert_close(everywhere, refiner.network(*branches, hole).fused, atol=FLOAT32, rtol=0)


def test_saved_refiner_loads_with_its_size_and_weights(tmp_path):
    branches, hole = views()
    path = tmp_path / "refiner.safetensors"
    network = trained()
    Refiner(network, trained=True).save(path)
    refiner = Refiner.load(path)
    assert refiner.trained
    assert refiner.network.size == TINY
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]
    expected = network(*branches, hole).fused
    actual = refiner(warped_clip(hole), *branches, mode="everywhere")
    torch.testing.assert_close(actual, expected, atol=1e-5, rtol=0)  # convolutions of another memory layout
    assert Refiner.untrained("base").network.size == SIZES["base"]


def test_refined_holes_do_not_depend_on_the_cut_into_clips():
    branches, hole = views(frames=5)
    warped = warped_clip(hole)
    refiner = Refiner(trained(), trained=True)
    whole = refiner(warped, *branches)
    parts = [refiner(cut(warped, a, b), *(view[a:b] for view in branches)) for a, b in [(0, 2), (2, 5)]]
    assert torch.equal(torch.cat(parts), whole)
    outside = (~hole).expand_as(whole)
    assert torch.equal(whole[outside], warped.view[outside])
    assert not whole.requires_grad


def test_weights_that_cannot_be_used_are_named(tmp_path):
    path = tmp_path / "weights.safetensors"
    with pytest.raises(WeightsError, match="does not exist"):
        Refiner.load(path)
    path.write_bytes(b"not a safetensors file")
    with pytest.raises(WeightsError, match="cannot be read as safetensors"):
        Refiner.load(path)
    save_file({"a": torch.zeros(1)}, path)
    with pytest.raises(WeightsError, match="has no 'spatialme_mhfu' in its metadata"):
        Refiner.load(path)
    save_file({"a": torch.zeros(1)}, path, {"spatialme_mhfu": json.dumps({"channels": [4, 4], "hole_input": True})})
    with pytest.raises(WeightsError, match="does not fit the refiner it describes"):
        Refiner.load(path)
    Refiner(MHFU(TINY), trained=True).save(path)
    with pytest.raises(WeightsError, match=r"holds a refiner of MHFUSize\(.*\), expected 'small'"):
        Refiner.load(path, size="small")
    with pytest.raises(OptionError, match="refiner size 'huge' is not known; use small or base"):
        Refiner.load(None, size="huge")


# --- Composition ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("soft", [False, True])
def test_holes_mode_never_touches_a_pixel_outside_the_holes(soft):
    (filled, *_), hole = views()
    warped = warped_clip(hole)
    finished = compose(warped.view, hole, filled, soft=soft)
    outside = (~hole).expand_as(finished)
    assert torch.equal(finished[outside], warped.view[outside])
    assert torch.equal(finished[~outside], filled[~outside]) != soft


def test_everywhere_returns_the_filling():
    (filled, *_), hole = views()
    assert compose(torch.zeros_like(filled), hole, filled, mode="everywhere") is filled


def test_wrong_composition_arguments_are_named():
    (filled, *_), hole = views()
    with pytest.raises(ValueError, match="mode must be 'holes' or 'everywhere', got 'both'"):
        compose(filled, hole, filled, mode="both")
