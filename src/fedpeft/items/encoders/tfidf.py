"""Text to vectors without any download: TF-IDF, then a truncated SVD (latent semantic analysis)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from fedpeft.config import ConfigModel
from fedpeft.data.dataset import Catalogue
from fedpeft.errors import DataError
from fedpeft.items.encoders import Floats, encoders, unit_rows
from fedpeft.seeding import numpy_rng

if TYPE_CHECKING:
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer

_CHUNK = 8192
"""Rows that are dense at once while a big catalogue is transformed."""


class TfidfConfig(ConfigModel):
    """Options of the encoder ``tfidf``."""

    text_dim: int = Field(default=768, ge=1)
    """Columns of the input vectors; fewer when the catalogue has fewer items or distinct words."""
    max_features: int = Field(default=50_000, ge=1)
    """Most frequent words kept in the vocabulary."""
    sample: int = Field(default=50_000, ge=1)
    """Items the vocabulary and the SVD are fitted on; a bigger catalogue is sampled."""
    seed: int = Field(default=0, ge=0)
    """Seed of that sample and of the randomised SVD."""


class TfidfEncoder:
    """Sublinear TF-IDF over words without English stop words, projected by a randomised SVD.

    Rows have length 1.  A vocabulary of at most ``text_dim`` words is used as it is, unprojected.
    """

    def __init__(self, config: TfidfConfig) -> None:
        self.config = config

    def identity(self) -> str:
        import sklearn

        return f"tfidf 1, scikit-learn {sklearn.__version__}"

    def encode(self, catalogue: Catalogue) -> Floats:
        """Return float32 of shape (n, D) with D <= text_dim.

        Raises
        ------
        DataError
            If no item has a word to work with.
        """
        from sklearn.feature_extraction.text import TfidfVectorizer

        texts = catalogue.texts
        vectorizer = TfidfVectorizer(
            sublinear_tf=True,
            stop_words="english",
            strip_accents="unicode",
            max_features=self.config.max_features,
            dtype=np.float32,
        )
        rows = self._sample(len(texts))
        try:
            vectorizer.fit([texts[row] for row in rows])
        except ValueError:  # scikit-learn's "empty vocabulary"
            raise DataError(
                f"none of the {len(texts)} items has a word that item encoder 'tfidf' can read; "
                "give the catalogue text columns, or set items.base to 'none'"
            ) from None
        svd = self._fit_svd(vectorizer, [texts[row] for row in rows])
        chunks = []
        for start in range(0, len(texts), _CHUNK):
            sparse = vectorizer.transform(texts[start : start + _CHUNK])
            dense = sparse.toarray() if svd is None else svd.transform(sparse)
            chunks.append(unit_rows(dense.astype(np.float32)))
        return np.concatenate(chunks)

    def _sample(self, n: int) -> list[int]:
        if n <= self.config.sample:
            return list(range(n))
        rng = numpy_rng(self.config.seed, "items", "tfidf", "sample")
        return sorted(rng.choice(n, size=self.config.sample, replace=False).tolist())

    def _fit_svd(self, vectorizer: TfidfVectorizer, texts: list[str]) -> TruncatedSVD | None:
        """Fit the projection; None when the vocabulary is small enough without."""
        from sklearn.decomposition import TruncatedSVD

        if len(vectorizer.vocabulary_) <= self.config.text_dim:
            return None
        rng = numpy_rng(self.config.seed, "items", "tfidf", "svd")
        svd = TruncatedSVD(
            n_components=min(self.config.text_dim, len(texts)),
            n_iter=2,  # the trailing directions need no more accuracy than text has
            random_state=int(rng.integers(2**31)),
        )
        with np.errstate(invalid="ignore"):  # equal texts have no variance to be a share of
            return svd.fit(vectorizer.transform(texts))


encoders.register("tfidf", config=TfidfConfig, build=TfidfEncoder)
