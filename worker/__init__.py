"""A model worker: one process, one model, continuous batching. `worker.protocol` is light; the rest is not."""
