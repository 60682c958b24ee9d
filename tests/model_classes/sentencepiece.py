"""A SentencePiece vocabulary: `<unk>`, BOS, EOS, ChatML's two, the 256 bytes, and pieces that merge by their scores."""

from __future__ import annotations

import gguf

from tests import models

_SPACE = "▁"
_MERGED = ("▁t", "he", "▁the", "▁a", "in", "er", "on", "▁s", "▁w", "re", "at", "▁once", "ce", "▁on")
_SCORED = {text: -float(rank) for rank, text in enumerate(_MERGED, 1)}


def add_vocabulary(writer: gguf.GGUFWriter) -> list[bool]:
    """Adds it with the chat template; says of each token whether it is a printable piece."""
    kinds = gguf.TokenType
    special = [("<unk>", kinds.UNKNOWN), ("<s>", kinds.CONTROL), ("</s>", kinds.CONTROL)]
    special += [("<|im_start|>", kinds.CONTROL), ("<|im_end|>", kinds.CONTROL)]
    size = len(special) + 256
    letters = [_SPACE, *map(chr, range(33, 127))]
    pieces = [*_SCORED, *letters]
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_vocab_size(size + len(pieces))
    writer.add_token_list([*(text for text, _ in special), *(f"<0x{byte:02X}>" for byte in range(256)), *pieces])
    writer.add_token_types([*(kind for _, kind in special), *[kinds.BYTE] * 256, *[kinds.NORMAL] * len(pieces)])
    writer.add_token_scores([*[0.0] * size, *(_SCORED.get(piece, -1000.0) for piece in pieces)])
    writer.add_unk_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_add_bos_token(True)
    writer.add_add_eos_token(False)
    writer.add_add_space_prefix(True)
    writer.add_chat_template(models.TEMPLATE)
    return [False] * size + [True] * len(pieces)
