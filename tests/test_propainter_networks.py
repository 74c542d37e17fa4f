"""ProPainter's networks: parity with the published ones, an independent port, and what each piece promises."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import spatialme_propainter as propainter
import torch
import torch.nn.functional as F
from spatialme_propainter import transformer, window_plan
from spatialme_propainter.alignment import DeformableAlignment
from spatialme_propainter.tokens import PatchFeedForward, count_patches, split_patches, sum_patches
from spatialme_propainter.warping import flows_agree, warp
from torch import Tensor, nn
from torchvision.models.optical_flow import raft_large

from spatialme.flow.raft import raft_things_to_torchvision
from tests import pytorchcv_networks
from tests.seeded_weights import seeded_state

FIXTURES = Path(__file__).parent / "fixtures" / "propainter"
# float32 back ends differ by up to 4e-5 on these arrays; some wrong constants move them by no more than 5e-4
PARITY = 1e-4
FILES = {
    "ProPainter.pth": (propainter.load_generator, 216, 39_429_667),
    "recurrent_flow_completion.pth": (propainter.load_flow_completion, 74, 5_079_555),
}


@pytest.fixture(autouse=True)
def _inference_on_one_thread():
    """Maps this small gain nothing from threads, and lose a factor of ten to their barriers on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.inference_mode():
        yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def reference() -> dict[str, np.ndarray]:
    with np.load(FIXTURES / "reference.npz") as arrays:
        return dict(arrays)


@pytest.fixture(scope="module")
def frames(reference) -> Tensor:
    return torch.from_numpy(reference["frames_uint8"]).float() / 127.5 - 1


@pytest.fixture(scope="module")
def masks(reference) -> Tensor:
    return torch.from_numpy(reference["mask_uint8"]).float()


@pytest.fixture(scope="module")
def flows(reference) -> tuple[Tensor, Tensor]:
    forward, backward = (torch.from_numpy(reference[f"flow_{way}_64ths"]).float() for way in ("forward", "backward"))
    return forward / 64, backward / 64


@pytest.fixture(scope="module")
def generator() -> propainter.InpaintGenerator:
    return _seeded(propainter.InpaintGenerator())


@pytest.fixture(scope="module")
def flow_completion() -> propainter.FlowCompletion:
    return _seeded(propainter.FlowCompletion())


def _seeded(network: nn.Module):
    shapes = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    network.load_state_dict(network.state_dict() | seeded_state(shapes))
    return network.eval()


def _published_shapes(file_name: str) -> dict[str, tuple[int, ...]]:
    """Keys and shapes of one checkpoint, from the published list."""
    shapes: dict[str, tuple[int, ...]] = {}
    section = ""
    for line in (FIXTURES / "keys.txt").read_text().splitlines():
        if line.startswith("#"):
            section = line.split()[1]
        elif section == file_name:
            key, shape = line.split(" ", 1)
            numbers = shape[shape.index("(") + 1 : shape.index(")")]
            shapes[key] = tuple(int(number) for number in numbers.split(",") if number.strip())
    return shapes


def _published_state(file_name: str) -> dict[str, Tensor]:
    """A checkpoint with every published key and shape, seeded as the reference was (without the prefix)."""
    shapes = {key.removeprefix("module."): shape for key, shape in _published_shapes(file_name).items()}
    prefix = "module." if file_name == "raft-things.pth" else ""
    integers = {
        key: torch.zeros(shape, dtype=torch.int64)
        for key, shape in shapes.items()
        if key.endswith(("num_batches_tracked", "valid_ind_rolled"))
    }
    return {prefix + key: value for key, value in (seeded_state(shapes) | integers).items()}


def _largest_error(found: Tensor, wanted: np.ndarray) -> float:
    return float((found.float() - torch.from_numpy(wanted).float()).abs().max())


def _scene(num_frames: int, height: int, width: int, *, seed: int = 0, batch_size: int = 1):
    """Random frames, smooth flows that mostly agree, and narrow moving holes."""
    draw = torch.Generator().manual_seed(seed)
    frames = torch.rand(batch_size, num_frames, 3, height, width, generator=draw) * 2 - 1
    masks = torch.zeros(batch_size, num_frames, 1, height, width)
    for t in range(num_frames):
        masks[:, t, :, height // 4 : height // 2, width // 3 + 2 * t : width // 3 + 2 * t + 8] = 1
    coarse = 3 * torch.randn(batch_size * (num_frames - 1), 2, height // 16, width // 16, generator=draw)
    forward = F.interpolate(coarse, size=(height, width), mode="bicubic").unflatten(0, (batch_size, -1))
    updated = masks * (torch.rand(masks.shape, generator=draw) > 0.5)
    return frames * (1 - masks), (forward, -0.9 * forward), masks, updated


# --- parity with the published networks -----------------------------------------------------------------------------


@pytest.mark.parametrize("file_name", FILES)
def test_every_published_key_and_shape_loads_strictly(file_name, tmp_path):
    load, num_keys, num_parameters = FILES[file_name]
    state = _published_state(file_name)
    assert len(state) == num_keys
    torch.save(state, tmp_path / file_name)
    network = load(tmp_path / file_name)
    assert sum(parameter.numel() for parameter in network.parameters()) == num_parameters
    assert not network.training
    assert not any(parameter.requires_grad or parameter.is_meta for parameter in network.parameters())


def test_image_propagation_equals_the_published_one(reference, frames, masks, flows):
    filled, unfilled = propainter.propagate_images(frames * (1 - masks), masks, *flows)
    assert _largest_error(filled[..., ::3, ::3], reference["propagated_frames"]) == 0  # it only copies
    assert _largest_error(unfilled, reference["propagated_mask"]) == 0


def test_flow_completion_equals_the_published_one(reference, flow_completion, masks, flows):
    forward, backward = flow_completion.complete(*flows, masks)
    assert _largest_error(forward[..., ::3, ::3], reference["completed_flow_forward"]) < PARITY
    assert _largest_error(backward[..., ::3, ::3], reference["completed_flow_backward"]) < PARITY


def test_generator_equals_the_published_one(reference, generator, frames, masks, flows):
    num_local = int(reference["num_local_frames"])
    filled, unfilled = propainter.propagate_images(frames * (1 - masks), masks, *flows)
    updated = frames * (1 - masks) + filled * masks
    local_flows = (flows[0][:, : num_local - 1], flows[1][:, : num_local - 1])
    painted = generator(updated, local_flows, masks, unfilled, num_local)
    assert _largest_error(painted[..., ::3, ::3], reference["generator_output"]) < PARITY


@pytest.fixture(scope="module")
def raft() -> nn.Module:
    """torchvision's RAFT with every published key, seeded; loads strictly."""
    network = raft_large(weights=None, progress=False).eval()
    network.load_state_dict(raft_things_to_torchvision(_published_state("raft-things.pth")))
    return network


def test_every_published_key_of_raft_is_mapped(raft):
    state = _published_state("raft-things.pth")
    assert len(state) == 179
    repeated = [key for key in state if ".norm3." in key]  # the same tensors as `downsample.1`
    assert len(raft_things_to_torchvision(state)) == 179 - len(repeated) == len(raft.state_dict())
    # two pairs of norms are listed twice: 448 numbers fewer than in the file
    assert sum(parameter.numel() for parameter in raft.parameters()) == 5_257_984 - 448


@pytest.mark.parametrize("iterations", [1, 6])
def test_mapped_raft_equals_the_published_one(reference, frames, raft, iterations):
    steps: list[Tensor] = []
    hook = raft.update_block.register_forward_hook(lambda module, inputs, outputs: steps.append(outputs[1]))
    flow = raft(frames[0, :2], frames[0, 1:3], num_flow_updates=iterations)[-1]
    hook.remove()
    assert _largest_error(sum(steps), reference[f"raft_flow_low_iters{iterations}"]) < PARITY
    assert _largest_error(flow[..., ::3, ::3], reference[f"raft_flow_up_iters{iterations}"]) < PARITY


# --- an independent port, as a black box ----------------------------------------------------------------------------


def test_image_propagation_equals_pytorchcv():
    pytest.importorskip("pytorchcv", reason="dev-only: pip install pytorchcv")
    frames, flows, masks, _ = _scene(5, 64, 96)
    ours = propainter.propagate_images(frames, masks, *flows)
    theirs = pytorchcv_networks.run_image_propagation(
        pytorchcv_networks.port_of_image_propagation(), frames, masks, *flows
    )
    assert all(torch.equal(our, their) for our, their in zip(ours, theirs))


def test_flow_completion_equals_pytorchcv(flow_completion):
    pytest.importorskip("pytorchcv", reason="dev-only: pip install pytorchcv")
    _, (forward, _), masks, _ = _scene(5, 64, 96)
    masked = forward * (1 - masks[:, :-1])
    theirs = pytorchcv_networks.port_of_flow_completion(flow_completion)(masked, masks[:, :-1])[0]
    assert (flow_completion(masked, masks[:, :-1]) - theirs).abs().max() < PARITY


def test_generator_equals_pytorchcv(generator):
    pytest.importorskip("pytorchcv", reason="dev-only: pip install pytorchcv")
    frames, (forward, backward), masks, updated = _scene(6, 72, 120)
    inputs = (frames, (forward[:, :3], backward[:, :3]), masks, updated, 4)
    theirs = pytorchcv_networks.run_generator(pytorchcv_networks.port_of_generator(generator), *inputs)
    assert (generator(*inputs) - theirs).abs().max() < PARITY


# --- the pieces ------------------------------------------------------------------------------------------------------


def test_warp_follows_an_integer_flow_exactly_and_is_black_outside():
    image = torch.rand(1, 2, 6, 9)
    flow = torch.tensor([2.0, -1.0]).view(1, 2, 1, 1).expand(1, 2, 6, 9)
    wanted = torch.zeros_like(image)
    wanted[..., 1:, :-2] = image[..., :-1, 2:]
    # the normalised coordinates of grid_sample are off by some 1e-7 of the width
    torch.testing.assert_close(warp(image, flow), wanted, atol=1e-5, rtol=0)
    torch.testing.assert_close(warp(image, flow, mode="nearest"), wanted, atol=0, rtol=0)


def test_warp_in_half_precision_still_finds_the_pixel_of_a_wide_frame():
    image = torch.arange(4000.0).remainder(97).half().expand(1, 1, 2, 4000)
    flow = torch.zeros(1, 2, 2, 4000, dtype=torch.float16)
    flow[:, 0] = 1
    assert torch.equal(warp(image, flow, mode="nearest")[..., :-1], image[..., 1:])


def test_flows_agree_where_they_are_inverse_up_to_half_a_pixel():
    flow = torch.full((1, 1, 2, 4, 8), 1.0)
    inside = (..., slice(0, 3), slice(0, 7))  # flow leads out of the frame elsewhere
    assert flows_agree(flow, -flow)[inside].all()
    assert flows_agree(flow, -flow + 0.4)[inside].all()  # |error|^2 = 0.32
    assert not flows_agree(flow, -flow + 0.6)[inside].any()  # |error|^2 = 0.72


def test_image_propagation_fills_from_both_directions_and_reports_the_rest():
    texture = torch.rand(1, 3, 4, 8)
    frames = texture.repeat(3, 1, 1, 1)[None]
    masks = torch.zeros(1, 3, 1, 4, 8)
    masks[0, 0, :, :, 0:4] = 1  # columns 0-1 are seen in frame 1, columns 2-3 only in frame 2
    masks[0, 1, :, :, 2:4] = 1
    masks[0, 2, :, :, 6:8] = 1  # seen in frames 0 and 1
    masks[0, :, :, 0, 5] = 1  # seen in no frame
    still = torch.zeros(1, 2, 2, 4, 8)
    filled, unfilled = propainter.propagate_images(frames * (1 - masks), masks, still, still)
    never_seen = torch.zeros_like(masks)
    never_seen[0, :, :, 0, 5] = 1
    assert torch.equal(unfilled, never_seen)
    assert torch.equal(filled, frames * (1 - never_seen))


def test_image_propagation_takes_nothing_along_flows_that_disagree():
    frames, masks = torch.ones(1, 2, 3, 4, 8), torch.zeros(1, 2, 1, 4, 8)
    masks[:, 0, :, 1:3, 2:4] = 1
    forward, backward = torch.zeros(1, 1, 2, 4, 8), torch.full((1, 1, 2, 4, 8), 2.0)
    _, unfilled = propainter.propagate_images(frames * (1 - masks), masks, forward, backward)
    assert torch.equal(unfilled, masks)


def test_flow_completion_keeps_the_flow_outside_holes(flow_completion):
    _, flows, masks, _ = _scene(4, 32, 48)
    completed = flow_completion.complete(*flows, masks)
    for found, given, holes in zip(completed, flows, (masks[:, :-1], masks[:, 1:])):
        known = (holes == 0).expand_as(given)
        assert torch.equal(found[known], given[known])
        assert not torch.equal(found[~known], given[~known])


def test_alignment_without_learnt_offsets_is_a_convolution_where_the_flow_leads():
    align = _seeded(DeformableAlignment(128, 8, largest_offset_px=3.0))
    align.conv_offset[-1].weight.zero_()
    align.conv_offset[-1].bias.zero_()
    features, condition = torch.rand(1, 128, 8, 12), torch.rand(1, 8, 8, 12)
    flow = torch.tensor([2.0, -1.0]).view(1, 2, 1, 1).expand(1, 2, 8, 12)
    plain = F.conv2d(features, align.weight, padding=1) / 2 + align.bias.view(1, -1, 1, 1)  # sigmoid(0) = 1/2
    found = align(features, condition, flow)
    # away from borders, where the flow leads out of the frame; float32 sums of 1152 products
    torch.testing.assert_close(found[..., 2:-1, 1:-3], plain[..., 1:-2, 3:-1], atol=1e-4, rtol=0)


@pytest.mark.parametrize("size", [(30, 54), (31, 44), (32, 49)])
def test_patches_as_convolutions_equal_linear_layers_over_unfolded_ones(size):
    features = torch.randn(2, 3, *size)
    split, merge = nn.Linear(3 * 49, 8), nn.Linear(8, 3 * 49)
    unfolded = F.unfold(features, 7, padding=3, stride=3).transpose(1, 2)
    tokens = split_patches(features, split.weight, split.bias)
    torch.testing.assert_close(tokens.flatten(1, 2), split(unfolded), atol=1e-5, rtol=0)  # order of summation
    folded = F.fold(merge(tokens.flatten(1, 2)).transpose(1, 2), size, 7, padding=3, stride=3)
    torch.testing.assert_close(sum_patches(tokens, merge.weight, merge.bias, size), folded, atol=1e-5, rtol=0)


def test_feed_forward_equals_fold_unfold_and_activation_in_the_published_order():
    mlp, size = _seeded(PatchFeedForward()), (30, 49)
    tokens = torch.randn(1, 10, 17, 512)
    wide = mlp.fc1(tokens.flatten(1, 2)).transpose(1, 2)
    count = count_patches(size, tokens)
    mean = F.fold(wide, size, 7, padding=3, stride=3) / count
    wanted = mlp.fc2(F.unfold(mean, 7, padding=3, stride=3).transpose(1, 2))
    torch.testing.assert_close(mlp(tokens, count).flatten(1, 2), wanted, atol=1e-4, rtol=0)  # sums of 1960 products


def test_a_window_looks_at_itself_and_at_four_shifted_windows_around_it():
    rows, columns = 15, 27
    plan = propainter.plan_windows(torch.zeros(1, 9, dtype=torch.bool), (rows, columns), torch.device("cpu"))
    middle = 4  # of 3x3 windows, at rows 5-9 and columns 9-17
    own = {row * columns + column for row in range(5, 10) for column in range(9, 18)}
    around = {
        (top + row) * columns + left + column
        for top in (2, 8)
        for left in (4, 14)
        for row in range(5)
        for column in range(9)
    }
    assert set(plan.own[middle].tolist()) == own
    assert sorted(plan.near[middle].tolist()) == sorted(own | around)


def test_windows_are_sorted_by_the_holes_they_touch():
    masks = torch.zeros(2, 2, 1, 30, 54)  # tokens 10x18: 2x2 windows
    masks[0, 1, 0, 2, 2] = 1  # first window of item 0, second frame
    masks[1, 0, 0, 14, 0] = 1  # patches of token rows 4 and 5 hold feature row 14: both left windows of item 1
    with_holes = propainter.windows_with_holes(masks)
    assert with_holes.shape == (2, 2, 4)
    plan = propainter.plan_windows(with_holes.any(dim=1), (10, 18), masks.device)
    assert list(zip(plan.masked_item.tolist(), plan.masked_window.tolist())) == [(0, 0), (1, 0), (1, 2)]
    assert list(zip(plan.plain_item.tolist(), plan.plain_window.tolist())) == [(0, 1), (0, 2), (0, 3), (1, 1), (1, 3)]


def test_attention_equals_the_definition_window_by_window():
    attention = _seeded(transformer.SparseWindowAttention())
    tokens = torch.randn(1, 3, 9, 16, 512)  # padded to 10x18: 2x2 windows
    with_holes = torch.tensor([[True, False, False, True]])
    plan = propainter.plan_windows(with_holes, (9, 16), tokens.device)
    padded = F.pad(tokens, (0, 0, 0, 2, 0, 1))
    found = attention(padded, plan, first_key_frame=0, num_output_frames=2)[:, :, :9, :16]

    padded = padded[0]  # (3, 10, 18, 512)
    wanted = torch.empty(2, 10 * 18, 512)
    for window in range(4):
        queries = padded.flatten(1, 2)[:2, plan.own[window]]  # (2, 45, 512)
        if with_holes[0, window]:
            pooled = attention.pool_layer(padded[::2].permute(0, 3, 1, 2)).permute(0, 2, 3, 1).reshape(-1, 512)
            seen = torch.cat((padded.flatten(1, 2)[::2, plan.near[window]].reshape(-1, 512), pooled))
            result = _plain_attention(attention, queries.reshape(-1, 512), seen).view(2, 45, 512)
        else:
            result = torch.stack([_plain_attention(attention, frame, frame) for frame in queries])
        wanted[:, plan.own[window]] = result
    wanted = attention.proj(wanted).view(1, 2, 10, 18, 512)[:, :, :9, :16]
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=0)


def _plain_attention(attention: transformer.SparseWindowAttention, queries: Tensor, seen: Tensor) -> Tensor:
    """Softmax attention of (Q, 512) over (K, 512), head by head."""
    projected = (attention.query(queries), attention.key(seen), attention.value(seen))
    heads = zip(*(part.split(128, dim=-1) for part in projected))
    return torch.cat([torch.softmax(q @ k.t() / 128**0.5, dim=-1) @ v for q, k, v in heads], dim=-1)


def test_result_does_not_depend_on_how_windows_are_portioned(monkeypatch):
    attention = _seeded(transformer.SparseWindowAttention())
    tokens = torch.randn(1, 2, 10, 18, 512)
    plan = propainter.plan_windows(torch.tensor([[True, False, True, True]]), (10, 18), tokens.device)
    whole = attention(tokens, plan, first_key_frame=0, num_output_frames=2)
    monkeypatch.setattr(transformer, "PORTION_BYTES", 1)
    assert torch.equal(attention(tokens, plan, first_key_frame=0, num_output_frames=2), whole)


def test_the_transformer_in_portions_equals_it_in_one(monkeypatch):
    network, size = _seeded(transformer.SparseTransformer()), (27, 70)
    network.transformer = network.transformer[:2]  # keys from even frames and from odd ones
    tokens = torch.randn(2, 5, 9, 24, 512)  # padded to 10x27: 2x3 windows
    with_holes = torch.tensor([[True, False, True, True, False, True], [False, True, True, False, False, True]])
    plan = propainter.plan_windows(with_holes, (9, 24), tokens.device)
    count = count_patches(size, tokens)
    num_calls = 0

    def counted(*args):
        nonlocal num_calls
        num_calls += 1
        return attend(*args)

    attend = transformer._attend
    monkeypatch.setattr(transformer, "_attend", counted)
    whole = network(tokens, plan, count, num_output_frames=3)
    assert num_calls == 2 * 2  # blocks, and windows with holes and without
    bytes_of_a_window = 2 * 4 * 512 * (2 * 193 + 2 * 2 * 6)  # in the second block, with two key frames
    monkeypatch.setattr(transformer, "PORTION_BYTES", 3 * bytes_of_a_window)
    portioned = network(tokens, plan, count, num_output_frames=3)
    # 7 windows with holes and 5 without, by twos in the first block, which has three key frames, then by threes
    assert num_calls == 4 + (4 + 3) + (3 + 2)
    torch.testing.assert_close(portioned, whole, atol=1e-5, rtol=0)


# --- the whole generator ----------------------------------------------------------------------------------------------


def test_batch_items_do_not_see_each_other(generator):
    frames, flows, masks, updated = _scene(3, 64, 80, batch_size=2)
    masks[1, :, :, 40:60] = 1  # other windows than item 0
    both = generator(frames, (flows[0][:, :1], flows[1][:, :1]), masks, updated, 2)
    for item in range(2):
        one = slice(item, item + 1)
        alone = generator(frames[one], (flows[0][one, :1], flows[1][one, :1]), masks[one], updated[one], 2)
        torch.testing.assert_close(both[one], alone, atol=PARITY, rtol=0)


def test_kept_features_and_tokens_give_the_same_frames(generator):
    frames, flows, masks, updated = _scene(4, 64, 80)
    num_local = 2
    wanted = generator(frames, (flows[0][:, :1], flows[1][:, :1]), masks, updated, num_local)

    each = [generator.encode(frames[:, t], masks[:, t], updated[:, t]) for t in range(4)]
    references = [generator.tokenise(features[None]) for features in each[num_local:]]
    small = [propainter.shrink_masks(part)[:, :num_local] for part in (masks, updated)]
    small_flows = [propainter.shrink_flows(flow[:, :1]) for flow in flows]
    local = generator.propagate(torch.stack(each[:num_local], dim=1), torch.cat(small, dim=2), *small_flows)
    tokens = torch.cat((generator.tokenise(local), *references), dim=1)
    with_holes = propainter.windows_with_holes(small[0]).any(dim=1)
    plan = propainter.plan_windows(with_holes, tokens.shape[2:4], tokens.device)
    features = local + generator.transform(tokens, plan, feature_size=(16, 20), num_local_frames=num_local)
    found = torch.cat([generator.decode(features[:, t : t + 1]) for t in range(num_local)], dim=1)
    torch.testing.assert_close(found, wanted, atol=PARITY, rtol=0)


def test_pieces_never_wait_for_the_device_once_windows_are_planned():
    # tensors on the meta device have no values: whatever would read one back raises
    meta = torch.device("meta")
    with meta:
        network = propainter.InpaintGenerator()
        frames, masks = torch.empty(1, 5, 3, 64, 80), torch.empty(1, 5, 1, 64, 80)
        flow = torch.empty(1, 4, 2, 64, 80)
    frames, masks = propainter.propagate_images(frames, masks, flow, flow)
    features = network.encode(frames[0], masks[0], masks[0])[None]
    small_masks = propainter.shrink_masks(masks).repeat(1, 1, 2, 1, 1)
    small_flow = propainter.shrink_flows(flow)
    local = network.propagate(features[:, :3], small_masks[:, :3], small_flow[:, :2], small_flow[:, :2])
    assert propainter.windows_with_holes(propainter.shrink_masks(masks)).shape == (1, 5, 2)
    tokens = network.tokenise(torch.cat((local, features[:, 3:]), dim=1))
    plan = propainter.plan_windows(torch.tensor([[True, False]]), (6, 7), meta)
    added = network.transform(tokens, plan, feature_size=(16, 20), num_local_frames=3)
    assert network.decode(local + added).shape == (1, 3, 3, 64, 80)


@pytest.mark.parametrize("hole", [0.0, 1.0])
def test_single_frame_without_or_full_of_holes(generator, hole):
    masks = torch.full((1, 1, 1, 32, 48), hole)
    no_flow = torch.zeros(1, 0, 2, 32, 48)
    frames, unfilled = propainter.propagate_images(torch.zeros(1, 1, 3, 32, 48), masks, no_flow, no_flow)
    painted = generator(frames, (no_flow, no_flow), masks, unfilled, 1)
    assert painted.shape == frames.shape
    assert painted.isfinite().all()


@pytest.mark.parametrize("way", ["weights", "autocast"])
def test_half_precision_stays_close(generator, way):
    frames, flows, masks, updated = _scene(3, 64, 80)
    flows = (flows[0][:, :1], flows[1][:, :1])
    wanted = generator(frames, flows, masks, updated, 2)
    if way == "weights":
        halved = _seeded(propainter.InpaintGenerator()).bfloat16()
        found = halved(frames.bfloat16(), flows, masks, updated, 2).float()
    else:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = generator(frames, flows, masks, updated, 2).float()
    # bfloat16 keeps 8 bits, a step of 0.004 near one; measured: 0.0055
    assert (found - wanted).square().mean().sqrt() < 0.015


# --- what is refused --------------------------------------------------------------------------------------------------


def test_sizes_that_do_not_fit_are_refused(generator, flow_completion):
    frames, flows, masks, updated = _scene(3, 32, 48)
    local = (flows[0][:, :1], flows[1][:, :1])
    with pytest.raises(ValueError, match="multiples of 4, got"):
        generator(frames[..., :46], local, masks, updated, 2)
    with pytest.raises(ValueError, match=r"num_local_frames must be in \[1, 3\], got 4"):
        generator(frames, local, masks, updated, 4)
    with pytest.raises(ValueError, match="masks must match the frames'"):
        generator(frames, local, masks[:, :2], updated, 2)
    with pytest.raises(ValueError, match=r"flows between 2 local frames must be \(1, 1, 2, 32, 48\)"):
        generator(frames, flows, masks, updated, 2)
    with pytest.raises(ValueError, match="multiples of 8, got 28 x 48"):
        flow_completion(flows[0][..., :28, :], masks[:, :-1, :, :28])


def test_files_that_are_not_the_checkpoint_are_refused_in_one_line(tmp_path):
    path = tmp_path / "recurrent_flow_completion.pth"
    state = _published_state(path.name)
    torch.save({**state, "upsample.0.bias": torch.zeros(31)}, path)
    with pytest.raises(propainter.CheckpointError, match=r"1 keys differ, first upsample.0.bias with shape \(31,\)"):
        propainter.load_flow_completion(path)
    del state["fusion.bias" if "fusion.bias" in state else "feat_prop_module.fusion.bias"]
    torch.save(state, path)
    with pytest.raises(propainter.CheckpointError, match=r"fusion.bias with shape None instead of \(128,\)"):
        propainter.load_flow_completion(path)
    torch.save({"epoch": 3}, path)
    with pytest.raises(propainter.CheckpointError, match="holds no plain table of tensors"):
        propainter.load_generator(path)
    path.write_bytes(b"<html>rate limit</html>")
    with pytest.raises(propainter.CheckpointError, match="no readable PyTorch checkpoint; delete it and fetch"):
        propainter.load_generator(path)


def test_nothing_in_third_party_imports_spatialme():
    sources = Path(propainter.__file__).parent.glob("*.py")
    assert not [
        path.name for path in sources if "spatialme." in path.read_text() or "import spatialme" in path.read_text()
    ]


def test_window_shape_is_the_published_buffers():
    assert window_plan.shifted_positions().shape == (148,)
