"""Where tests find parity fixtures and real data, and how many threads they take.

Parity fixtures and data may be absent: what needs them then skips, saying so.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
for _variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")  # before torch is imported: models so small are slower on more, by far


def _folder(variable: str, default: Path) -> Path:
    folder = Path(os.environ.get(variable, default))
    if not folder.is_dir():
        pytest.skip(f"{folder} is absent (set {variable})")
    return folder


@pytest.fixture(scope="session")
def parity() -> Path:
    """The folder of parity fixtures."""
    return _folder("UNLEARN_PARITY", ROOT.parent / "shared" / "parity")


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of real data."""
    return _folder("UNLEARN_DATA", ROOT.parent / "shared" / "data")
