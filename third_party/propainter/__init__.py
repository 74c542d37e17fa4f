"""ProPainter, independently implemented; see README.md.

Video inpainting in three networks whose parameter names are those of the published checkpoints.
"""

from .checkpoints import CheckpointError, load_flow_completion, load_generator
from .flow_completion import FlowCompletion
from .generator import InpaintGenerator, shrink_flows, shrink_masks
from .image_propagation import propagate_images
from .schedule import PUBLISHED, Schedule
from .shot import Networks, ShotFrame, inpaint_shot
from .window_plan import WindowPlan, plan_windows, windows_with_holes

__all__ = [
    "PUBLISHED",
    "CheckpointError",
    "FlowCompletion",
    "InpaintGenerator",
    "Networks",
    "Schedule",
    "ShotFrame",
    "WindowPlan",
    "inpaint_shot",
    "load_flow_completion",
    "load_generator",
    "plan_windows",
    "propagate_images",
    "shrink_flows",
    "shrink_masks",
    "windows_with_holes",
]
