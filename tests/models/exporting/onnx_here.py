"""Whether ONNX files can be made here: with the packages of the extra, and a torch whose exporter fits them."""

from __future__ import annotations

import importlib.util

import pytest
import torch
from torch.torch_version import TorchVersion

_PACKAGES = all(importlib.util.find_spec(name) for name in ("onnx", "onnxruntime", "onnxscript"))
_TORCH = TorchVersion(torch.__version__) >= TorchVersion("2.8")
NEEDS_ONNX = pytest.mark.skipif(not (_PACKAGES and _TORCH), reason="needs the extra onnx, and torch 2.8 or newer")
