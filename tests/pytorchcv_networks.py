"""pytorchcv's port of ProPainter as a black box: our weights in, answers in our layout out.

The names below are read off the two state dicts, nothing else of the port is known here.
"""

from __future__ import annotations

import re

import torch
from torch import Tensor, nn

# ours -> theirs, applied in this order
GENERATOR_RENAMES = (
    (r"^decoder\.0\.conv", "decoder.unit1.conv1.conv"),
    (r"^decoder\.2", "decoder.unit1.conv2.conv"),
    (r"^decoder\.4\.conv", "decoder.unit2.conv1.conv"),
    (r"^decoder\.6", "decoder.unit2.conv2.conv"),
)
FLOW_COMPLETION_RENAMES = (
    (r"^downsample\.0", "hg.down_seq.down1.conv.conv"),
    (r"^encoder1\.", "hg.down_seq.down2."),
    (r"^encoder2\.", "hg.down_seq.down3."),
    (r"^(hg\.down_seq\.down\d)\.0\.conv(\d)\.0", r"\1.block1.conv\2.conv"),
    (r"^(hg\.down_seq\.down\d)\.2\.conv(\d)\.0", r"\1.block2.conv\2.conv"),
    (r"^upsample\.", "hg.up_seq.up1."),
    (r"^decoder1\.", "hg.up_seq.up2."),
    (r"^decoder2\.", "hg.up_seq.up3."),
    (r"^(hg\.up_seq\.up\d)\.0", r"\1.conv1.conv"),
    (r"^(hg\.up_seq\.up\d)\.2\.conv", r"\1.conv2.conv"),
    (r"^(mid_dilation|feat_prop_module)\.", r"hg.skip_seq.skip4.\1."),
    (r"^edgeDetector\.projection\.0", "edgeDetector.proj.conv"),
    (r"^edgeDetector\.mid_layer_(\d)\.0", r"edgeDetector.res_unit.body.conv\1.conv"),
    (r"^edgeDetector\.out_layer", "edgeDetector.out_conv"),
)
NUMBERED_CONVS = re.compile(r"(conv_offset|backbone\.\w+|fuse|mid_dilation)\.(\d)\.")
ENCODER_LAYERS = re.compile(r"^encoder\.layers\.(\d+)\.")


def port_of_generator(ours: nn.Module) -> nn.Module:
    """Their inpainting network with our weights; call it with `run_generator`."""
    return _port("propainter", ours, GENERATOR_RENAMES)


def port_of_flow_completion(ours: nn.Module) -> nn.Module:
    """Their flow completion with our weights; arguments as ours, the first of what it returns is the flows."""
    return _port("propainter_rfc", ours, FLOW_COMPLETION_RENAMES)


def port_of_image_propagation() -> nn.Module:
    """Their image propagation; call it with `run_image_propagation`."""
    from pytorchcv.model_provider import get_model

    return get_model("propainter_ip", pretrained=False).eval()


def run_generator(
    port: nn.Module, frames: Tensor, flows: tuple[Tensor, Tensor], masks: Tensor, updated: Tensor, num_local: int
) -> Tensor:
    """Arguments and result as `InpaintGenerator.forward`."""
    return port(frames, updated, masks, torch.cat(flows, dim=2), num_local)


def run_image_propagation(
    port: nn.Module, frames: Tensor, masks: Tensor, flows_forward: Tensor, flows_backward: Tensor
) -> tuple[Tensor, Tensor]:
    """Arguments and result as `propagate_images`, for one batch item."""
    flows = torch.cat((flows_forward, flows_backward), dim=2)[0]
    filled, unfilled = port(frames[0], masks[0], flows)
    return filled[None], unfilled[None]


def _port(name: str, ours: nn.Module, renames: tuple[tuple[str, str], ...]) -> nn.Module:
    from pytorchcv.model_provider import get_model

    port = get_model(name, pretrained=False)
    port.load_state_dict({_renamed(key, renames): value for key, value in ours.state_dict().items()})
    return port.eval()


def _renamed(key: str, renames: tuple[tuple[str, str], ...]) -> str:
    key = NUMBERED_CONVS.sub(lambda found: f"{found[1]}.conv{int(found[2]) // 2 + 1}.conv.", key)
    key = ENCODER_LAYERS.sub(lambda found: f"encoder.layers.{int(found[1]) // 2}.conv.", key)
    key = re.sub(r"(deform_align\.\w+)\.(weight|bias)$", r"\1.deform_conv.\2", key)
    for our_name, their_name in renames:
        key = re.sub(our_name, their_name, key)
    return key
