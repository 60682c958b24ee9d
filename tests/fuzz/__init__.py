"""Fuzzers: parts of the server under requests, frames and files that nobody would send on purpose."""
