"""Compiles Triton's kernels for an H100 or H200, on any machine: python -m tests.triton_compile

Prints one JSON object: the assembly of each.
"""

from __future__ import annotations

import json

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from spatialme.depth import median_triton
from spatialme.inpaint import background_triton, polyline_triton, trace_triton
from spatialme.warp import splat_triton

FLOATS = dict.fromkeys(("colours", "shifts", "shift_px", "kernel", "view", "seen", "image", "values", "flow"), "*fp32")
FLOATS |= dict.fromkeys(("result", "colour_of", "lowest_of", "highest_of", "back", "disparity"), "*fp32")
MASKS = dict.fromkeys(("hole", "stretch", "counts", "trusted", "back_trusted"), "*i1")
NUMBERS = dict.fromkeys(("near", "far", "step", "share", "unit"), "fp32")
OTHERS = {"nearest": "*i64", "x_of": "*fp64", "y_of": "*fp64", "found_of": "*i32", "distance": "*i32", "run": "*i32"}
TYPES = FLOATS | MASKS | NUMBERS | OTHERS  # everything else is an int32
CONSTANTS = {"BLOCK": 128, "SAMPLES": 4, "SIDE": 5, "DOWN": True, "LEVELS": True}
KERNELS = (
    splat_triton._propose,
    splat_triton._read,
    polyline_triton._cover,
    polyline_triton._resolve,
    median_triton._median,
    background_triton._smooth,
    trace_triton._advance,
)


def assembly(kernel: triton.JITFunction) -> str:
    """PTX of a kernel, after the assembler has taken it."""
    names = kernel.arg_names
    constants = {(names.index(name),): value for name, value in CONSTANTS.items() if name in names}
    signature = {name: "constexpr" if name in CONSTANTS else TYPES.get(name, "i32") for name in names}
    if "LEVELS" in names:
        signature["view"] = signature["disparity"] = "*i16"
    source = ASTSource(fn=kernel, signature=signature, constexprs=constants)
    compiled = triton.compile(source, target=GPUTarget("cuda", 90, 32), options={"enable_fp_fusion": False})
    assert compiled.asm["cubin"]
    return compiled.asm["ptx"]


if __name__ == "__main__":
    print(json.dumps({kernel.__name__: assembly(kernel) for kernel in KERNELS}))
