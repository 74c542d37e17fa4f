"""Attention with other keys than diffusers', by its own projections: processors for `Attention.set_processor`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def attend(attention: Any, queries: Tensor, context: Tensor) -> Tensor:
    """Multi-head attention of queries (B, N, C) to a context (B, M, D) by a diffusers `Attention`'s weights."""
    query, key, value = (
        projected.unflatten(-1, (attention.heads, -1)).transpose(1, 2)
        for projected in (attention.to_q(queries), attention.to_k(context), attention.to_v(context))
    )
    answer = F.scaled_dot_product_attention(query, key, value, scale=attention.scale)
    projection, dropout = attention.to_out
    return dropout(projection(answer.transpose(1, 2).flatten(2)))


@dataclass
class HoleTokens:
    """Which tokens are disoccluded, at each size that a U-Net works at; set before each run of it."""

    by_count: dict[int, Tensor] = field(default_factory=dict)  # tokens per frame -> (F * N,) bool

    def set(self, mask: Tensor, levels: int = 4) -> None:
        """Take over a mask of the latents.

        Args:
            mask: (F, 1, h, w) in [-1, 1], 1 in holes, h and w multiples of ``2 ** (levels - 1)``.
            levels: Sizes, each half the one before. A token is a hole's where the resized mask is above nought.
        """
        height, width = mask.shape[2:]
        self.by_count = {}
        for level in range(levels):
            size = (height >> level, width >> level)
            smaller = F.interpolate(mask, size, mode="bilinear", align_corners=False)
            self.by_count[size[0] * size[1]] = (smaller > 0).flatten()


@dataclass(frozen=True)
class HoleSelfAttention:
    """Spatial self-attention in which tokens of holes attend to all tokens of all frames (M2SVid, section 5.3)."""

    holes: HoleTokens

    def __call__(self, attn: Any, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Attend; (F, N, C) -> (F, N, C), the frames of one video."""
        answer = attend(attn, hidden_states, hidden_states)
        chosen = self.holes.by_count[hidden_states.shape[1]]
        video = hidden_states.flatten(0, 1)[None]
        return _answered_by(attn, answer, hidden_states, chosen, video)


@dataclass(frozen=True)
class HoleCrossAttention:
    """Cross-attention to one image token per frame: a frame's own, and for tokens of holes those of all frames."""

    holes: HoleTokens

    def __call__(
        self, attn: Any, hidden_states: Tensor, encoder_hidden_states: Tensor, *args: Any, **kw: Any
    ) -> Tensor:
        """Attend; every frame's context (F, F, D) holds the tokens of all frames."""
        own = encoder_hidden_states[0][:, None]
        answer = attend(attn, hidden_states, own)
        chosen = self.holes.by_count[hidden_states.shape[1]]
        return _answered_by(attn, answer, hidden_states, chosen, encoder_hidden_states[:1])


@dataclass(frozen=True)
class FirstTokenAttention:
    """Temporal cross-attention to the first frame's image token alone, as in Stable Video Diffusion."""

    def __call__(
        self, attn: Any, hidden_states: Tensor, encoder_hidden_states: Tensor, *args: Any, **kw: Any
    ) -> Tensor:
        """Attend; (N, F, C) with a context of (N, F, D)."""
        return attend(attn, hidden_states, encoder_hidden_states[:, :1])


@dataclass
class SharedSelfAttention:
    """Self-attention in which all pictures of a batch attend to the first one (StereoDiffusion's one-way sharing)."""

    active: bool = False

    def __call__(self, attn: Any, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Attend; (B, N, C) -> (B, N, C)."""
        context = hidden_states[:1].expand_as(hidden_states) if self.active else hidden_states
        return attend(attn, hidden_states, context)


def install_hole_attention(unet: nn.Module) -> HoleTokens:
    """Replace the attentions of a `UNetSpatioTemporalConditionModel`; the holes are set through what is returned."""
    holes = HoleTokens()
    for name, module in unet.named_modules():
        if ".transformer_blocks." in name and name.endswith(".attn1"):
            module.set_processor(HoleSelfAttention(holes))
        elif ".transformer_blocks." in name and name.endswith(".attn2"):
            module.set_processor(HoleCrossAttention(holes))
        elif ".temporal_transformer_blocks." in name and name.endswith(".attn2"):
            module.set_processor(FirstTokenAttention())
    return holes


def install_shared_attention(unet: nn.Module) -> SharedSelfAttention:
    """Replace the self-attentions of a `UNet2DConditionModel`; they share while what is returned is ``active``."""
    shared = SharedSelfAttention()
    for name, module in unet.named_modules():
        if name.endswith(".attn1"):
            module.set_processor(shared)
    return shared


def _answered_by(attn: Any, answer: Tensor, queries: Tensor, chosen: Tensor, context: Tensor) -> Tensor:
    """`answer` (F, N, C) with the chosen tokens' (F * N,) rows replaced by their answer from a context (1, M, D)."""
    rows = chosen.nonzero()[:, 0]
    if not len(rows):
        return answer
    replaced = answer.flatten(0, 1)
    replaced = replaced.index_copy(0, rows, attend(attn, queries.flatten(0, 1)[rows][None], context)[0])
    return torch.unflatten(replaced, 0, answer.shape[:2])
