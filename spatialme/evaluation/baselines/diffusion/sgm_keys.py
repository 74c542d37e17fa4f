"""Names of SVD's U-Net weights in Stability AI's layout (`sgm`), which M2SVid's file has, against diffusers'.

```
input_blocks.0.0            conv_in                    output_blocks.N   up_blocks.(N // 3)
input_blocks.1-11           down_blocks, 3 per level: two layers and a downsampler (the last level has none)
middle_block.0, 1, 2        mid_block: resnet, attention, resnet
X.0 ResBlock + time_stack   resnets.spatial_res_block, .temporal_res_block
X.1 SpatialVideoTransformer attentions: transformer_blocks, time_stack -> temporal_transformer_blocks
```
"""

from __future__ import annotations

from torch import Tensor

from spatialme.errors import WeightsError

PREFIX = "model.diffusion_model."

_OUTER = {
    "conv_in": "input_blocks.0.0",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
_RESIDUAL = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
_TRANSFORMER = {
    "temporal_transformer_blocks": "time_stack",
    "time_pos_embed.linear_1": "time_pos_embed.0",
    "time_pos_embed.linear_2": "time_pos_embed.2",
}


def from_sgm(weights: dict[str, Tensor], wanted: list[str]) -> dict[str, Tensor]:
    """Rename a U-Net's weights.

    Args:
        weights: A file's, by sgm's names; others than the U-Net's are left out.
        wanted: diffusers' names, of `UNetSpatioTemporalConditionModel` with two layers per block.

    Raises:
        WeightsError: One is missing, or the file has one more in its U-Net.
    """
    names = {name: PREFIX + sgm_name(name) for name in wanted}
    missing = sorted(set(names.values()) - set(weights))
    extra = sorted({name for name in weights if name.startswith(PREFIX)} - set(names.values()))
    if missing or extra:
        which = f"lacks {missing[0]}" if missing else f"has {extra[0]} besides"
        raise WeightsError(
            f"the file is no U-Net of Stable Video Diffusion in sgm's layout: it {which}; {len(missing)} names are "
            f"missing and {len(extra)} too many; give m2svid_weights.pt, or a folder in diffusers' layout"
        )
    return {name: weights[old] for name, old in names.items()}


def sgm_name(name: str) -> str:
    """sgm's name, without the prefix, for one of diffusers'."""
    outer, _, parameter = name.rpartition(".")
    if outer in _OUTER:
        return f"{_OUTER[outer]}.{parameter}"
    where, number, kind, inner = _place(name)
    if kind == "resnets":
        return f"{where}.{number}.{_residual(inner)}"
    if kind == "attentions":
        return f"{where}.{number}.{_replaced(inner, _TRANSFORMER)}"
    return f"{where}.{number}.{'op' if kind == 'downsamplers' else 'conv'}.{parameter}"


def _place(name: str) -> tuple[str, int, str, str]:
    """sgm's block, the number of the part in it, the part's kind and what is inside the part."""
    if name.startswith("mid_block"):
        _, kind, index, inner = name.split(".", 3)
        return "middle_block", 2 * int(index) if kind == "resnets" else 1, kind, inner
    side, block, kind, index, inner = name.split(".", 4)
    level, layer = int(block), int(index)
    if side == "down_blocks":
        position = 3 if kind == "downsamplers" else 1 + layer
        return f"input_blocks.{3 * level + position}", 1 if kind == "attentions" else 0, kind, inner
    if kind == "upsamplers":  # after the third layer's attention, which the first level has none of
        return f"output_blocks.{3 * level + 2}", 1 if level == 0 else 2, kind, inner
    return f"output_blocks.{3 * level + layer}", 1 if kind == "attentions" else 0, kind, inner


def _residual(inner: str) -> str:
    part, _, rest = inner.partition(".")
    if part == "time_mixer":
        return inner
    renamed = _replaced(rest, _RESIDUAL)
    return renamed if part == "spatial_res_block" else f"time_stack.{renamed}"


def _replaced(name: str, table: dict[str, str]) -> str:
    for old, new in table.items():
        if name.startswith(old + "."):
            return new + name[len(old) :]
    return name
