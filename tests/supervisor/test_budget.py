from __future__ import annotations

import pytest

from supervisor.budget import budgets, device
from supervisor.config import Placement
from supervisor.schema import Invalid

GIB = 2**30


@pytest.mark.parametrize(("ram", "left"), [(2, 0.5), (20, 2), (100, 4)])
def test_auto_leaves_a_part_of_the_ram_to_others(ram: int, left: float) -> None:
    assert budgets(Placement(), ram * GIB, ()) == {"ram": (ram - left) * GIB}


def test_auto_leaves_a_part_of_each_gpu() -> None:
    assert budgets(Placement(), 0, (10 * GIB, 80 * GIB)) == {"gpu:0": 9.5 * GIB, "gpu:1": 79 * GIB}


def test_a_table_is_all_there_is() -> None:
    assert budgets(Placement(memory={"ram": 5, "cuda:1": 6}), GIB, (GIB,)) == {"ram": 5, "gpu:1": 6}
    assert budgets(Placement(memory={}), GIB, (GIB,)) == {}


def test_devices_have_names() -> None:
    assert [device(name) for name in ("ram", "cuda:0", "gpu:3", "vulkan:1")] == ["ram", "gpu:0", "gpu:3", "gpu:1"]
    with pytest.raises(Invalid, match='expected a device, "ram" or like "cuda:0", got "cuda"'):
        device("cuda")
