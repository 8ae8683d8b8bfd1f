"""Plug-and-play parameter-efficient item embeddings for federated recommendation."""

__version__ = "0.1.0"
