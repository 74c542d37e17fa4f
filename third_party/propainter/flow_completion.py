"""Recurrent flow completion: what the motion inside holes would have been."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .alignment import DeformableAlignment
from .upsampling import UpsampledConv

CHANNELS = 128
REDUCTION = 8


class FlowCompletion(nn.Module):
    """Encoder over space and time, recurrent propagation both ways, decoder (ProPainter, section 3.1)."""

    def __init__(self) -> None:
        super().__init__()
        self.downsample = nn.Sequential(
            nn.Conv3d(3, 32, (1, 5, 5), stride=(1, 2, 2), padding=(0, 2, 2), padding_mode="replicate"), _leaky()
        )
        self.encoder1 = nn.Sequential(_SpaceThenTime(32, 32), _leaky(), _SpaceThenTime(32, 64, stride=2), _leaky())
        self.encoder2 = nn.Sequential(
            _SpaceThenTime(64, 64), _leaky(), _SpaceThenTime(64, CHANNELS, stride=2), _leaky()
        )
        self.mid_dilation = nn.Sequential(
            *(layer for dilation in (3, 2, 1) for layer in (_dilated_conv(dilation), _leaky()))
        )
        self.feat_prop_module = _RecurrentPropagation()
        self.decoder2 = nn.Sequential(nn.Conv2d(128, 128, 3, padding=1), _leaky(), UpsampledConv(128, 64), _leaky())
        self.decoder1 = nn.Sequential(nn.Conv2d(64, 64, 3, padding=1), _leaky(), UpsampledConv(64, 32), _leaky())
        self.upsample = nn.Sequential(nn.Conv2d(32, 32, 3, padding=1), _leaky(), UpsampledConv(32, 2))
        self.edgeDetector = _edge_detector_parameters()

    def forward(self, masked_flows: Tensor, masks: Tensor) -> Tensor:
        """Predict flows everywhere.

        Args:
            masked_flows: (B, T, 2, H, W) pixels, zero inside holes; H and W multiples of 8.
            masks: (B, T, 1, H, W), 1 = hole, of the frame that each flow starts from.

        Returns:
            (B, T, 2, H, W) pixels.

        Raises:
            ValueError: If H or W is no multiple of 8.
        """
        height, width = masked_flows.shape[-2:]
        if height % REDUCTION or width % REDUCTION:
            raise ValueError(f"flows must have H and W that are multiples of 8, got {height} x {width}")
        shallow = self.encoder1(self.downsample(torch.cat((masked_flows, masks), dim=2).transpose(1, 2)))
        deep = self.mid_dilation(self.encoder2(shallow)).transpose(1, 2)  # (B, T, 128, H / 8, W / 8)
        features = self.feat_prop_module(deep).flatten(0, 1)
        features = self.decoder2(features) + shallow.transpose(1, 2).flatten(0, 1)
        return self.upsample(self.decoder1(features)).view_as(masked_flows)

    def complete(self, flows_forward: Tensor, flows_backward: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
        """Replace the flows inside holes by predicted ones, in both directions, and keep the others.

        Args:
            flows_forward: (B, T - 1, 2, H, W) pixels, frame t to t + 1.
            flows_backward: (B, T - 1, 2, H, W) pixels, frame t + 1 to t.
            masks: (B, T, 1, H, W), 1 = hole.
        """
        forward = self._complete(flows_forward, masks[:, :-1])
        # the network has learnt flows that follow time's direction: turn time round for the others
        backward = self._complete(flows_backward.flip(1), masks[:, 1:].flip(1)).flip(1)
        return forward, backward

    def _complete(self, flows: Tensor, masks: Tensor) -> Tensor:
        predicted = self(flows * (1 - masks), masks)
        return predicted * masks + flows * (1 - masks)


class _SpaceThenTime(nn.Module):
    """A 3x3 convolution within frames, then one over three frames two apart; time stays as long as it is."""

    def __init__(self, in_channels: int, out_channels: int, *, stride: int = 1) -> None:
        super().__init__()
        # sequences only for the checkpoints' names, conv1.0 and conv2.0
        self.conv1 = nn.Sequential(
            nn.Conv3d(in_channels, out_channels, (1, 3, 3), stride=(1, stride, stride), padding=(0, 1, 1)), _leaky()
        )
        self.conv2 = nn.Sequential(
            nn.Conv3d(out_channels, out_channels, (3, 1, 1), padding=(2, 0, 0), dilation=(2, 1, 1))
        )

    def forward(self, features: Tensor) -> Tensor:
        """(B, in, T, h, w) -> (B, out, T, h / stride, w / stride)."""
        return self.conv2(self.conv1(features))


class _RecurrentPropagation(nn.Module):
    """Second-order propagation (BasicVSR++, 2022) without flow: each frame draws on the two before it."""

    def __init__(self) -> None:
        super().__init__()
        self.deform_align = nn.ModuleDict()
        self.backbone = nn.ModuleDict()
        for name, num_inputs in (("backward_", 2), ("forward_", 3)):
            self.deform_align[name] = DeformableAlignment(2 * CHANNELS, 3 * CHANNELS, largest_offset_px=5.0)
            self.backbone[name] = nn.Sequential(
                nn.Conv2d(num_inputs * CHANNELS, CHANNELS, 3, padding=1),
                nn.LeakyReLU(0.1, inplace=True),
                nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1),
            )
        self.fusion = nn.Conv2d(2 * CHANNELS, CHANNELS, 1)

    def forward(self, features: Tensor) -> Tensor:
        """(B, T, 128, h, w) -> (B, T, 128, h, w)."""
        backward = self._one_way("backward_", features.flip(1)).flip(1)
        forward = self._one_way("forward_", features, backward)
        both = torch.cat((backward, forward), dim=2).flatten(0, 1)
        return self.fusion(both).view_as(features) + features

    def _one_way(self, name: str, features: Tensor, *earlier_results: Tensor) -> Tensor:
        align, backbone = self.deform_align[name], self.backbone[name]
        nothing = torch.zeros_like(features[:, 0])
        before_previous, previous = nothing, nothing
        results = []
        for k in range(features.shape[1]):
            current = features[:, k]
            carried = nothing
            if k > 0:
                condition = torch.cat((previous, current, before_previous), dim=1)
                carried = align(torch.cat((previous, before_previous), dim=1), condition)
            seen = (current, *(result[:, k] for result in earlier_results), carried)
            before_previous, previous = previous, carried + backbone(torch.cat(seen, dim=1))
            results.append(previous)
        return torch.stack(results, dim=1)


def _leaky() -> nn.LeakyReLU:
    return nn.LeakyReLU(0.2, inplace=True)


def _dilated_conv(dilation: int) -> nn.Conv3d:
    return nn.Conv3d(CHANNELS, CHANNELS, (1, 3, 3), padding=(0, dilation, dilation), dilation=(1, dilation, dilation))


def _edge_detector_parameters() -> nn.ModuleDict:
    """The checkpoint's edge detector, which only a training loss used: its parameters, so that files load strictly."""
    return nn.ModuleDict(
        {
            "projection": nn.Sequential(nn.Conv2d(2, 16, 3)),
            "mid_layer_1": nn.Sequential(nn.Conv2d(16, 16, 3)),
            "mid_layer_2": nn.Sequential(nn.Conv2d(16, 16, 3)),
            "out_layer": nn.Conv2d(16, 1, 1),
        }
    )
