"""GET /props: what the server, or one model, is and does when a request does not say. API.md, 3 and 5."""

from __future__ import annotations

import os
from typing import Any

from proxy.dialects import lora
from proxy.dialects.native_object import scales
from proxy.dialects.results import FINGERPRINT
from supervisor.config import LLAMA_DEFAULTS, Config, Model, Sampling
from supervisor.control import ModelStatus, State

_COMMON: dict[str, Any] = {
    "ui_settings": {},
    "build_info": FINGERPRINT,
    "cors_proxy_enabled": False,
    "is_sleeping": False,
}


def server_props(config: Config, ui: bool) -> dict[str, Any]:
    """The server as a whole, in the form in which llama-server's router shows itself. `ui`: whether there is one."""
    return _COMMON | {
        "ui": ui,
        "role": "router",
        "server": "llama-supervisor",
        "version": FINGERPRINT,
        "max_instances": config.placement.max_models,
        "models_autoload": config.admission.autoload,
        "model_alias": "llama-supervisor",
        "model_path": "none",
        "default_generation_settings": {"params": {}, "n_ctx": 0},
    }


def model_props(model: Model, status: ModelStatus, ui: bool, slots: bool) -> dict[str, Any]:
    """One model; what only a loaded one knows is empty before."""
    facts = status.facts
    own = model.sampling.over(facts.sampling) if facts else model.sampling
    params = {name: getattr(own.over(LLAMA_DEFAULTS), name) for name in Sampling.__struct_fields__}
    params["n_predict"] = params["max_tokens"]
    params["lora"] = scales(enumerate(lora.current(model, status)))
    task = facts.task if facts else model.task
    return _COMMON | {
        "ui": ui and task not in ("embed", "rerank"),
        "default_generation_settings": {"params": params, "n_ctx": facts.n_ctx if facts else model.n_ctx},
        "total_slots": facts.slots if facts else model.parallel,
        "model_alias": model.name,
        "model_ftype": facts.description if facts else "",
        "model_path": os.path.basename(model.path),
        "modalities": {"vision": False, "audio": False, "video": False},
        "endpoint_slots": slots,
        "endpoint_props": False,
        "endpoint_metrics": True,
        "chat_template": facts.chat_template if facts else "",
        "chat_template_caps": facts.template_caps if facts else {},
        "bos_token": facts.bos_token if facts else "",
        "eos_token": facts.eos_token if facts else "",
        "is_loaded": status.state in (State.READY, State.DRAINING),
    }
