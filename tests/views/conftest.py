"""Fixtures of the view tests."""

from __future__ import annotations

import random
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from tinyvit_kd.views import native
from tinyvit_kd.views.selfcheck import reference_differences

NEEDS_NATIVE = pytest.mark.skipif(not native.is_on(), reason="the native renderer is not built, or is switched off")
NEEDS_REFERENCE = pytest.mark.skipif(
    bool(reference_differences()), reason="this version of Pillow resizes otherwise than Pillow 13, the reference"
)


@pytest.fixture
def seeded() -> Iterator[None]:
    """Seed the global generators that timm uses, and restore them afterwards."""
    python, numpy, pytorch = random.getstate(), np.random.get_state(), torch.get_rng_state()
    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)
    yield
    random.setstate(python)
    np.random.set_state(numpy)
    torch.set_rng_state(pytorch)
