"""The mixing kernels, compiled, on a GPU."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("triton")
from tests.model.triton_mixing_cases import *  # noqa: F403

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]
