"""The header reader: right on whole files, and never anything but GgufError on broken ones."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import gguf as reference
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from supervisor import gguf
from supervisor.ggml_types import BLOCKS, FILE_TYPES, TYPES
from supervisor.gguf import GgufError, Header, Truncated, parse, read
from tests import models

WHOLE = Path(models.tiny()).read_bytes()
HEADER = WHOLE[: parse(WHOLE).start]


def written(path: Path, fill: object = None) -> Path:
    writer = reference.GGUFWriter(path, "llama")
    fill(writer) if callable(fill) else None
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    writer.close()
    return path


def head(version: int = 3, tensors: int = 0, keys: int = 0, rest: bytes = b"") -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, tensors, keys) + rest


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value.encode())) + value.encode()


@pytest.mark.parametrize("path", [models.tiny(), models.smollm()])
def test_a_file_reads_as_the_reference_reader_reads_it(path: str) -> None:
    header, status = read(path)
    other = reference.GGUFReader(path)
    assert {t.name: (t.shape, t.size) for t in header.tensors} == {
        t.name: (tuple(t.shape), int(t.n_bytes)) for t in other.tensors
    }
    assert header.start == other.data_offset
    assert status.st_size >= header.end
    found = {key: field.contents() for key, field in other.fields.items() if not key.startswith("GGUF.")}
    for key, value in found.items():
        ours = header.metadata[key]
        assert (list(ours.values()) if isinstance(ours, gguf.Array) else ours) == value, key


def test_every_kind_of_value_is_read(tmp_path: Path) -> None:
    def fill(writer: reference.GGUFWriter) -> None:
        kinds = {"uint8": 7, "int8": -7, "uint16": 70, "int16": -70, "uint32": 7000, "int32": -7000}
        for kind, value in {**kinds, "uint64": 2**60, "int64": -(2**60), "float32": 0.5, "float64": 0.25}.items():
            getattr(writer, f"add_{kind}")(f"x.{kind}", value)
        writer.add_bool("x.bool", True)
        writer.add_array("x.words", ["a", "", "ü"])
        writer.add_array("x.numbers", [1, 2, 3])
        writer.add_array("x.nested", [[1, 2], [3]])

    found = read(str(written(tmp_path / "x.gguf", fill)))[0].metadata
    assert (found["x.int8"], found["x.uint64"], found["x.int64"], found["x.float64"]) == (-7, 2**60, -(2**60), 0.25)
    assert found["x.bool"] is True
    words, nested = found["x.words"], found["x.nested"]
    assert isinstance(words, gguf.Array)
    assert words.values() == ("a", "", "ü")
    assert isinstance(nested, gguf.Array)
    assert [inner.values() for inner in nested.values() if isinstance(inner, gguf.Array)] == [(1, 2), (3,)]


def test_version_2_is_read() -> None:
    assert parse(b"GGUF" + struct.pack("<I", 2) + WHOLE[8:]).tensors == parse(WHOLE).tensors


def test_a_header_larger_than_the_first_read_is_read(tmp_path: Path) -> None:
    path = written(tmp_path / "big.gguf", lambda writer: writer.add_array("x", ["word" * 10] * 80_000))
    assert path.stat().st_size > 3 * 2**20
    assert read(str(path))[0].metadata["general.architecture"] == "llama"


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("empty", "ends inside its header"),
        ("random", "does not begin with GGUF"),
        ("cut", "bytes of its tensors are missing"),
        ("header", "ends inside its header"),
    ],
)
def test_a_broken_file_says_what_is_wrong(kind: str, words: str) -> None:
    with pytest.raises(GgufError, match=words):
        read(models.broken()[kind])


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "big-endian"),
        (head(version=1), "version 1"),
        (head(tensors=2**40), "tensors; at most"),
        (head(keys=2**40), "keys; at most"),
        (head(keys=1, rest=struct.pack("<Q", 2**50)), "a text of"),
        (head(keys=1, rest=text("k") + struct.pack("<I", 99)), "unknown kind 99"),
        (head(keys=1, rest=text("k") + struct.pack("<IIQ", 9, 99, 0)), "array of the unknown kind 99"),
        (head(keys=1, rest=text("k") + struct.pack("<IIQ", 9, 0, 2**50)), "an array of"),
        (head(keys=1, rest=text("k") + struct.pack("<I", 9) + struct.pack("<IQ", 9, 1) * 9), "nested deeper"),
        (head(keys=2, rest=(text("k") + struct.pack("<II", 4, 1)) * 2), "stands twice"),
        (head(keys=1, rest=text("general.alignment") + struct.pack("<II", 4, 24)), "power of two"),
        (head(tensors=1, rest=text("t") + struct.pack("<I", 9)), "9 dimensions"),
        (head(tensors=1, rest=text("t") + struct.pack("<IQIQ", 1, 32, 77, 0)), "unknown type 77"),
        (head(tensors=1, rest=text("t") + struct.pack("<IQIQ", 1, 33, 8, 0)), "no whole blocks"),
        (head(tensors=1, rest=text("t") + struct.pack("<IQIQ", 1, 32, 0, 5)), "not aligned"),
        (head(tensors=1, rest=text("t") + struct.pack("<IQQIQ", 2, 2**40, 2**40, 0, 0)), "impossibly large"),
        (head(tensors=2, rest=(text("t") + struct.pack("<IQIQ", 1, 32, 0, 0)) * 2), "same name"),
    ],
)
def test_what_breaks_a_bound_is_named(data: bytes, words: str) -> None:
    with pytest.raises(GgufError, match=words):
        parse(data)


@pytest.mark.parametrize("length", range(0, len(HEADER) - 32, 97))
def test_a_header_that_ends_early_is_truncated(length: int) -> None:
    with pytest.raises(Truncated):
        parse(HEADER[:length])


def test_a_fifo_and_a_folder_are_no_models(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path / "fifo", tmp_path):
        with pytest.raises(GgufError, match="regular file"):
            read(str(path))


def outcome(data: bytes) -> None:
    """Parses, and decodes what was kept; any error but GgufError is a failure of the test."""
    try:
        header: Header = parse(data)
    except GgufError:
        return
    assert header.end >= 0
    for value in header.metadata.values():
        if isinstance(value, gguf.Array):
            value.values()


@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.binary(max_size=200), st.booleans())
def test_any_bytes_give_a_header_or_the_error(data: bytes, with_magic: bool) -> None:
    outcome(b"GGUF\3\0\0\0" + data if with_magic else data)


@settings(max_examples=600, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.tuples(st.integers(0, len(HEADER) - 1), st.binary(min_size=1, max_size=9)), max_size=6))
def test_any_change_of_a_file_gives_a_header_or_the_error(changes: list[tuple[int, bytes]]) -> None:
    data = bytearray(HEADER)
    for at, piece in changes:
        data[at : at + len(piece)] = piece
    outcome(bytes(data))


def test_the_tables_are_those_of_the_reference() -> None:
    sizes = {kind.value: reference.GGML_QUANT_SIZES[kind] for kind in reference.GGMLQuantizationType}
    assert sizes.items() <= BLOCKS.items()
    assert {kind.value: kind.name for kind in reference.GGMLQuantizationType}.items() <= TYPES.items()
    for kind in reference.LlamaFileType:
        if kind.name != "GUESSED":
            assert FILE_TYPES[kind.value] == kind.name.removeprefix("MOSTLY_").removeprefix("ALL_").removesuffix("_MOE")
