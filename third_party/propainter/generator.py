"""The inpainting network: encoder, feature propagation, sparse transformer, decoder."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .encoder import REDUCTION, Encoder, build_decoder
from .feature_propagation import FeaturePropagation
from .tokens import SoftComposition, SoftSplit, count_patches
from .transformer import SparseTransformer
from .window_plan import WindowPlan, plan_windows, windows_with_holes


class InpaintGenerator(nn.Module):
    """ProPainter's generator (Zhou et al., ICCV 2023), in pieces whose results can be kept between windows.

    ```
    frames, masks -> encode ---> propagate (local frames) -+-> tokenise -> transform -> compose -(+)-> decode
                        |                                  |                                      |
                        +-> (reference frames) ------------+     features of the local frames ----+
    ```

    `encode` and, for reference frames, `tokenise` depend on single frames only; `forward` is the published order.
    """

    def __init__(self) -> None:
        super().__init__()
        self.encoder = Encoder()
        self.decoder = build_decoder()
        self.ss = SoftSplit()
        self.sc = SoftComposition()
        self.feat_prop_module = FeaturePropagation()
        self.transformers = SparseTransformer()

    def forward(
        self,
        masked_frames: Tensor,
        flows: tuple[Tensor, Tensor],
        masks_in: Tensor,
        masks_updated: Tensor,
        num_local_frames: int,
    ) -> Tensor:
        """Inpaint the local frames with the help of the others.

        Args:
            masked_frames: (B, T, 3, H, W) in [-1, 1], H and W multiples of 4: local frames, then reference frames.
            flows: Forward (local t to t + 1) and backward (t + 1 to t), each (B, num_local_frames - 1, 2, H, W) pixels.
            masks_in: (B, T, 1, H, W), 1 = hole.
            masks_updated: (B, T, 1, H, W), 1 = still unfilled after image propagation.
            num_local_frames: How many of the frames are consecutive, and answered for.

        Returns:
            (B, num_local_frames, 3, H, W) in [-1, 1].

        Raises:
            ValueError: If a size does not fit.
        """
        _check(masked_frames, flows, masks_in, masks_updated, num_local_frames)
        batch_size, num_frames = masked_frames.shape[:2]
        features = self.encode(
            masked_frames.flatten(0, 1), masks_in.flatten(0, 1), masks_updated.flatten(0, 1)
        ).unflatten(0, (batch_size, num_frames))
        small_masks = shrink_masks(masks_in)[:, :num_local_frames]
        small_updated = shrink_masks(masks_updated)[:, :num_local_frames]
        local = self.propagate(
            features[:, :num_local_frames], torch.cat((small_masks, small_updated), dim=2), *map(shrink_flows, flows)
        )
        tokens = self.tokenise(torch.cat((local, features[:, num_local_frames:]), dim=1))
        with_holes = windows_with_holes(small_masks).any(dim=1)
        plan = plan_windows(with_holes, (tokens.shape[2], tokens.shape[3]), tokens.device)
        feature_size = (local.shape[3], local.shape[4])
        return self.decode(
            local + self.transform(tokens, plan, feature_size=feature_size, num_local_frames=num_local_frames)
        )

    def encode(self, frames: Tensor, masks: Tensor, masks_updated: Tensor) -> Tensor:
        """Frame by frame: (N, 3, H, W) in [-1, 1] and two (N, 1, H, W) masks to features (N, 128, H / 4, W / 4)."""
        return self.encoder(torch.cat((frames, masks.to(frames.dtype), masks_updated.to(frames.dtype)), dim=1))

    def propagate(self, features: Tensor, masks: Tensor, flows_forward: Tensor, flows_backward: Tensor) -> Tensor:
        """Carry the local frames' features along the flow; all at feature size, see `FeaturePropagation.forward`."""
        return self.feat_prop_module(features, masks, flows_forward, flows_backward)

    def tokenise(self, features: Tensor) -> Tensor:
        """Frame by frame: (B, T, 128, h, w) to tokens (B, T, rows, columns, 512)."""
        return self.ss(features.flatten(0, 1)).unflatten(0, features.shape[:2])

    def transform(
        self, tokens: Tensor, plan: WindowPlan, *, feature_size: tuple[int, int], num_local_frames: int
    ) -> Tensor:
        """What is to be added to the local frames' features.

        Args:
            tokens: (B, T, rows, columns, 512), local frames first.
            plan: From `plan_windows`, for this batch and grid.
            feature_size: (h, w) that the tokens were split from.
            num_local_frames: The result is for the first so many frames.

        Returns:
            (B, num_local_frames, 128, h, w).
        """
        patch_count = count_patches(feature_size, tokens)
        tokens = self.transformers(tokens, plan, patch_count, num_output_frames=num_local_frames)
        return self.sc(tokens.flatten(0, 1), feature_size).unflatten(0, (len(tokens), num_local_frames))

    def decode(self, features: Tensor) -> Tensor:
        """(B, T, 128, h, w) to colours (B, T, 3, 4 h, 4 w) in [-1, 1]."""
        return torch.tanh(self.decoder(features.flatten(0, 1))).unflatten(0, features.shape[:2])


def shrink_flows(flows: Tensor) -> Tensor:
    """Flows (B, T, 2, H, W) at feature size and in its pixels."""
    small = F.interpolate(flows.flatten(0, 1), scale_factor=1 / REDUCTION, mode="bilinear", align_corners=False)
    return small.unflatten(0, flows.shape[:2]) / REDUCTION


def shrink_masks(masks: Tensor) -> Tensor:
    """Masks (B, T, 1, H, W) at feature size, nearest."""
    small = F.interpolate(masks.flatten(0, 1), scale_factor=1 / REDUCTION, mode="nearest")
    return small.unflatten(0, masks.shape[:2])


def _check(
    frames: Tensor, flows: tuple[Tensor, Tensor], masks_in: Tensor, masks_updated: Tensor, num_local_frames: int
) -> None:
    batch_size, num_frames, channels, height, width = frames.shape
    if channels != 3 or height % REDUCTION or width % REDUCTION:
        raise ValueError(f"frames must be (B, T, 3, H, W) with H and W multiples of 4, got {tuple(frames.shape)}")
    if not 1 <= num_local_frames <= num_frames:
        raise ValueError(f"num_local_frames must be in [1, {num_frames}], got {num_local_frames}")
    for masks in (masks_in, masks_updated):
        if masks.shape != frames[:, :, :1].shape:
            raise ValueError(f"masks must match the frames' {tuple(frames.shape)}, got {tuple(masks.shape)}")
    wanted = (batch_size, num_local_frames - 1, 2, height, width)
    for flow in flows:
        if tuple(flow.shape) != wanted:
            raise ValueError(f"flows between {num_local_frames} local frames must be {wanted}, got {tuple(flow.shape)}")
