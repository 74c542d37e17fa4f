"""The sparse transformer: windows with holes look across frames, the others only at themselves."""

from __future__ import annotations

from contextlib import nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .tokens import TOKEN_CHANNELS, PatchFeedForward
from .window_plan import WindowPlan, shifted_positions

HEADS = 4
POOL = 4  # the whole frame is seen through 4x4 pooled tokens
BLOCKS = 8
KEY_FRAME_STEP = 2  # block i takes keys from frames i % 2, i % 2 + 2, ...
PORTION_BYTES = 320_000_000  # of keys and values gathered at once: for 16 windows in half precision at 1920x1080


class SparseWindowAttention(nn.Module):
    """Multi-head attention over windows of 5x9 tokens."""

    valid_ind_rolled: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.query = nn.Linear(TOKEN_CHANNELS, TOKEN_CHANNELS)
        self.key = nn.Linear(TOKEN_CHANNELS, TOKEN_CHANNELS)
        self.value = nn.Linear(TOKEN_CHANNELS, TOKEN_CHANNELS)
        self.proj = nn.Linear(TOKEN_CHANNELS, TOKEN_CHANNELS)
        self.pool_layer = nn.Conv2d(TOKEN_CHANNELS, TOKEN_CHANNELS, POOL, stride=POOL, groups=TOKEN_CHANNELS)
        # checkpoints carry this constant; the plan's positions are used instead, whatever order the file has them in
        self.register_buffer("valid_ind_rolled", shifted_positions())

    def forward(self, tokens: Tensor, plan: WindowPlan, *, first_key_frame: int, num_output_frames: int) -> Tensor:
        """Attend.

        Windows go from queries to projection in portions, so that no map of all queries or results exists; at
        1920x1080 each would take 0.3 GB in half precision.

        Args:
            tokens: (B, T, rows, columns, 512), normalised, on the plan's padded grid.
            plan: Windows of this grid and batch.
            first_key_frame: 0 or 1: windows with holes look at every second frame's tokens, from this one on.
            num_output_frames: The result is for the first so many frames.

        Returns:
            (B, num_output_frames, rows, columns, 512).
        """
        pooled = self._pool(tokens[:, first_key_frame::KEY_FRAME_STEP])
        tokens = tokens.flatten(2, 3)
        key_frames = tokens[:, first_key_frame::KEY_FRAME_STEP]
        key, value = (_Projected(layer, key_frames, pooled) for layer in (self.key, self.value))
        tokens = tokens[:, :num_output_frames]
        attended = torch.empty_like(tokens, dtype=key.dtype)
        at_once = max(1, PORTION_BYTES // (2 * key.bytes_around(plan.near)))
        for item, window in _portions(plan.plain_item, plan.plain_window, at_once):
            own = _Tokens(item, plan.own[window])
            queries = own.of(tokens)
            keys, values = (part.by_itself(own, queries, first_key_frame) for part in (key, value))
            own.put(self.proj(_attend(self.query(queries), keys, values)), attended)
        for item, window in _portions(plan.masked_item, plan.masked_window, at_once):
            own = _Tokens(item, plan.own[window])
            queries = self.query(own.of(tokens))
            keys, values = (part.around(item, plan.near[window]) for part in (key, value))
            result = self.proj(_attend(queries.flatten(1, 2), keys, values))
            own.put(result.view_as(queries), attended)
        return attended.unflatten(2, plan.padded_grid)

    def _pool(self, tokens: Tensor) -> Tensor:
        """(B, T, rows, columns, 512) -> (B, T * pooled, 512)."""
        pooled = self.pool_layer(tokens.flatten(0, 1).permute(0, 3, 1, 2))
        return pooled.permute(0, 2, 3, 1).reshape(len(tokens), -1, TOKEN_CHANNELS)


class _Projected:
    """Keys, or values, of what windows with holes can see: all tokens of the key frames, and the pooled ones."""

    def __init__(self, layer: nn.Module, key_frames: Tensor, pooled: Tensor) -> None:
        """Project (B, K, positions, 512) and (B, pooled, 512)."""
        self._layer = layer
        self._num_frames, self._num_positions = key_frames.shape[1:3]
        self._projected = layer(torch.cat((key_frames.flatten(1, 2), pooled), dim=1))

    @property
    def dtype(self) -> torch.dtype:
        return self._projected.dtype

    def bytes_around(self, near: Tensor) -> int:
        """What `around` gives takes so many per window; those of a token where no frame is a key frame."""
        num_pooled = self._projected.shape[1] - self._num_frames * self._num_positions
        num_tokens = max(1, self._num_frames * near.shape[1] + num_pooled)
        return num_tokens * TOKEN_CHANNELS * self.dtype.itemsize

    def around(self, item: Tensor, near: Tensor) -> Tensor:
        """For windows with holes, of these batch items (W,) and near positions (W, 193): (W, S, 512)."""
        num_unpooled = self._num_frames * self._num_positions
        first = torch.arange(0, num_unpooled, self._num_positions, device=near.device)
        pooled = torch.arange(num_unpooled, self._projected.shape[1], device=near.device)
        unpooled = (first[:, None] + near[:, None]).flatten(1)
        return self._projected[item[:, None], torch.cat((unpooled, pooled.expand(len(near), -1)), dim=1)]

    def by_itself(self, own: _Tokens, tokens: Tensor, first_key_frame: int) -> Tensor:
        """For windows without, of their own tokens (W, T, 45, 512) in every frame: in that shape."""
        key_frames, other_frames = (
            slice(first, None, KEY_FRAME_STEP) for first in (first_key_frame, 1 - first_key_frame)
        )
        result = torch.empty_like(tokens, dtype=self.dtype)
        there = self._projected[:, : self._num_frames * self._num_positions].unflatten(
            1, (self._num_frames, self._num_positions)
        )
        result[:, key_frames] = own.of(there[:, : len(range(tokens.shape[1])[key_frames])])
        result[:, other_frames] = self._layer(tokens[:, other_frames])
        return result


class _Tokens:
    """The tokens at given positions, in every frame, of one batch item per window."""

    def __init__(self, item: Tensor, positions: Tensor) -> None:
        self.item = item[:, None, None]  # (W,)
        self.positions = positions[:, None, :]  # (W, K)

    def of(self, tokens: Tensor) -> Tensor:
        """(B, T, positions, C) -> (W, T, K, C)."""
        return tokens[self.item, self._frames(tokens), self.positions]

    def put(self, values: Tensor, tokens: Tensor) -> None:
        """Write (W, T, K, C) into (B, T, positions, C)."""
        tokens[self.item, self._frames(tokens), self.positions] = values

    @staticmethod
    def _frames(tokens: Tensor) -> Tensor:
        return torch.arange(tokens.shape[1], device=tokens.device)[None, :, None]


def _portions(item: Tensor, window: Tensor, at_once: int) -> zip[tuple[Tensor, Tensor]]:
    return zip(item.split(at_once), window.split(at_once))


def _attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Multi-head attention of (..., Q, 512) over (..., K, 512)."""
    query, key, value = (part.unflatten(-1, (HEADS, -1)).transpose(-2, -3) for part in (query, key, value))
    return F.scaled_dot_product_attention(query, key, value).transpose(-2, -3).flatten(-2)


class TransformerBlock(nn.Module):
    """Attention and feed-forward, each on normalised tokens and added to them."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = SparseWindowAttention()
        self.norm1 = nn.LayerNorm(TOKEN_CHANNELS)
        self.norm2 = nn.LayerNorm(TOKEN_CHANNELS)
        self.mlp = PatchFeedForward()

    def forward(
        self, tokens: Tensor, plan: WindowPlan, patch_count: Tensor, *, first_key_frame: int, num_output_frames: int
    ) -> Tensor:
        """(B, T, rows, columns, 512) to (B, num_output_frames, ...); see `SparseWindowAttention.forward`."""
        rows, columns = tokens.shape[2:4]
        padding = (0, 0, 0, plan.padded_grid[1] - columns, 0, plan.padded_grid[0] - rows)
        attended = self.attention(
            F.pad(_normalised(self.norm1, tokens), padding),
            plan,
            first_key_frame=first_key_frame,
            num_output_frames=num_output_frames,
        )
        tokens = tokens[:, :num_output_frames] + attended[:, :, :rows, :columns]
        del attended
        mixed = self.mlp(_normalised(self.norm2, tokens).flatten(0, 1), patch_count)
        return tokens + mixed.view_as(tokens)


def _normalised(norm: nn.LayerNorm, tokens: Tensor) -> Tensor:
    """Tokens in the precision of the layer, which works in float32 inside.

    Autocast on a GPU would hand on float32, twice the memory, for the next layer to round to the very same values.
    """
    device_type = tokens.device.type
    can_cast = torch.amp.is_autocast_available(device_type)
    with torch.autocast(device_type, enabled=False) if can_cast else nullcontext():
        return norm(tokens.to(norm.weight.dtype))


class SparseTransformer(nn.Module):
    """Eight blocks; keys come from every second frame, even ones and odd ones in turn."""

    def __init__(self) -> None:
        super().__init__()
        self.transformer = nn.ModuleList(TransformerBlock() for _ in range(BLOCKS))

    def forward(self, tokens: Tensor, plan: WindowPlan, patch_count: Tensor, *, num_output_frames: int) -> Tensor:
        """(B, T, rows, columns, 512) -> (B, num_output_frames, rows, columns, 512).

        The last block leaves out the reference frames, whose result nobody reads.
        """
        last = len(self.transformer) - 1
        for number, block in enumerate(self.transformer):
            tokens = block(
                tokens,
                plan,
                patch_count,
                first_key_frame=number % KEY_FRAME_STEP,
                num_output_frames=num_output_frames if number == last else tokens.shape[1],
            )
        return tokens
