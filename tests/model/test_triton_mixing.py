"""The mixing kernels, in Triton's interpreter."""

from __future__ import annotations

from tests.model.triton_interpreter import interpreted

test_in_interpreter = interpreted("triton_mixing_cases.py")
