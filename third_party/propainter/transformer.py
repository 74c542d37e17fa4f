"""The sparse transformer: windows with holes look across frames, the others only at themselves."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .tokens import TOKEN_CHANNELS, PatchFeedForward
from .window_plan import WindowPlan, shifted_positions

HEADS = 4
POOL = 4  # the whole frame is seen through 4x4 pooled tokens
BLOCKS = 8
KEY_FRAME_STEP = 2  # block i takes keys from frames i % 2, i % 2 + 2, ...
WINDOWS_AT_ONCE = 32  # bounds gathered keys and values: about 0.7 GB in half precision at 1920x1080


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

        Args:
            tokens: (B, T, rows, columns, 512), normalised.
            plan: Windows of this grid and batch.
            first_key_frame: 0 or 1: windows with holes look at every second frame's tokens, from this one on.
            num_output_frames: The result is for the first so many frames.

        Returns:
            (B, num_output_frames, rows, columns, 512).
        """
        rows, columns = tokens.shape[2:4]
        padding = (0, 0, 0, plan.padded_grid[1] - columns, 0, plan.padded_grid[0] - rows)
        tokens = F.pad(tokens, padding)
        query = self.query(tokens[:, :num_output_frames]).flatten(2, 3)
        key_frames = slice(first_key_frame, None, KEY_FRAME_STEP)
        key, value = self._keys_and_values(tokens.flatten(2, 3), plan, first_key_frame)
        pooled = self._pool(tokens[:, key_frames])
        pooled_key, pooled_value = self.key(pooled), self.value(pooled)

        attended = torch.empty_like(query)
        for item, window in _portions(plan.plain_item, plan.plain_window):
            own = _Tokens(item, plan.own[window])
            result = _attend(own.of(query), own.of(key[:, :num_output_frames]), own.of(value[:, :num_output_frames]))
            own.put(result, attended)
        for item, window in _portions(plan.masked_item, plan.masked_window):
            own, near = _Tokens(item, plan.own[window]), _Tokens(item, plan.near[window])
            keys = torch.cat((near.of(key[:, key_frames]).flatten(1, 2), pooled_key[item]), dim=1)
            values = torch.cat((near.of(value[:, key_frames]).flatten(1, 2), pooled_value[item]), dim=1)
            queries = own.of(query)
            result = _attend(queries.flatten(1, 2), keys, values)
            own.put(result.view_as(queries), attended)
        attended = attended.unflatten(2, plan.padded_grid)[:, :, :rows, :columns]
        return self.proj(attended)

    def _keys_and_values(self, tokens: Tensor, plan: WindowPlan, first_key_frame: int) -> tuple[Tensor, Tensor]:
        """Keys and values of (B, T, positions, 512) tokens, in that shape, where a window reads them.

        Windows with holes read key frames, those without read themselves in every frame. What nobody reads, in other
        frames inside windows with holes, is left undefined: near half of the work where most windows have holes.
        """
        key_frames, other_frames = (
            slice(first, None, KEY_FRAME_STEP) for first in (first_key_frame, 1 - first_key_frame)
        )
        results = []
        for layer in (self.key, self.value):
            result = torch.empty_like(tokens)
            result[:, key_frames] = layer(tokens[:, key_frames])
            for item, window in _portions(plan.plain_item, plan.plain_window):
                own = _Tokens(item, plan.own[window])
                own.put(layer(own.of(tokens[:, other_frames])), result[:, other_frames])
            results.append(result)
        return results[0], results[1]

    def _pool(self, tokens: Tensor) -> Tensor:
        """(B, T, rows, columns, 512) -> (B, T * pooled, 512)."""
        pooled = self.pool_layer(tokens.flatten(0, 1).permute(0, 3, 1, 2))
        return pooled.permute(0, 2, 3, 1).reshape(len(tokens), -1, TOKEN_CHANNELS)


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


def _portions(item: Tensor, window: Tensor) -> zip[tuple[Tensor, Tensor]]:
    return zip(item.split(WINDOWS_AT_ONCE), window.split(WINDOWS_AT_ONCE))


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
        attended = self.attention(
            self.norm1(tokens), plan, first_key_frame=first_key_frame, num_output_frames=num_output_frames
        )
        tokens = tokens[:, :num_output_frames] + attended
        mixed = self.mlp(self.norm2(tokens).flatten(0, 1), patch_count)
        return tokens + mixed.view_as(tokens)


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
