"""Text to vectors without any download: TF-IDF, then a truncated SVD (latent semantic analysis)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from pydantic import Field

from fedpeft.config import ConfigModel
from fedpeft.data.dataset import Catalogue
from fedpeft.errors import DataError
from fedpeft.items.encoders import Floats, encoders, unit_rows
from fedpeft.items.state import State, pack, unpack
from fedpeft.seeding import numpy_rng

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix
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

    def fit(self, catalogue: Catalogue) -> State:
        """Find vocabulary, word weights and projection.

        Returns
        -------
        A state with the tensors ``vocabulary`` (V packed words), ``idf`` (float32 of shape (V,))
        and, unless the vocabulary is small enough without, ``projection`` (float32 of shape
        (V, D)).

        Raises
        ------
        DataError
            If no item has a word to work with.
        """
        texts = [catalogue.texts[row] for row in self._sample(len(catalogue))]
        vectorizer = _vectorizer(max_features=self.config.max_features)
        try:
            vectorizer.fit(texts)
        except ValueError:  # scikit-learn's "empty vocabulary"
            raise DataError(
                f"none of the {len(catalogue)} items has a word that item encoder 'tfidf' can "
                "read; give the catalogue text columns, or set items.base to 'none'"
            ) from None
        words = sorted(vectorizer.vocabulary_, key=vectorizer.vocabulary_.__getitem__)
        tensors = {"vocabulary": pack(words), "idf": torch.from_numpy(vectorizer.idf_)}
        if len(words) > self.config.text_dim:
            axes = self._fit_svd(vectorizer.transform(texts))
            tensors["projection"] = torch.from_numpy(np.ascontiguousarray(axes.T))
        return State(tensors)

    def transform(self, state: State, items: Catalogue) -> Floats:
        """Return float32 of shape (m, D) with D <= text_dim; unknown words do not count.

        Raises
        ------
        ArtifactError
            If the state is not one that `fit` returns.
        """
        words = unpack(state.tensor("vocabulary", None, dtype=torch.uint8))
        vectorizer = _vectorizer(vocabulary={word: column for column, word in enumerate(words)})
        vectorizer.idf_ = state.tensor("idf", len(words)).numpy()
        projection = None
        if "projection" in state.tensors:
            projection = state.tensor("projection", len(words), None).numpy()
        chunks = []
        for start in range(0, len(items), _CHUNK):
            sparse = vectorizer.transform(items.texts[start : start + _CHUNK])
            dense = sparse.toarray() if projection is None else sparse @ projection
            chunks.append(unit_rows(dense.astype(np.float32)))
        return np.concatenate(chunks)

    def _sample(self, n: int) -> list[int]:
        if n <= self.config.sample:
            return list(range(n))
        rng = numpy_rng(self.config.seed, "items", "tfidf", "sample")
        return sorted(rng.choice(n, size=self.config.sample, replace=False).tolist())

    def _fit_svd(self, weights: csr_matrix) -> Floats:
        """Return the leading right singular vectors of (n, V) weights, at most n, as rows."""
        from sklearn.decomposition import TruncatedSVD

        rng = numpy_rng(self.config.seed, "items", "tfidf", "svd")
        svd = TruncatedSVD(
            n_components=min(self.config.text_dim, weights.shape[0]),
            n_iter=2,  # the trailing directions need no more accuracy than text has
            random_state=int(rng.integers(2**31)),
        )
        with np.errstate(invalid="ignore"):  # equal texts have no variance to be a share of
            components: Floats = svd.fit(weights).components_
        return components


def _vectorizer(**options: Any) -> TfidfVectorizer:
    """Return an unfitted counter of words; what fitting and transforming must agree on."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    return TfidfVectorizer(
        sublinear_tf=True,
        stop_words="english",
        strip_accents="unicode",
        dtype=np.float32,
        **options,
    )


encoders.register("tfidf", config=TfidfConfig, build=TfidfEncoder)
