"""The only file that imports llama_cpp: two bindings of one library, and the types of its calls.

A call through CDLL gives the GIL away and has to win it back, which takes up to 300 µs while another thread computes;
a call through PyDLL keeps it. So: `short` for what takes microseconds, `long` for what computes, reads or parses.
ENGINE.md, 2. The log callback of `llama_cpp` itself prints to stderr; importing this module silences it.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import llama_cpp
import llama_cpp.llama_cpp as _native

Function = Callable[..., Any]

_lib = _native._lib
_keeps_gil = ctypes.PyDLL(_lib._name)


def _short(name: str, restype: Any = None) -> Function:
    reference = getattr(_lib, name)
    function = getattr(_keeps_gil, name)
    function.argtypes, function.restype = reference.argtypes, restype or reference.restype
    call: Function = function
    return call


def _long(name: str) -> Function:
    call: Function = getattr(_native, name)
    return call


# -- types --------------------------------------------------------------------------------------------------------

Batch: Any = _native.llama_batch
LogitBias: Any = _native.llama_logit_bias
Token: Any = _native.llama_token
TokenData: Any = _native.llama_token_data
TokenDataArray: Any = _native.llama_token_data_array
TokenDataPointer: Any = _native.llama_token_data_p
LogCallback: Any = _native.llama_log_callback
BytePointer: Any = ctypes.POINTER(ctypes.c_uint8)
ProgressCallback: Any = _native.llama_progress_callback

FLASH_ATTENTION = {"auto": -1, "off": 0, "on": 1}  # llama_flash_attn_type
KV_TYPES = {"f32": 0, "f16": 1, "q4_0": 2, "q4_1": 3, "q5_0": 6, "q5_1": 7, "q8_0": 8, "bf16": 30}  # ggml_type
LOAD_MODES = {(False, False): 0, (True, False): 1, (False, True): 2, (True, True): 3}  # (mmap, mlock) → llama_load_mode
POOLING = {"auto": -1, "none": 0, "mean": 1, "cls": 2, "last": 3, "rank": 4}  # llama_pooling_type
VOCAB_SPM, VOCAB_WPM = 1, 3  # llama_vocab_type
ATTR_UNKNOWN, ATTR_CONTROL = 1 << 0, 1 << 3  # llama_token_attr
STATE_PARTIAL_ONLY = 1  # llama_state_seq_flags: only what cannot be cut back
LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR, LOG_CONT = 1, 2, 3, 4, 5  # ggml_log_level

# -- process ------------------------------------------------------------------------------------------------------


def version() -> str:
    """Of the binding, and so of the library."""
    return str(llama_cpp.__version__)


backend_init = _long("llama_backend_init")
log_set = _long("llama_log_set")
supports_gpu_offload = _short("llama_supports_gpu_offload")

# -- model --------------------------------------------------------------------------------------------------------

model_default_params = _short("llama_model_default_params")
model_load_from_file = _long("llama_model_load_from_file")
model_free = _long("llama_model_free")
model_get_vocab = _short("llama_model_get_vocab")
model_chat_template = _short("llama_model_chat_template")
model_desc = _short("llama_model_desc")
model_meta_val_str = _short("llama_model_meta_val_str")
model_n_ctx_train = _short("llama_model_n_ctx_train")
model_n_embd = _short("llama_model_n_embd")
model_n_layer = _short("llama_model_n_layer")
model_n_params = _short("llama_model_n_params")
model_size = _short("llama_model_size")
model_is_recurrent = _short("llama_model_is_recurrent")
model_is_hybrid = _short("llama_model_is_hybrid")
model_n_swa = _short("llama_model_n_swa")
model_n_embd_out = _short("llama_model_n_embd_out")
model_n_cls_out = _short("llama_model_n_cls_out")
model_cls_label = _short("llama_model_cls_label")
model_is_diffusion = _short("llama_model_is_diffusion")
model_has_decoder = _short("llama_model_has_decoder")
model_has_encoder = _short("llama_model_has_encoder")

# -- adapters -----------------------------------------------------------------------------------------------------

Adapter: Any = _native.llama_adapter_lora_p_ctypes
adapter_init = _long("llama_adapter_lora_init")  # belongs to its model, and is freed with it
set_adapters = _short("llama_set_adapters_lora")

# -- vocabulary ---------------------------------------------------------------------------------------------------

vocab_n_tokens = _short("llama_vocab_n_tokens")
vocab_type = _short("llama_vocab_type")
vocab_bos = _short("llama_vocab_bos")
vocab_eos = _short("llama_vocab_eos")
vocab_sep = _short("llama_vocab_sep")
vocab_fim_pre = _short("llama_vocab_fim_pre")
vocab_fim_suf = _short("llama_vocab_fim_suf")
vocab_fim_mid = _short("llama_vocab_fim_mid")
vocab_fim_rep = _short("llama_vocab_fim_rep")
vocab_fim_sep = _short("llama_vocab_fim_sep")
vocab_get_add_eos = _short("llama_vocab_get_add_eos")
vocab_get_add_sep = _short("llama_vocab_get_add_sep")
vocab_get_add_bos = _short("llama_vocab_get_add_bos")
vocab_get_attr = _short("llama_vocab_get_attr")
vocab_get_text = _short("llama_vocab_get_text")
vocab_is_eog = _short("llama_vocab_is_eog")
token_to_piece = _short("llama_token_to_piece")
tokenize = _long("llama_tokenize")
detokenize = _long("llama_detokenize")
tokenize_address: int = ctypes.cast(_lib.llama_tokenize, ctypes.c_void_p).value or 0  # for a library that calls it

# -- context ------------------------------------------------------------------------------------------------------

context_default_params = _short("llama_context_default_params")
init_from_model = _long("llama_init_from_model")
context_free = _long("llama_free")
n_batch = _short("llama_n_batch")
n_ubatch = _short("llama_n_ubatch")
n_ctx = _short("llama_n_ctx")
get_memory = _short("llama_get_memory")
memory_clear = _long("llama_memory_clear")
memory_seq_rm = _short("llama_memory_seq_rm")
memory_seq_cp = _short("llama_memory_seq_cp")
memory_seq_pos_min = _short("llama_memory_seq_pos_min")
memory_seq_pos_max = _short("llama_memory_seq_pos_max")
decode = _long("llama_decode")
encode = _long("llama_encode")
get_causal_attn = _short("llama_get_causal_attn")
get_embeddings = _short("llama_get_embeddings", ctypes.c_void_p)  # addresses; only after synchronize
get_embeddings_seq = _short("llama_get_embeddings_seq", ctypes.c_void_p)
synchronize = _long("llama_synchronize")
state_seq_get_size_ext = _long("llama_state_seq_get_size_ext")
state_seq_get_data_ext = _long("llama_state_seq_get_data_ext")
state_seq_set_data_ext = _long("llama_state_seq_set_data_ext")
get_logits_ith = _short("llama_get_logits_ith", ctypes.c_void_p)  # an address; only after synchronize

# -- samplers -----------------------------------------------------------------------------------------------------

sampler_chain_default_params = _short("llama_sampler_chain_default_params")
sampler_chain_init = _short("llama_sampler_chain_init")
sampler_chain_add = _short("llama_sampler_chain_add")
sampler_free = _short("llama_sampler_free")
sampler_apply = _short("llama_sampler_apply")
sampler_accept = _short("llama_sampler_accept")
sampler_init_logit_bias = _short("llama_sampler_init_logit_bias")
sampler_init_penalties = _short("llama_sampler_init_penalties")
sampler_init_top_k = _short("llama_sampler_init_top_k")
sampler_init_top_p = _short("llama_sampler_init_top_p")
sampler_init_min_p = _short("llama_sampler_init_min_p")
sampler_init_temp = _short("llama_sampler_init_temp")
sampler_init_temp_ext = _short("llama_sampler_init_temp_ext")
sampler_init_typical = _short("llama_sampler_init_typical")
sampler_init_top_n_sigma = _short("llama_sampler_init_top_n_sigma")
sampler_init_xtc = _short("llama_sampler_init_xtc")
sampler_init_mirostat = _short("llama_sampler_init_mirostat")
sampler_init_mirostat_v2 = _short("llama_sampler_init_mirostat_v2")
sampler_init_adaptive_p = _short("llama_sampler_init_adaptive_p")
sampler_init_infill = _short("llama_sampler_init_infill")
sampler_apply_long = _long("llama_sampler_apply")
sampler_init_grammar = _long("llama_sampler_init_grammar")
sampler_init_dry = _long("llama_sampler_init_dry")
sampler_clone = _short("llama_sampler_clone")
sampler_init_greedy = _short("llama_sampler_init_greedy")
sampler_init_dist = _short("llama_sampler_init_dist")
