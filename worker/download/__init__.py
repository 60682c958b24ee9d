"""The download child: fetches one model from a hub into the Hugging Face cache. Nothing but that imports this room."""

import os

# The hub's library reads this when it is imported; else it would ask the hub for more than was asked of us.
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
