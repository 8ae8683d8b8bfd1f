"""An adapter on disk: JSON + safetensors, with the fingerprint of the base it plugs onto."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from fedpeft import __version__
from fedpeft.adapters.base import ItemContext, ItemEmbedding, adapters
from fedpeft.adapters.checks import check_tensors
from fedpeft.adapters.config import AdapterConfig
from fedpeft.config import parse
from fedpeft.errors import ArtifactError
from fedpeft.files import fingerprint, read_json, read_tensors, write_json, write_tensors

SCHEMA = 1
FILES = ("adapter.json", "adapter.safetensors")
DTYPES = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in (torch.float32, torch.float16, torch.bfloat16, torch.float64)
}


def build(kind: str, config: AdapterConfig, context: ItemContext) -> ItemEmbedding:
    """Build the adapter registered as `kind`."""
    return adapters.get(kind).build(config, context)


def save(adapter: ItemEmbedding, folder: str | Path) -> None:
    """Write ``adapter.json`` and ``adapter.safetensors``; the base is not part of the artifact."""
    folder = Path(folder)
    adapter.used()
    tensors = {**adapter.payload(), **adapter.frozen()}
    if adapter.dtype == torch.bfloat16:  # unknown to numpy, so to fingerprints; float32 is exact
        tensors = {n: t.float() if t.is_floating_point() else t for n, t in tensors.items()}
    write_tensors(folder / "adapter.safetensors", tensors)
    write_json(
        folder / "adapter.json",
        {
            "schema": SCHEMA,
            "kind": adapter.kind,
            "config": adapter.config.model_dump(),
            "dtype": str(adapter.dtype).removeprefix("torch."),
            "padding_idx": adapter.padding_idx,
            "shape": [adapter.num_embeddings, adapter.embedding_dim],
            "base_sha256": adapter.base_fingerprint,
            "tensors_sha256": fingerprint(*(tensors[name] for name in sorted(tensors))),
            "made_by": f"fedpeft {__version__}",
        },
    )


def load(folder: str | Path, base: Tensor) -> ItemEmbedding:
    """Load an adapter onto its base, bit for bit as saved.

    Parameters
    ----------
    base
        Float of shape (n, k): the base the adapter was trained on.

    Raises
    ------
    ArtifactError
        If files are missing or corrupt, or the base is not the one the adapter was made for.
    """
    folder = Path(folder)
    path = folder / "adapter.json"
    meta = read_json(path)
    if not isinstance(meta, dict):
        raise ArtifactError(f"{path} must hold a table, got {meta!r}")
    missing = {"schema", "kind", "config", "shape", "base_sha256", "tensors_sha256"} - set(meta)
    if missing:
        raise ArtifactError(f"{path} lacks {', '.join(sorted(missing))}")
    if meta["schema"] != SCHEMA:
        raise ArtifactError(f"{path} has schema {meta['schema']!r}; this version reads {SCHEMA}")
    if not isinstance(meta["kind"], str) or not isinstance(meta["config"], dict):
        raise ArtifactError(f"{path}: kind must be a name and config a table of settings")
    if list(base.shape) != meta["shape"]:
        raise ArtifactError(
            f"{path} was made for a table of shape {meta['shape']}, "
            f"got a base of shape {list(base.shape)}"
        )
    tensors = read_tensors(folder / "adapter.safetensors")
    if fingerprint(*(tensors[name] for name in sorted(tensors))) != meta["tensors_sha256"]:
        raise ArtifactError(f"{folder}: adapter.safetensors is not the file adapter.json describes")
    part = adapters.get(meta["kind"])
    config = parse(part.config, meta["config"], "adapter")
    dtype, padding_idx = meta.get("dtype", "float32"), meta.get("padding_idx")
    if dtype not in DTYPES or not isinstance(padding_idx, int | None):
        raise ArtifactError(f"{path} has dtype {dtype!r} and padding_idx {padding_idx!r}")
    context = ItemContext(base.cpu(), seed=0, frozen=tensors, padding_idx=padding_idx)
    adapter = part.build(config, context).to(DTYPES[dtype])
    if adapter.base_fingerprint != meta["base_sha256"]:
        raise ArtifactError(f"{path} was trained on another base table than the one given")
    restore(adapter, tensors, str(folder))
    return adapter


def restore(adapter: ItemEmbedding, tensors: dict[str, Tensor], where: str) -> None:
    """Overwrite an adapter's payload and frozen tensors with saved ones."""
    own = {**dict(adapter.named_parameters()), **dict(adapter.named_buffers())}
    own.pop("base", None)
    check_tensors(tensors, {name: tensor.shape for name, tensor in own.items()}, where)
    for name, tensor in own.items():
        tensor.data.copy_(tensors[name])
