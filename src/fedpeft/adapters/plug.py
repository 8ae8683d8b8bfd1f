"""Adapters in models we did not write: swap an embedding, save, load, merge, swap back.

The habits are those of Hugging Face's PEFT library: the base model is made or loaded first,
adapters are put into it, only they are saved, and `merge_and_unload` leaves a plain model behind.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, overload
from urllib.parse import quote, unquote

from torch import nn

from fedpeft.adapters.artifact import FILES, load, save
from fedpeft.adapters.base import ItemContext, ItemEmbedding, adapters
from fedpeft.adapters.swap import adapters_of, put, replaceable
from fedpeft.config import parse
from fedpeft.errors import ArtifactError, InputError


@overload
def replace_embedding(
    model: nn.Module, name: str, *, kind: str = "lora", seed: int = 0, **settings: Any
) -> ItemEmbedding: ...
@overload
def replace_embedding(
    model: nn.Module, name: Sequence[str], *, kind: str = "lora", seed: int = 0, **settings: Any
) -> list[ItemEmbedding]: ...
def replace_embedding(
    model: nn.Module,
    name: str | Sequence[str],
    *,
    kind: str = "lora",
    seed: int = 0,
    **settings: Any,
) -> ItemEmbedding | list[ItemEmbedding]:
    """Put an adapter in the place of an embedding, in place, on top of the embedding's own table.

    Parameters
    ----------
    model
        Any module; its weights are those all clients start from.
    name
        Dotted name of a `torch.nn.Embedding` in it, or several.  An embedding that stands in
        several places, or shares its table with another, gets one adapter for all of them.
    kind
        Registered name of the adapter.
    seed
        Seed of the adapter's subspace; the same on all clients and the server.
    settings
        The adapter's settings, such as ``rank=4`` or ``mode="compress"``.

    Returns
    -------
    ItemEmbedding
        The adapter: on the table's device, in its precision (a float64 table is rounded to
        float32).  Its parameters are what trains and travels.  For several names, a list.

    Raises
    ------
    InputError
        If there is no such embedding, or it does what an adapter cannot; the message says what to
        do.  Nothing is replaced then.
    ConfigError
        If the adapter or a setting is unknown.

    Notes
    -----
    Nothing else changes: whether the rest of the model trains, and whether it travels, is up to the
    caller.  Optimisers made before hold the old table; make them afterwards.  Loops that initialise
    parameters run before, too: the first use of a payload they wrote into gives a
    `PayloadWarning`.
    """
    part = adapters.get(kind)
    config = parse(part.config, settings, kind)
    made: dict[nn.Embedding, ItemEmbedding] = {}
    names = [name] if isinstance(name, str) else list(name)
    found = [replaceable(model, one) for one in names]
    for old in found:
        shared = (adapter for other, adapter in made.items() if other.weight is old.weight)
        made[old] = next(shared, None) or _on(old, part.build, config, seed)
    for old, adapter in made.items():
        put(model, old, adapter)
    several = [made[old] for old in found]
    return several[0] if isinstance(name, str) else several


def merge_and_unload(model: nn.Module) -> nn.Module:
    """Merge every adapter of a model into a plain `torch.nn.Embedding`, in place; return the model.

    If `model` is an adapter itself, the embedding is returned.  The tables are trainable, on the
    device and in the precision of the adapters.

    Raises
    ------
    InputError
        If the model has no adapter, or a merged table holds NaN or infinity.  Nothing changed then.
    """
    plain: dict[ItemEmbedding, nn.Embedding] = {}
    for name, adapter in adapters_of(model).items():
        adapter.used()
        table = adapter.merge().to(adapter.dtype)
        if not table.isfinite().all():
            raise InputError(
                f"{name or 'the adapter'} does not merge: its table holds NaN or infinity"
            )
        plain[adapter] = nn.Embedding.from_pretrained(
            table,
            freeze=False,
            padding_idx=adapter.padding_idx,
            scale_grad_by_freq=adapter.scale_grad_by_freq,
        ).train(adapter.training)
    for adapter, embedding in plain.items():
        model = put(model, adapter, embedding)
    return model


def save_pretrained(model: nn.Module, folder: str | Path) -> None:
    """Save the adapters of a model, one folder each by its name in the model; never the base.

    Adapters that an earlier call left in the folder, and this model has not, are removed from it.

    Raises
    ------
    InputError
        If the model has no adapter.
    """
    folder = Path(folder)
    saved = set()
    for name, adapter in adapters_of(model).items():
        place = folder / quote(name, safe="")  # a key of a `ModuleDict` may be any text
        save(adapter, place)
        saved.add(place)
    for place in set(_saved(folder)) - saved:
        for file in FILES:
            (place / file).unlink(missing_ok=True)
        if place != folder and not any(place.iterdir()):
            place.rmdir()


def from_pretrained(model: nn.Module, folder: str | Path) -> nn.Module:
    """Put saved adapters into a plain model, in place, bit for bit as saved; return the model.

    Parameters
    ----------
    model
        The model as it was before `replace_embedding`, with the same tables.

    Raises
    ------
    ArtifactError
        If there is no saved adapter, it is corrupt, or it was made for another table.  The model
        is as it was then.
    InputError
        If the model has no such embedding, or the embedding does what an adapter cannot.
    """
    folder = Path(folder)
    found = _saved(folder)
    if not found:
        raise ArtifactError(f"{folder} holds no saved adapter (adapter.json)")
    loaded = {}
    for place in found:
        old = replaceable(model, "" if place == folder else unquote(place.name))
        adapter = load(place, old.weight.detach())
        if adapter.padding_idx != old.padding_idx:
            raise ArtifactError(
                f"{place} was made for padding_idx = {adapter.padding_idx}; "
                f"the model's embedding has {old.padding_idx}"
            )
        loaded[old] = _like(old, adapter)
    for old, adapter in loaded.items():
        model = put(model, old, adapter)
    return model


def print_trainable_parameters(model: nn.Module) -> tuple[int, int]:
    """Print and return how many values of a model train, and how many there are with the bases."""
    own = list(model.parameters())
    trained = sum(parameter.numel() for parameter in own if parameter.requires_grad)
    bases = [a.base for a in adapters_of(model).values() if a.base is not None]
    total = sum(tensor.numel() for tensor in (*own, *bases))
    share = 100 * trained / max(1, total)
    print(f"trainable params: {trained:,} || all params: {total:,} || trainable%: {share:.4f}")
    return trained, total


def _on(old: nn.Embedding, build: Any, config: Any, seed: int) -> ItemEmbedding:
    """Return a new adapter on the table of an embedding."""
    context = ItemContext(old.weight.detach().cpu(), seed, padding_idx=old.padding_idx)
    adapter: ItemEmbedding = build(config, context).to(old.weight.dtype)
    adapter.untouched = adapter.base is not None
    return _like(old, adapter)


def _like(old: nn.Embedding, adapter: ItemEmbedding) -> ItemEmbedding:
    """Return an adapter with the ways of an embedding, on its device."""
    adapter.scale_grad_by_freq = old.scale_grad_by_freq
    return adapter.to(old.weight.device).train(old.training)


def _saved(folder: Path) -> list[Path]:
    """Return the folders of the saved adapters in a folder, itself among them."""
    return sorted(
        path.parent for pattern in ("", "*/") for path in folder.glob(f"{pattern}{FILES[0]}")
    )
