"""Text to vectors with any sentence-transformers model (Sentence-T5 in the paper)."""

from __future__ import annotations

import hashlib
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from fedpeft.config import ConfigModel
from fedpeft.data.dataset import Catalogue
from fedpeft.errors import ArtifactError, ConfigError, DataError, MissingExtraError
from fedpeft.items.encoders import Floats, encoders, unit_rows
from fedpeft.items.state import State


class SentenceTransformersConfig(ConfigModel):
    """Options of the encoder ``sentence_transformers``."""

    model: str = Field(default="sentence-transformers/sentence-t5-base", min_length=1)
    """Name of a model on the hub, or a folder that holds one."""
    batch_size: int = Field(default=64, ge=1)
    """Texts encoded at once."""


class SentenceTransformersEncoder:
    """Rows have length 1; the model cuts texts at its own maximum length."""

    def __init__(self, config: SentenceTransformersConfig) -> None:
        self.config = config

    def identity(self) -> str:
        folder = Path(self.config.model)
        if not folder.is_dir():
            return "sentence_transformers 1"
        digest = hashlib.sha256()
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            with path.open("rb") as file:
                digest.update(path.relative_to(folder).as_posix().encode())
                digest.update(hashlib.file_digest(file, "sha256").digest())
        return f"sentence_transformers 1, {digest.hexdigest()}"

    def fit(self, catalogue: Catalogue) -> State:
        """Note which model encodes; nothing is learnt from the catalogue.

        Raises
        ------
        DataError
            If no item has text.
        """
        if not any(text.strip() for text in catalogue.texts):
            raise DataError(
                f"none of the {len(catalogue)} items has text; give the catalogue text columns, "
                "or set items.base to 'none'"
            )
        return State(settings={"model": self.config.model, "identity": self.identity()})

    def transform(self, state: State, items: Catalogue) -> Floats:
        """Return float32 of shape (m, D), D as the model has it.

        Raises
        ------
        ArtifactError
            If the model is not the one that `fit` noted.
        MissingExtraError
            If sentence-transformers is not installed.
        ConfigError
            If the model cannot be loaded, for example offline.
        """
        if state.settings.get("identity") != self.identity():
            raise ArtifactError(
                f"sentence-transformers model {self.config.model!r} has changed since the items "
                "were encoded; bring the old one back, or make the items anew"
            )
        filled = [row for row, text in enumerate(items.texts) if text.strip()]
        vectors = self._load().encode(
            [items.texts[row] for row in filled] or [""],  # which tells the width
            batch_size=self.config.batch_size,
            convert_to_numpy=True,
            show_progress_bar=False,
        )
        vectors = unit_rows(np.asarray(vectors, dtype=np.float32))
        encoded = np.zeros((len(items), vectors.shape[1]), dtype=np.float32)
        encoded[filled] = vectors[: len(filled)]
        return encoded

    def _load(self) -> Any:
        try:
            library = import_module("sentence_transformers")
        except ImportError:
            raise MissingExtraError(
                "item encoder 'sentence_transformers' needs the extra 'text': "
                "pip install 'fedpeft[text]'"
            ) from None
        try:
            return library.SentenceTransformer(self.config.model)
        except (OSError, ValueError, RuntimeError) as error:  # what the hub and the loader raise
            reason = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
            raise ConfigError(
                f"sentence-transformers model {self.config.model!r} cannot be loaded "
                f"({reason}); name a folder that holds the model, go online once so that it can "
                "be downloaded, or use item encoder 'array' or 'tfidf'"
            ) from error


encoders.register(
    "sentence_transformers",
    config=SentenceTransformersConfig,
    build=SentenceTransformersEncoder,
)
