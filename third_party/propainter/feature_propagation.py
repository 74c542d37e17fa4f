"""Learned propagation of encoder features along the flow, between the local frames of a window."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .alignment import DeformableAlignment
from .warping import flows_agree, warp

CHANNELS = 128
MASK_CHANNELS = 2  # the hole, and what image propagation left unfilled


class FeaturePropagation(nn.Module):
    """Two recurrent passes, against time and then along it, and a fusion of both with the input."""

    def __init__(self) -> None:
        super().__init__()
        passes = ("backward_1", "forward_1")
        condition_channels = 2 * CHANNELS + 2 + 1 + MASK_CHANNELS  # current, warped previous, flow, agreement, masks
        self.deform_align = nn.ModuleDict(
            {name: DeformableAlignment(CHANNELS, condition_channels, largest_offset_px=3.0) for name in passes}
        )
        self.backbone = nn.ModuleDict({name: _two_convs() for name in passes})
        self.fuse = _two_convs()

    def forward(self, features: Tensor, masks: Tensor, flows_forward: Tensor, flows_backward: Tensor) -> Tensor:
        """Carry features across frames.

        Args:
            features: (B, T, 128, h, w).
            masks: (B, T, 2, h, w), 1 = hole: the original and the updated mask.
            flows_forward: (B, T - 1, 2, h, w) pixels of the feature grid, frame t to t + 1.
            flows_backward: (B, T - 1, 2, h, w), frame t + 1 to t.

        Returns:
            (B, T, 128, h, w).
        """
        agree_forward = flows_agree(flows_forward, flows_backward)
        agree_backward = flows_agree(flows_backward, flows_forward)
        masks = masks.to(features.dtype)
        each, mask = features.unbind(1), masks.unbind(1)
        # time runs backwards in the first pass: each frame draws on the one after it
        turned = (each[::-1], mask[::-1], flows_forward.unbind(1)[::-1], agree_forward.unbind(1)[::-1])
        backward = self._one_way("backward_1", *turned)[::-1]
        forward = self._one_way("forward_1", backward, mask, flows_backward.unbind(1), agree_backward.unbind(1))
        # frame by frame: side by side, those of eleven frames of 1920x1080 take 1.5 GB with what is made of them
        fused = [self.fuse(torch.cat(parts, dim=1)) + feature for *parts, feature in zip(backward, forward, mask, each)]
        del backward, forward
        return torch.stack(fused, dim=1)

    def _one_way(
        self,
        name: str,
        features: Sequence[Tensor],
        masks: Sequence[Tensor],
        flows: Sequence[Tensor],
        agree: Sequence[Tensor],
    ) -> list[Tensor]:
        """Frame k draws on the result of frame k - 1, to which ``flows[k - 1]`` leads."""
        align, backbone = self.deform_align[name], self.backbone[name]
        results: list[Tensor] = []
        for k, (current, mask) in enumerate(zip(features, masks)):
            carried = current
            if k > 0:
                flow, previous = flows[k - 1], results[-1]
                seen = (current, warp(previous, flow), flow, agree[k - 1], mask)
                condition = torch.cat([part.to(current.dtype) for part in seen], dim=1)
                carried = align(previous, condition, flow)
            results.append(carried + backbone(torch.cat((current, carried, mask), dim=1)))
        return results


def _two_convs() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(2 * CHANNELS + MASK_CHANNELS, CHANNELS, 3, padding=1),
        nn.LeakyReLU(0.2, inplace=True),
        nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1),
    )
