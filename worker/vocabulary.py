"""A model's vocabulary: text → token ids, token ids → bytes. Safe in any thread once made. ENGINE.md, 9."""

from __future__ import annotations

import ctypes
from collections.abc import Iterable, Sequence
from functools import cached_property

from worker import binding
from worker.infill import Fim


class Vocabulary:
    """`pieces[token]` are a token's bytes as shown, b"" for control tokens; `end` are the tokens that end a reply."""

    def __init__(self, model: int, *, adds_space: bool) -> None:
        self.handle = binding.model_get_vocab(model)
        self.size: int = binding.vocab_n_tokens(self.handle)
        self.type: int = binding.vocab_type(self.handle)
        self.bos: int = binding.vocab_bos(self.handle)
        self.eos: int = binding.vocab_eos(self.handle)
        self.sep: int = binding.vocab_sep(self.handle)
        self.adds_eos: bool = binding.vocab_get_add_eos(self.handle)
        self.adds_sep: bool = binding.vocab_get_add_sep(self.handle) and self.sep >= 0
        self.adds_bos: bool = binding.vocab_get_add_bos(self.handle) and self.bos >= 0
        self.word_piece = self.type == binding.VOCAB_WPM
        self._adds_special = self._names_what_it_adds()
        self.fim = Fim(
            pre=binding.vocab_fim_pre(self.handle),
            suf=binding.vocab_fim_suf(self.handle),
            mid=binding.vocab_fim_mid(self.handle),
            repo=binding.vocab_fim_rep(self.handle),
            file=binding.vocab_fim_sep(self.handle),
        )
        self.adds_space = adds_space and self.type == binding.VOCAB_SPM
        self.tokenize_address = binding.tokenize_address
        self._buffer = ctypes.create_string_buffer(256)
        self.pieces = [self._piece(token, special=False) for token in range(self.size)]
        self.end = frozenset(token for token in range(self.size) if binding.vocab_is_eog(self.handle, token))

    def text_of(self, token: int) -> str:
        """A special token's own spelling, like `<s>`; "" for none."""
        return binding.vocab_get_text(self.handle, token).decode("utf-8", "replace") if token >= 0 else ""

    def _names_what_it_adds(self) -> bool:
        """Whether the file names each token that its flags want added; llama.cpp aborts at one that is missing."""
        if self.word_piece:
            return self.bos >= 0 and self.sep >= 0
        adds_bos = binding.vocab_get_add_bos(self.handle)
        return not (adds_bos and self.bos < 0) and not (self.adds_eos and self.eos < 0)

    @cached_property
    def control(self) -> tuple[str, ...]:
        """The spellings that become control tokens when specials are parsed."""
        mask = binding.ATTR_CONTROL | binding.ATTR_UNKNOWN
        tokens = (token for token in range(self.size) if binding.vocab_get_attr(self.handle, token) & mask)
        return tuple(text for text in map(self.text_of, tokens) if text)

    def hidden(self, texts: Iterable[str]) -> dict[int, bytes]:
        """The tokens that are not shown and whose spelling occurs in one of these texts, with that spelling."""
        whole = "\0".join(texts)
        spelled = ((token, self.text_of(token)) for token, piece in enumerate(self.pieces) if not piece)
        return {token: text.encode() for token, text in spelled if text and text in whole}

    def tokenize(self, text: str, *, special: bool, add_special: bool = False) -> list[int]:
        """Token ids of `text`. special: control tokens in it are recognised. add_special: BOS and such are added."""
        data = text.encode("utf-8", "replace")
        room = len(data) + 8
        while True:
            tokens = (ctypes.c_int32 * room)()
            added = add_special and self._adds_special
            count = binding.tokenize(self.handle, data, len(data), tokens, room, added, special)
            if count >= 0:
                return tokens[:count]
            room = -count

    def marker(self, text: str) -> tuple[int, ...]:
        """Token ids of a text in which control tokens are meant."""
        return tuple(self.tokenize(text, special=True)) if text else ()

    def prompt(self, pieces: Iterable[tuple[str, bool] | int]) -> list[int]:
        """Token ids of a prompt in parts: text, with or without specials, and ids. BOS comes first, once."""
        tokens: list[int] = []
        for piece in pieces:
            if isinstance(piece, int):
                tokens.append(piece)
            elif piece[0]:
                tokens += self.tokenize(piece[0], special=piece[1])
        if self.adds_bos and tokens[:1] != [self.bos]:
            tokens.insert(0, self.bos)
        return tokens

    def spelled(self, token: int) -> bytes:
        """The same as `spell`, for many tokens: most need no call."""
        return self.pieces[token] or self.spell(token)

    def spell(self, token: int) -> bytes:
        """The token's bytes, control tokens included."""
        return self._piece(token, special=True, buffer=ctypes.create_string_buffer(256))

    def detokenize(self, tokens: Sequence[int]) -> str:
        """The text of tokens, control tokens included; incomplete characters become U+FFFD."""
        ids = (ctypes.c_int32 * len(tokens))(*tokens)
        room = 16 * len(tokens) + 16
        while True:
            buffer = ctypes.create_string_buffer(room)
            count = binding.detokenize(self.handle, ids, len(tokens), buffer, room, False, True)
            if count >= 0:
                return buffer.raw[:count].decode("utf-8", "replace")
            room = -count

    def _piece(self, token: int, *, special: bool, buffer: ctypes.Array[ctypes.c_char] | None = None) -> bytes:
        buffer = buffer or self._buffer
        count = binding.token_to_piece(self.handle, token, buffer, len(buffer), 0, special)
        if count < 0:
            buffer = ctypes.create_string_buffer(-count)
            count = binding.token_to_piece(self.handle, token, buffer, len(buffer), 0, special)
        return buffer.raw[:count]
