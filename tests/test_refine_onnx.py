"""The refiner outside PyTorch: exported as ONNX and run by ONNX Runtime."""

from __future__ import annotations

import pytest
import torch

from spatialme.refine import Refiner
from tests.test_refine import views

onnxruntime = pytest.importorskip("onnxruntime", reason="pip install onnx onnxscript onnxruntime")
pytest.importorskip("onnxscript", reason="pip install onnx onnxscript onnxruntime")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the exporter about itself
def test_packaged_refiner_gives_the_same_from_onnx_at_another_size(tmp_path):
    network = Refiner.load("refiner-small").network.to(memory_format=torch.contiguous_format)
    branches, hole = views(frames=1, height=32, width=48)
    rows = 8 * torch.export.Dim("rows", min=2, max=512)
    columns = 8 * torch.export.Dim("columns", min=2, max=512)
    path = tmp_path / "refiner.onnx"
    torch.onnx.export(
        network,
        (*branches, hole.float()),
        str(path),
        dynamo=True,
        input_names=["poly", "expansion", "dl", "hole"],
        dynamic_shapes=({2: rows, 3: columns},) * 4,
    )
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    branches, hole = views(frames=1, height=40, width=72, seed=1)
    inputs = {name: view.numpy() for name, view in zip(("poly", "expansion", "dl", "hole"), (*branches, hole.float()))}
    for mine, expected in zip(session.run(None, inputs), network(*branches, hole.float())):
        # two libraries' convolutions, through eleven layers
        torch.testing.assert_close(torch.from_numpy(mine), expected, atol=1e-4, rtol=0)
