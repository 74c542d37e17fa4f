"""Low-rank updates of linear layers (E. Hu et al., "LoRA", ICLR 2022): few weights to train, none after merging."""

from __future__ import annotations

import re

import torch
from torch import Tensor, nn
from torch.nn import functional as F

ATTENTION = re.compile(r".*\.attention\.(?:attention\.)?(?:q_proj|v_proj|query|value)")  # transformers 5 and 4


class LoraLinear(nn.Module):
    """A frozen linear layer plus ``up @ down``; starts as the layer alone."""

    def __init__(self, layer: nn.Linear, rank: int):
        super().__init__()
        self.layer = layer.requires_grad_(False)
        self.lora_down = nn.Parameter(torch.randn(rank, layer.in_features) / layer.in_features**0.5)
        self.lora_up = nn.Parameter(torch.zeros(layer.out_features, rank))

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) + F.linear(F.linear(x, self.lora_down), self.lora_up)


def add_lora(model: nn.Module, rank: int) -> nn.Module:
    """Freeze the encoder (``backbone.``) and give the query and value layers of its attention an update each."""
    for name, parameter in model.named_parameters():
        if name.startswith("backbone."):
            parameter.requires_grad_(False)
    for name, layer in list(model.named_modules()):
        if isinstance(layer, nn.Linear) and ATTENTION.fullmatch(name):
            parent, _, own = name.rpartition(".")
            setattr(model.get_submodule(parent), own, LoraLinear(layer, rank))
    return model


def merged(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A state dict with every update added to its layer, under the names of the model without updates."""
    plain = {}
    for name, value in state.items():
        if name.endswith((".lora_down", ".lora_up")):
            continue
        owner, _, part = name.rpartition(".layer.")
        if part == "weight" and f"{owner}.lora_up" in state:
            value = value + state[f"{owner}.lora_up"] @ state[f"{owner}.lora_down"]
        plain[f"{owner}.{part}" if part and f"{owner}.lora_up" in state else name] = value
    return plain
