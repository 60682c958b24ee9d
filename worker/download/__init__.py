"""The download child: fetches one model from a hub into the Hugging Face cache. Nothing but that imports this room."""
