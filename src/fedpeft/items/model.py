"""The item model: all that pretraining fitted, so that items which arrive later get rows and codes.

In a folder it is one ``items.json``, which names the encoder and describes each part, and a
safetensors file per part.  Parts are files of their own because the encoder's is by far the largest
and the same in many runs, and because codes may be trained long after the rest.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fedpeft.data.dataset import Catalogue
from fedpeft.errors import ArtifactError, ConfigError
from fedpeft.files import read_json, write_json
from fedpeft.items.fitted import FittedEncoder, build_encoder
from fedpeft.items.quantise import Codebooks
from fedpeft.items.reduction import Reduction
from fedpeft.items.rqvae import SemanticCoder
from fedpeft.items.state import State, read_state

SCHEMA = 1
PARTS = ("encoder", "reduction", "base_codes", "semantic_ids")
"""Names of the files; the last two are there if something uses them."""


@dataclass(eq=False)
class ItemModel:
    """Makes base rows and semantic codes for any items, without fitting anew.

    Items that were fitted on get, in one batch, the rows they have, bit for bit; in another batch
    products of matrices may round otherwise.

    Attributes
    ----------
    base_books
        Codebooks that stand for the base's rows, if it is sent as codes.
    coder
        What makes semantic codes; set once they are trained, which is when an adapter asks.
    """

    encoder: FittedEncoder
    reduction: Reduction
    base_books: Codebooks | None = None
    coder: SemanticCoder | None = None

    def base_rows(self, items: Catalogue) -> Tensor:
        """Return base rows, float32 of shape (m, k); without text (nearly) zero, as when fitted.

        Raises
        ------
        ConfigError
            If the encoder returns vectors of another shape or type than when it was fitted.
        FedpeftError
            As the encoder's ``transform`` does.
        """
        rows = self._plain_rows(items)
        if self.base_books is None:
            return rows
        return self.base_books.decode(self.base_books.encode(rows))

    def base_codes(self, items: Catalogue) -> Tensor:
        """Return the codes that stand for base rows, int64 of shape (m, l); raises as `base_rows`.

        Raises
        ------
        ConfigError
            If the base is not sent as codes.
        """
        if self.base_books is None:
            raise ConfigError("the base is made of rows, not of codes; set items.base_codes")
        return self.base_books.encode(self._plain_rows(items))

    def semantic_ids(self, items: Catalogue) -> Tensor:
        """Return semantic codes, int64 of shape (m, l); raises as `base_rows`.

        Raises
        ------
        ConfigError
            If none were trained.
        """
        if self.coder is None:
            raise ConfigError(
                "no semantic codes were trained from text; adapter.source = 'text' does"
            )
        return self.coder.encode(self._inputs(items))

    def keep(self, folder: Path) -> None:
        """Write to a folder what it does not hold yet; what it holds already stays as it is.

        Raises
        ------
        ArtifactError
            If the folder holds an ``items.json`` that is damaged or of another version.
        """
        path = folder / "items.json"
        meta = _read_meta(path) if path.exists() else self._new_meta()
        missing = {name: part for name, part in self._parts().items() if name not in meta["parts"]}
        for name, part in missing.items():
            part.write(_file(folder, name))
            meta["parts"][name] = part.description()
        if missing:  # last: a part that is not described is not there
            write_json(path, meta)

    @classmethod
    def load(cls, folder: Path) -> ItemModel:
        """Read what `keep` wrote; no texts and no data are needed.

        Raises
        ------
        ArtifactError
            If a file is missing, damaged, of another version, or does not fit the others.
        ConfigError
            If its encoder is not installed.
        """
        path = folder / "items.json"
        meta = _read_meta(path)
        states = {
            name: read_state(_file(folder, name), meta["parts"][name])
            for name in PARTS
            if name in meta["parts"]
        }
        if not {"encoder", "reduction"} <= set(states):
            raise ArtifactError(f"{path} lacks the part 'encoder' or 'reduction'")
        kind, options = meta["encoder"]["kind"], meta["encoder"]["options"]
        encoder = FittedEncoder(kind, options, build_encoder(kind, options), states["encoder"])
        model = cls(encoder, Reduction.of(states["reduction"]))
        if "base_codes" in states:
            model.base_books = Codebooks.of(states["base_codes"])
        if "semantic_ids" in states:
            model.coder = SemanticCoder.of(states["semantic_ids"])
        model._check(folder)
        return model

    def _inputs(self, items: Catalogue) -> Tensor:
        """Return input vectors, float32 of shape (m, D)."""
        width = self.reduction.projection.width
        if not len(items):
            return torch.zeros(0, width)
        inputs = self.encoder.transform(items)
        if inputs.shape[1] != width:
            raise ConfigError(
                f"item encoder {self.encoder.kind!r} returns {inputs.shape[1]} columns, "
                f"when it was fitted it returned {width}"
            )
        return inputs

    def _plain_rows(self, items: Catalogue) -> Tensor:
        return self.reduction.transform(self._inputs(items))

    def _new_meta(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "encoder": {"kind": self.encoder.kind, "options": dict(self.encoder.options)},
            "parts": {},
        }

    def _parts(self) -> dict[str, State]:
        """Return the state of each part by the name of its file."""
        parts = {"encoder": self.encoder.state, "reduction": self.reduction.state()}
        if self.base_books is not None:
            parts["base_codes"] = self.base_books.state()
        if self.coder is not None:
            parts["semantic_ids"] = self.coder.state()
        return parts

    def _check(self, folder: Path) -> None:
        """Raise `ArtifactError` unless the parts' shapes fit each other."""
        if self.base_books is not None and len(self.base_books.mean) != self.reduction.dim:
            raise ArtifactError(f"{folder}: base_codes and reduction differ in their columns")
        width = self.reduction.projection.width
        if self.coder is not None and self.coder.network.width != width:
            raise ArtifactError(f"{folder}: semantic_ids and reduction read different columns")


def _file(folder: Path, part: str) -> Path:
    return folder / f"{part}.safetensors"


def _read_meta(path: Path) -> dict[str, Any]:
    """Return the contents of an ``items.json`` that this version can read."""
    meta = read_json(path)
    if not isinstance(meta, dict) or "schema" not in meta:
        raise ArtifactError(f"{path} does not describe fitted items: it names no schema")
    if meta["schema"] != SCHEMA:
        raise ArtifactError(f"{path} has schema {meta['schema']!r}; this version reads {SCHEMA}")
    match meta.get("encoder"):
        case {"kind": str(), "options": dict()}:
            pass
        case _:
            raise ArtifactError(f"{path} must name an encoder by its kind and its options")
    if not isinstance(meta.get("parts"), dict):
        raise ArtifactError(f"{path} must hold a table of parts")
    return meta
