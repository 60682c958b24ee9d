"""`python -m supervisor key new`: an API key, shown once, and the table that goes into the file. Nothing is stored."""

from __future__ import annotations

import hashlib
import json
import secrets

_BYTES = 32  # of randomness


def new(name: str) -> str:
    """What is printed: the key's text, and its [[keys]] table."""
    text = f"lsv-{secrets.token_urlsafe(_BYTES)}"
    digest = hashlib.sha256(text.encode()).hexdigest()
    table = f'[[keys]]\nname = {json.dumps(name)}\nsha256 = "{digest}"\nmodels = ["*"]\nadmin = false\n'
    return f"# The key; it is shown this once:\n#   {text}\n# Its table for the configuration:\n\n{table}"
