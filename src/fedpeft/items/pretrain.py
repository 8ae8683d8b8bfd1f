"""Server-side pretraining of items: texts in, base embedding and semantic codes out, no user data.

Each result (encoder, input vectors, reduction, base, codes) is kept in the cache by the hash of
what it was made from, so that changing one setting remakes only what depends on it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fedpeft.data.dataset import Catalogue
from fedpeft.errors import ConfigError, DataError
from fedpeft.files import fingerprint
from fedpeft.items.cache import cached
from fedpeft.items.coded import pack_coded
from fedpeft.items.config import TEXTLESS, ItemsConfig
from fedpeft.items.fitted import FittedEncoder, build_encoder
from fedpeft.items.model import ItemModel
from fedpeft.items.networks import Progress
from fedpeft.items.quantise import fit_codebooks
from fedpeft.items.reduction import Reduction, fit_reduction
from fedpeft.items.rqvae import SemanticCoder, SemanticIDs, train_rqvae
from fedpeft.items.state import State
from fedpeft.seeding import torch_rng


@dataclass(frozen=True, eq=False)
class Items:
    """What pretraining knows about n items.

    Attributes
    ----------
    inputs
        Input vectors, float32 of shape (n, D); None when the base is made of no texts, or to save
        memory.
    base
        Base embedding, float32 of shape (n, k); rows of items without text are zero, or nearly so
        where codes stand for them.
    coded
        The base as a client downloads it, where codes stand for its rows; None: the rows travel.
    fingerprint
        SHA-256 of the base; adapter artifacts name it.
    report
        JSON-able: encoder, text_dim, items_without_text, and of the base the fields of
        `fedpeft.items.autoencoder.LatentReport`, and where the base is coded the share of its sum
        of squares that this loses.
    model
        What was fitted, and makes rows for other items; None when the base is made of no texts.
    """

    inputs: Tensor | None
    base: Tensor
    fingerprint: str
    report: dict[str, Any]
    coded: bytes | None = None
    model: ItemModel | None = None


def pretrain(
    catalogue: Catalogue,
    config: ItemsConfig,
    *,
    cache: Path | str | None = None,
    progress: Progress | None = None,
) -> Items:
    """Encode item texts and derive the base embedding.

    Parameters
    ----------
    cache
        Folder that keeps results, for example `default_cache()`; None keeps nothing.
    progress
        Called with a stage ("encode", "autoencoder") and the fraction of it that is done.

    Raises
    ------
    DataError
        If the catalogue is empty or has no text, or a file of vectors is malformed.
    CollapseError
        If the base carries no information about the texts.
    """
    n = len(catalogue)
    if n == 0:
        raise DataError("the catalogue has no items to pretrain on")
    if config.base in TEXTLESS:
        base = torch.zeros(n, config.dim)
        if config.base == "random":
            base.normal_(std=config.scale, generator=torch_rng(config.seed, "items", "random base"))
        return Items(None, base, fingerprint(base), {"base": config.base})
    report = progress or _silent
    encoder, inputs = _encode(catalogue, config, cache, report)
    reduction, base, told = _reduce(inputs, config, cache, report)
    about: dict[str, Any] = {
        "encoder": config.encoder,
        "text_dim": inputs.shape[1],
        "base": config.base,
        **told,
    }
    model = ItemModel(encoder, reduction)
    if config.base_codes is None:
        return Items(inputs, base, fingerprint(base), about, model=model)
    levels, codes = config.base_codes.levels, config.base_codes.codes
    model.base_books, chosen = fit_codebooks(base, levels, codes, config.seed)
    coded = model.base_books.decode(chosen)
    lost = float((base - coded).square().sum() / base.square().sum())
    return Items(
        inputs,
        coded,
        fingerprint(coded),
        {**about, "lost_to_codes": lost},
        coded=pack_coded(chosen, model.base_books.tables()),
        model=model,
    )


def semantic_ids(
    items: Items,
    config: ItemsConfig,
    levels: int,
    codes: int,
    *,
    cache: Path | str | None = None,
    progress: Progress | None = None,
) -> SemanticIDs:
    """Train the RQ-VAE on the input vectors of pretrained items, or find its result in the cache.

    Parameters
    ----------
    levels, codes
        l codebooks of d entries.
    cache, progress
        As for `pretrain`; the stage is "rqvae".

    Raises
    ------
    ConfigError
        If the items have no input vectors, or a count is below 1.
    CollapseError
        If all input vectors are equal.
    """
    inputs = items.inputs
    if inputs is None:
        raise ConfigError(
            "semantic codes are made from item text, but these items have no input vectors; "
            "set items.base to 'autoencoder' or 'svd'"
        )
    if min(levels, codes) < 1:
        raise ConfigError(f"levels and codes must be >= 1, got {levels} and {codes}")
    used = {"dim", "scale", "hidden", "rqvae", "seed"}
    key = fingerprint("codes 2", f"{levels} {codes}", inputs, config.model_dump_json(include=used))

    def compute() -> State:
        made = train_rqvae(inputs, levels, codes, config, progress or _silent)
        return State({"codes": made.codes, "codebooks": made.codebooks}, made.report).with_part(
            _CODER, made.coder.state()
        )

    found = cached(cache, "codes", key, compute)
    coder = SemanticCoder.of(found.part(_CODER))
    return SemanticIDs(
        found.tensor("codes", None, levels, dtype=torch.int64),
        found.tensor("codebooks", levels, codes, config.dim),
        coder,
        dict(found.settings),
    )


_CODER = "coder."


def _encode(
    catalogue: Catalogue, config: ItemsConfig, cache: Path | str | None, progress: Progress
) -> tuple[FittedEncoder, Tensor]:
    """Return the fitted encoder and the input vectors, float32 of shape (n, D)."""
    encoder = build_encoder(config.encoder, config.options)
    what = config.model_dump_json(include={"encoder", "options"})
    key = fingerprint("inputs 2", what, encoder.identity(), *catalogue.ids, *catalogue.texts)

    def fit() -> State:
        progress("encode", 0.0)
        return encoder.fit(catalogue)

    state = cached(cache, "encoder", key, fit)
    fitted = FittedEncoder(config.encoder, config.options, encoder, state)

    def transform() -> State:
        inputs = fitted.transform(catalogue)
        progress("encode", 1.0)
        return State({"inputs": inputs})

    inputs = cached(cache, "inputs", key, transform).tensor("inputs", len(catalogue), None)
    return replace(fitted, state=state.released()), inputs


def _reduce(
    inputs: Tensor, config: ItemsConfig, cache: Path | str | None, progress: Progress
) -> tuple[Reduction, Tensor, dict[str, Any]]:
    """Return the reduction, the base (n, k) and its report; items without text get zero rows."""
    used = {"base", "dim", "scale"}
    if config.base == "autoencoder":
        used |= {"hidden", "autoencoder", "seed"}
    key = fingerprint("base 2", inputs, config.model_dump_json(include=used))

    def fit() -> State:
        reduction, told = fit_reduction(inputs, config, progress)
        empty = int((~inputs.any(dim=1)).sum())
        return State(reduction.state().tensors, {"items_without_text": empty, **asdict(told)})

    state = cached(cache, "reduction", key, fit)
    reduction = Reduction.of(state)
    # kept as well: on another machine the same reduction may round otherwise
    base = cached(cache, "base", key, lambda: State({"base": reduction.transform(inputs)}))
    return reduction, base.tensor("base", len(inputs), config.dim), dict(state.settings)


def _silent(stage: str, fraction: float) -> None:
    """Report no progress."""
