"""One of each fault, on real processes under a crowd of streams; `make faults` makes many of each."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults import edges, endings, hung, rows, runner, shortage, stands
from tests.faults.rows import Row
from tests.faults.scene import Scene, serve
from tests.faults.stands import ENDINGS, STANDS

QUICK = ("1", "2", "4", "25", "26", "27", "42", "43", "5", "17", "34")  # many others have a test in tests/e2e
SEED = 3


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with serve(tmp_path_factory.mktemp("faults")) as server:
        scene = Scene(server, random.Random(SEED))
        scene.warm()
        yield scene


@pytest.mark.parametrize(
    "row",
    [row for row in STANDS[0].rows if row.number in QUICK or row is shortage.ROWS[0]],
    ids=lambda row: row.act.__name__,
)
def test_a_fault_disturbs_nobody_else_and_leaves_nothing_behind(scene: Scene, row: Row) -> None:
    assert runner.stand(scene, row, 1).violations == []


@pytest.mark.parametrize(
    "ending",
    [end for end in ENDINGS if end.number in QUICK and end not in hung.ENDINGS],
    ids=lambda ending: ending.act.__name__,
)
def test_an_end_leaves_nothing_behind(tmp_path: Path, ending: endings.Ending) -> None:
    assert runner.end(ending, 1, SEED, tmp_path).violations == []


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with serve(tmp_path_factory.mktemp("edge"), 'max_body = "2MiB"\n' + stands.edge(Path())) as server:
        scene = Scene(server, random.Random(SEED))
        scene.warm()
        yield scene


@pytest.mark.parametrize("row", edges.ROWS, ids=lambda row: row.act.__name__)
def test_what_is_no_request_disturbs_nobody_else_and_leaves_nothing_behind(edge: Scene, row: Row) -> None:
    assert runner.stand(edge, row, 1).violations == []


def test_a_disturbance_is_seen(scene: Scene) -> None:
    """The checker would see it: the same fault, but nobody says that it happened."""

    def secretly(scene: Scene) -> rows.Hit:
        assert scene.crowd is not None
        while True:  # what had not begun is asked once more, and nobody loses anything
            hit = rows.kill_worker(scene)
            if any(entry.marks == ["error"] for entry in scene.crowd.entries):
                return rows.Hit(None, hit.began, hit.ended, hit.recovery)

    found = runner.stand(scene, Row("1", "unannounced", secretly, 1), 1).violations
    assert any("an error without a cause" in text for text in found)
