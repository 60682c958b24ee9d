"""LoRA adapters before any is loaded: their headers, the configuration, what a scan and an estimate make of them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf as writing
import pytest
from msgspec.structs import replace

from supervisor import adapter, catalog, gguf
from supervisor.card import Adapter as Facts
from supervisor.card import Card
from supervisor.config import Adapter, ConfigError, Model
from supervisor.configfile import load
from supervisor.control import Entry, Scan, Sought
from supervisor.estimate import RAM, estimate
from supervisor.roster import change
from tests import adapters, model_classes, models
from tests.adapters import Pair
from tests.supervisor.test_header_facts import PLAIN
from tests.supervisor.test_scan import found

BASE = model_classes.path("gqa")
MODEL = [gguf.read(BASE)[0]]
Keys = Callable[[writing.GGUFWriter], None]


def said(**keys: Any) -> Keys:
    """A header of a LoRA with these keys besides, or instead; the key with the one underscore at its end aside."""

    def write(writer: writing.GGUFWriter) -> None:
        writer.add_type("adapter")
        writer.add_string("adapter.type", "lora")
        for key, value in keys.items():
            writer.kv_data[0].pop(key.replace("__", "."), None)
            kind = writing.GGUFValueType.FLOAT64 if isinstance(value, float) else writing.GGUFValueType.get_type(value)
            writer.add_key_value(key.replace("__", "."), value, kind)

    return write


def each(do: Callable[..., Pair]) -> Callable[[list[Pair]], list[Pair]]:
    return lambda pairs: [do(*pair) for pair in pairs]


def only(name: str, a: tuple[int, ...], b: tuple[int, ...]) -> Callable[[list[Pair]], list[Pair]]:
    return lambda pairs: [(name, a, b)]


SPOILED: dict[str, tuple[dict[str, Any], str]] = {
    "a model": ({"keys": lambda writer: None}, "general.type is 'model', not 'adapter'"),
    "a control vector": (
        {"keys": said(adapter__type="control_vector")},
        "adapter.type is 'control_vector', not 'lora'",
    ),
    "a number for a text": ({"keys": said(adapter__type=3)}, "the value of adapter.type is no text"),
    "a wide alpha": ({"keys": said(adapter__lora__alpha=32.0)}, "the value of adapter.lora.alpha is no 32-bit float"),
    "an alpha of text": (
        {"keys": said(adapter__lora__alpha="32")},
        "the value of adapter.lora.alpha is no 32-bit float",
    ),
    "an aLoRA": ({"keys": said(adapter__alora__invocation_tokens=[1, 2])}, "an activated LoRA (aLoRA)"),
    "another architecture": ({"architecture": "qwen2"}, "for the architecture 'qwen2', but the model is of 'llama'"),
    "nothing": ({"change": lambda pairs: []}, "it has no tensors"),
    "an unknown tensor": ({"change": only("blk.7.attn_q.weight", (32, 64), (64, 32))}, "has no tensor 'blk.7.attn_q"),
    "another width": ({"change": each(lambda name, a, b: (name, (a[0], 2 * a[1]), b))}, "do not fit the model's"),
    "two ranks": ({"change": each(lambda name, a, b: (name, a, (b[0], 64)))}, "do not fit the model's"),
    "no rank": ({"change": each(lambda name, a, b: (name, (0, a[1]), (b[0], 0)))}, "do not fit the model's"),
    "layers of matrices": ({"change": each(lambda name, a, b: (name, (2, *a), (2, *b)))}, "do not fit the model's"),
    "embeddings' ranks": ({"change": only("token_embd.weight", (259, 32), (64, 64))}, "do not fit the model's"),
}


@pytest.mark.parametrize("kind", SPOILED)
def test_what_a_model_cannot_wear_is_told_in_words(tmp_path: Path, kind: str) -> None:
    spoiled, words = SPOILED[kind]
    adapters.write(tmp_path / "bad.gguf", BASE, **spoiled)
    assert words in adapter.problem(gguf.read(str(tmp_path / "bad.gguf"))[0], MODEL)


def test_tensors_of_a_strange_name_or_type_are_told(tmp_path: Path) -> None:
    header = gguf.read(adapters.lora(BASE))[0]
    first, *others = header.tensors
    strange = replaced(header, (replace_tensor(first, name="blk.0.attn_q.bias"), *others))
    assert "expected a name that ends in .lora_a or .lora_b" in adapter.problem(strange, MODEL)
    assert "has only one of .lora_a and .lora_b" in adapter.problem(replaced(header, tuple(others)), MODEL)
    whole = replaced(header, (replace_tensor(first, type=26), *others))
    assert "is of type I32, which cannot be multiplied" in adapter.problem(whole, MODEL)
    norm = replaced(header, (*header.tensors, replace_tensor(first, name="blk.0.attn_norm.weight")))
    assert adapter.problem(norm, MODEL) == ""


def replaced(header: gguf.Header, tensors: tuple[gguf.Tensor, ...]) -> gguf.Header:
    return gguf.Header(header.version, header.metadata, tensors, header.start, header.kinds)


def replace_tensor(tensor: gguf.Tensor, **new: Any) -> gguf.Tensor:
    return gguf.Tensor(**{"name": tensor.name, "shape": tensor.shape, "type": tensor.type, "offset": 0, **new})


@pytest.mark.parametrize("name", ["gqa", "moe", "recurrent", "hybrid"])
def test_what_fits_is_told_with_its_size_and_words(name: str) -> None:
    base = model_classes.path(name)
    header = gguf.read(adapters.lora(base))[0]
    assert adapter.problem(header, [gguf.read(base)[0]]) == ""
    size = sum(tensor.size for tensor in header.tensors)
    assert adapter.facts(header) == Facts(size, adapters.TASK, adapters.PREFIX)


def test_embeddings_can_be_changed_unless_they_are_the_output_too(tmp_path: Path) -> None:
    path = tmp_path / "embeddings.gguf"
    adapters.write(path, BASE, change=only("token_embd.weight", (MODEL_VOCABULARY, 32), (64, 32)))
    header = gguf.read(str(path))[0]
    assert adapter.problem(header, MODEL) == ""
    tied = replaced(MODEL[0], tuple(each for each in MODEL[0].tensors if each.name != "output.weight"))
    assert "is the model's output as well" in adapter.problem(header, [tied])


MODEL_VOCABULARY = len(models.vocabulary())

# -- the configuration ---------------------------------------------------------------------------------------------


def configured(folder: Path, lora: str) -> Model:
    shutil.copy(BASE, folder / "m.gguf")
    (folder / "a.gguf").touch()
    file = folder / "models.toml"
    file.write_text(f"[models.m]\npath = 'm.gguf'\nlora = {lora}\n")
    return load(file).models["m"]


def test_adapters_are_paths_or_tables_beside_the_file(tmp_path: Path) -> None:
    model = configured(tmp_path, "['a.gguf', {path = 'a.gguf', scale = -0.5}]")
    there = str(tmp_path / "a.gguf")
    assert model.lora == model.adapters == (Adapter(path=there), Adapter(path=there, scale=-0.5))
    assert (Adapter(path=there).scale, Model().adapters) == (1.0, ())


@pytest.mark.parametrize(
    ("lora", "text"),
    [
        ("['b.gguf']", '[models.m].lora[0]: expected an existing file, got "b.gguf"; no such file:'),
        ("['a.gguf', {path = 'b.gguf'}]", "[models.m].lora[1].path: expected an existing file"),
        ("[{path = 'a.gguf', scale = 'x'}]", "[models.m].lora[0].scale: expected number from -1000 to 1000, got"),
        ("[{scale = 1}]", "[models.m].lora[0].path: required"),
        ("[{path = 'a.gguf', scal = 1}]", '[models.m].lora[0].scal: expected a known key, got 1; did you mean "scale"'),
        ("'a.gguf'", "[models.m].lora: expected list of string or table"),
        ("[3]", "[models.m].lora[0]: expected string or table, got 3"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(tmp_path: Path, lora: str, text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        configured(tmp_path, lora)
    assert text in str(caught.value)


def test_adapters_belong_to_one_model(tmp_path: Path) -> None:
    file = tmp_path / "models.toml"
    file.write_text("[defaults]\nlora = []\n[models.m]\npath = 'x'\n")
    with pytest.raises(ConfigError, match=r"\[defaults\]\.lora: expected a key that models can share"):
        load(file)


# -- what is made of them ------------------------------------------------------------------------------------------


def test_a_scan_reads_them_with_the_model(tmp_path: Path) -> None:
    good, bad = adapters.lora(BASE), adapters.lora(models.tiny())
    order = Scan(1, (Sought("fits", BASE, lora=(good, good)), Sought("not", BASE, lora=(good, bad))))
    listed, _ = found(order, tmp_path)
    assert [each.task for each in listed["fits"].card.adapters] == [adapters.TASK] * 2
    assert listed["fits"].card.cause == ""
    wrong = listed["not"].card
    assert (wrong.cause, wrong.architecture) == ("config_error", "llama")
    assert wrong.problem.startswith(f"{bad}: tensor ")


def test_a_file_that_is_no_adapter_or_gone_is_named(tmp_path: Path) -> None:
    cut, gone = str(tmp_path / "cut.gguf"), str(tmp_path / "gone.gguf")
    Path(cut).write_bytes(Path(adapters.lora(BASE)).read_bytes()[:3000])
    listed, _ = found(Scan(1, tuple(Sought(path, BASE, lora=(path,)) for path in (cut, gone))), tmp_path / "state")
    assert (listed[cut].card.cause, cut in listed[cut].card.problem) == ("file_corrupt", True)
    assert (listed[gone].card.cause, gone in listed[gone].card.problem) == ("file_missing", True)


def test_another_adapter_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "a.gguf"
    shutil.copy(adapters.lora(models.tiny()), path)
    order = Scan(1, (Sought("m", BASE, lora=(str(path),)),))
    assert found(order, tmp_path / "state")[0]["m"].card.cause == "config_error"
    shutil.copy(adapters.lora(BASE), path)
    assert found(order, tmp_path / "state")[0]["m"].card.cause == ""


def test_they_count_in_the_estimate_beside_their_layers() -> None:
    worn = replace(PLAIN, adapters=(Facts(3000), Facts(600)))
    bare, more = estimate(PLAIN, Model()), estimate(worn, Model())
    assert (more.devices[RAM] - bare.devices[RAM], more.weights - bare.weights) == (3600, 3600)
    halves = [estimate(card, Model(n_gpu_layers=2), 1).devices for card in (PLAIN, worn)]  # one layer and the output
    assert halves[1]["gpu:0"] - halves[0]["gpu:0"] == 1200
    assert halves[1][RAM] - halves[0][RAM] == 2400


def test_what_was_measured_belongs_to_the_adapters_not_to_their_scales() -> None:
    keys = {
        catalog.memory_key(Model(path="x", lora=lora), Card())
        for lora in ((), ("a",), ("b",), (Adapter(path="a", scale=0.5),))
    }
    assert len(keys) == 3


def test_others_are_another_load_and_one_that_fits_at_last_is_a_repair() -> None:
    def entry(lora: str, problem: str = "") -> dict[str, Entry]:
        return {"m": Entry(Model(name="m", path="x", lora=(Adapter(path=lora),)), card=Card(problem=problem))}

    assert change(entry("a"), entry("b")).reload == ["m"]
    assert change(entry("a", "does not fit"), entry("a")).repaired == ["m"]
    assert change(entry("a"), entry("a")).repaired == []
