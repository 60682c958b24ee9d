"""SmolLM2, loaded once for all tests that take it as it comes."""

from __future__ import annotations

import pytest

from tests import models
from tests.worker.test_engine import Bench


@pytest.fixture(scope="session")
def loaded_smollm() -> Bench:
    return Bench(models.smollm(), n_ctx=512)


@pytest.fixture(scope="module")
def smollm(loaded_smollm: Bench) -> Bench:
    """Without what the tests of other files left in it."""
    loaded_smollm.new()
    loaded_smollm.events.clear()
    return loaded_smollm
