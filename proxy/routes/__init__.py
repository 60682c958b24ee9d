"""Thin: from a request to the part that knows, and from its answer to JSON."""
