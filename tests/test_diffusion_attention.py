"""The diffusion methods' attentions: who attends to whom, against diffusers' own and a slow reference."""

from __future__ import annotations

import math

import pytest
import torch

pytest.importorskip("diffusers", reason="the extra `diffusion` is not installed")

from diffusers.models.attention_processor import Attention

from spatialme.evaluation.baselines.diffusion.attention import (
    FirstTokenAttention,
    HoleCrossAttention,
    HoleSelfAttention,
    HoleTokens,
    SharedSelfAttention,
    attend,
    install_hole_attention,
    install_shared_attention,
)
from tests.diffusion_networks import CONTEXT, image_unet, svd_unet

FRAMES, TOKENS, WIDTH = 5, 4, 8
HOLE = (2, 3)  # the frame and the token that is disoccluded


@pytest.fixture(autouse=True)
def without_gradients():
    with torch.inference_mode():
        yield


def attention(context: int | None = None) -> Attention:
    torch.manual_seed(0)
    return Attention(WIDTH, cross_attention_dim=context, heads=2, dim_head=4)


def tokens(*size: int) -> torch.Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(1))


def holes() -> HoleTokens:
    chosen = torch.zeros(FRAMES, TOKENS, dtype=torch.bool)
    chosen[HOLE] = True
    return HoleTokens({TOKENS: chosen.flatten()})


def slow_attention(layer: Attention, query: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
    """One token's answer, head by head."""
    heads = []
    keys, values, asked = layer.to_k(context), layer.to_v(context), layer.to_q(query)
    for head in range(layer.heads):
        part = slice(4 * head, 4 * head + 4)
        weights = torch.softmax(keys[:, part] @ asked[part] / math.sqrt(4), 0)
        heads.append(weights @ values[:, part])
    return layer.to_out[0](torch.cat(heads))


def test_attending_is_diffusers_own_attention():
    queries, context = tokens(3, TOKENS, WIDTH), tokens(3, 7, CONTEXT)
    layer = attention(CONTEXT)
    # both sum in float32, in different orders
    torch.testing.assert_close(attend(layer, queries, context), layer(queries, context), atol=1e-6, rtol=1e-5)


def test_a_hole_token_attends_to_every_token_of_every_frame_and_the_others_to_their_frame():
    layer, frames = attention(), tokens(FRAMES, TOKENS, WIDTH)
    found = HoleSelfAttention(holes())(layer, frames)
    for frame in range(FRAMES):
        for token in range(TOKENS):
            context = frames.flatten(0, 1) if (frame, token) == HOLE else frames[frame]
            wanted = slow_attention(layer, frames[frame, token], context)
            torch.testing.assert_close(found[frame, token], wanted, atol=1e-6, rtol=1e-5)


def test_a_far_frames_token_changes_the_hole_tokens_answer_and_no_other_frames():
    layer, frames = attention(), tokens(FRAMES, TOKENS, WIDTH)
    changed = frames.clone()
    changed[4, 0] += 1.0
    attend_to = HoleSelfAttention(holes())
    difference = (attend_to(layer, changed) - attend_to(layer, frames)).abs().amax(-1)
    assert float(difference[HOLE]) > 1e-3
    difference[HOLE] = 0
    assert float(difference[:4].max()) == 0


def test_a_frame_sees_its_own_picture_and_a_hole_all_pictures():
    layer, frames, pictures = attention(CONTEXT), tokens(FRAMES, TOKENS, WIDTH), tokens(FRAMES, CONTEXT)
    found = HoleCrossAttention(holes())(layer, frames, pictures.expand(FRAMES, -1, -1))
    for frame in range(FRAMES):
        for token in range(TOKENS):
            context = pictures if (frame, token) == HOLE else pictures[frame : frame + 1]
            wanted = slow_attention(layer, frames[frame, token], context)
            torch.testing.assert_close(found[frame, token], wanted, atol=1e-6, rtol=1e-5)


def test_time_sees_the_first_picture_alone():
    layer, along, pictures = attention(CONTEXT), tokens(TOKENS, FRAMES, WIDTH), tokens(TOKENS, FRAMES, CONTEXT)
    found = FirstTokenAttention()(layer, along, pictures)
    torch.testing.assert_close(found, attend(layer, along, pictures[:, :1]))


def test_holes_are_found_at_every_size_of_the_network():
    mask = torch.full((2, 1, 8, 16), -1.0)
    mask[1, 0, :4, 8:12] = 1.0
    found = HoleTokens()
    found.set(mask)
    assert sorted(found.by_count) == [2, 8, 32, 128]
    for level in range(3):  # the hole is one whole token at the third size
        side = 2**level
        wanted = torch.zeros(2, 8 // side, 16 // side, dtype=torch.bool)
        wanted[1, : 4 // side, 8 // side : 12 // side] = True
        assert torch.equal(found.by_count[128 // side**2], wanted.flatten())
    assert not found.by_count[2].any()  # a quarter of a token is not above nought


def test_without_holes_and_with_one_picture_the_network_is_the_unchanged_one():
    torch.manual_seed(0)
    unet = svd_unet(4).eval()
    sample, picture, numbers = tokens(1, 3, 4, 8, 8), tokens(1, 1, CONTEXT), torch.tensor([[6.0, 127.0, 0.0]])
    before = unet(sample, 1.5, picture, numbers).sample
    install_hole_attention(unet).set(torch.full((3, 1, 8, 8), -1.0))
    after = unet(sample, 1.5, picture.expand(1, 3, -1), numbers).sample
    torch.testing.assert_close(after, before, atol=1e-5, rtol=1e-4)


def test_holes_reach_the_networks_attention():
    torch.manual_seed(0)
    unet = svd_unet(4).eval()
    holes = install_hole_attention(unet)
    sample, pictures, numbers = tokens(1, 3, 4, 8, 8), tokens(1, 3, CONTEXT), torch.tensor([[6.0, 127.0, 0.0]])
    answers = []
    for value in (-1.0, 1.0):
        holes.set(torch.full((3, 1, 8, 8), value))
        answers.append(unet(sample, 1.5, pictures, numbers).sample)
    assert float((answers[0] - answers[1]).abs().max()) > 1e-5


def test_shared_attention_looks_at_the_first_picture_only_while_active():
    layer, pair = attention(), tokens(2, TOKENS, WIDTH)
    shared = SharedSelfAttention()
    torch.testing.assert_close(shared(layer, pair), layer(pair), atol=1e-6, rtol=1e-5)
    shared.active = True
    found = shared(layer, pair)
    torch.testing.assert_close(found, attend(layer, pair, pair[:1].expand(2, -1, -1)))
    torch.testing.assert_close(found[:1], attend(layer, pair[:1], pair[:1]))


def test_sharing_makes_the_right_picture_depend_on_the_left_and_not_the_other_way_round():
    torch.manual_seed(0)
    unet = image_unet().eval()
    shared = install_shared_attention(unet)
    shared.active = True
    pair, context = tokens(2, 4, 8, 8), tokens(2, 3, CONTEXT)
    base = unet(pair, 5, context).sample
    for changed, unaffected in ((0, None), (1, 0)):
        other = pair.clone()
        other[changed] += 0.5
        difference = (unet(other, 5, context).sample - base).abs().amax((1, 2, 3))
        assert float(difference[1]) > 1e-4
        if unaffected is not None:
            assert float(difference[unaffected]) < 1e-6  # sums in another order at most
