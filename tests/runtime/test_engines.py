"""How the embedded engines are set up."""

from __future__ import annotations

import pytest

from controlplane.runtime.engines import buffers_mb


@pytest.mark.parametrize(
    ("memory_mb", "expected"), [(512, 128), (4096, 128), (8192, 256), (24_000, 512), (512_000, 512)]
)
def test_buffers_mb__of_machines_small_and_large__are_a_part_of_their_memory(memory_mb: int, expected: int) -> None:
    assert buffers_mb(memory_mb) == expected
