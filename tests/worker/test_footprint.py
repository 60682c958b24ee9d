"""What llama.cpp says it allocated, what the process has, and how near the estimate from the header comes to both."""

from __future__ import annotations

import pytest

from supervisor import config
from supervisor.estimate import RAM, estimate
from supervisor.gguf import read
from supervisor.header_facts import card
from tests import model_classes, models
from worker.context import Context
from worker.footprint import buffers, footprint
from worker.model import NativeModel
from worker.native_log import NativeLog

MIB = 2**20
LINES = [
    "load_tensors:   CPU_Mapped model buffer size =    92.10 MiB",
    "load_tensors:        CUDA0 model buffer size =   100.50 MiB",
    "llama_kv_cache:      CUDA0 KV buffer size =    10.00 MiB",
    "llama_memory_recurrent: CUDA1 RS buffer size =     2.00 MiB",
    "sched_reserve:      CUDA0 compute buffer size =    30.00 MiB",
    "sched_reserve:  CUDA_Host compute buffer size =     5.00 MiB",
    "llama_context: n_ctx = 512",
]


@pytest.fixture(scope="module")
def log() -> NativeLog:
    return NativeLog()


def test_buffers_are_summed_by_device_and_kind() -> None:
    found = buffers([*LINES, LINES[2]])
    assert found["CUDA0", "KV"] == 20 * MIB
    assert found["CPU_Mapped", "model"] == round(92.1 * MIB)
    assert len(found) == 6


def test_a_plan_takes_the_place_of_another_and_adapters_count() -> None:
    larger = "sched_reserve:      CUDA0 compute buffer size =    31.00 MiB"
    worn = "llama_adapter_lora_init_impl:      CUDA0 LoRA buffer size =     7.00 MiB"
    found = buffers([*LINES, larger, LINES[4], worn, worn])
    assert (found["CUDA0", "compute"], found["CUDA0", "LoRA"]) == (31 * MIB, 14 * MIB)


def test_what_lies_on_gpus_is_counted_there_and_mapped_weights_as_memory() -> None:
    found = footprint(LINES)
    assert found.devices["gpu:0"] == pytest.approx(140.5 * MIB)
    assert found.devices["gpu:1"] == 2 * MIB
    assert found.kv == 12 * MIB
    without = footprint([]).devices[RAM]
    assert without > 20 * MIB
    assert footprint(["x: CPU_Mapped model buffer size = 9000.0 MiB"]).devices[RAM] > 9000 * MIB


@pytest.mark.parametrize("kv", ["f16", "q8_0", "f32"])
@pytest.mark.parametrize(
    ("path", "n_ctx", "parallel"), [(models.tiny(), 300, 3), (models.smollm(), 512, 4), (models.smollm(), 1000, 1)]
)
def test_the_estimate_is_what_llama_cpp_allocates(
    log: NativeLog, path: str, n_ctx: int, parallel: int, kv: config.KvType
) -> None:
    """Weights and cache to the rounding of the log; compute buffers to 35 % or 3 MiB."""
    settings = config.Model(path=path, n_ctx=n_ctx, parallel=parallel, kv=kv)
    log.sizes.clear()
    model = NativeModel(settings, log, lambda _: True)
    context = Context(model, settings)
    found = buffers(log.sizes)
    context.close()
    model.close()
    expected = estimate(card([read(path)[0]]), settings)
    assert expected.weights == pytest.approx(found["CPU_Mapped", "model"], abs=0.01 * MIB)
    assert expected.kv == pytest.approx(found["CPU", "KV"], abs=0.01 * MIB)
    computed = found["CPU", "compute"] + found.get(("CPU", "output"), 0)
    assert expected.compute == pytest.approx(computed, rel=0.35, abs=3 * MIB)


@pytest.mark.parametrize("swa_full", [False, True])
@pytest.mark.parametrize("name", model_classes.NAMES)
def test_every_class_caches_what_the_estimate_says(log: NativeLog, name: str, swa_full: bool) -> None:
    settings = config.Model(path=model_classes.path(name), n_ctx=1024, parallel=3, swa_full=swa_full, kv_cells=2048)
    log.sizes.clear()
    model = NativeModel(settings, log, lambda _: True)
    context = Context(model, settings)
    found = buffers(log.sizes)
    context.close()
    model.close()
    cached = sum(size for (_, kind), size in found.items() if kind in ("KV", "RS"))
    expected = estimate(card([read(settings.path)[0]]), settings)
    assert cached
    assert expected.kv == pytest.approx(cached, rel=0.02, abs=0.02 * MIB)
