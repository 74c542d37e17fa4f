"""Tensors between the host and a GPU without either waiting for the other: through pinned memory."""

from __future__ import annotations

import torch
from torch import Tensor


def to_device(host: Tensor, device: torch.device | str) -> Tensor:
    """Send a tensor of the host; what is queued after this on the device finds it there. Others go as they are."""
    if torch.device(device).type != "cuda" or host.device.type != "cpu":
        return host.to(device)
    # PyTorch keeps the pinned copy until the device has read it
    return host.pin_memory().to(device, non_blocking=True)


class Download:
    """A tensor on its way to the host."""

    def __init__(self, source: Tensor) -> None:
        """Queue the copy behind what the device has to do already."""
        self._arrived: torch.cuda.Event | None = None
        if source.device.type == "cuda":
            self._host = torch.empty(source.shape, dtype=source.dtype, pin_memory=True)
            self._host.copy_(source, non_blocking=True)
            self._arrived = torch.cuda.Event()
            self._arrived.record(torch.cuda.current_stream(source.device))
        else:
            self._host = source.cpu()

    def wait(self) -> Tensor:
        """The tensor on the host, once it is there."""
        if self._arrived is not None:
            self._arrived.synchronize()
        return self._host
