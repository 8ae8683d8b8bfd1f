"""Precomputed vectors from a ``.npy`` or ``.safetensors`` file, made by any model anywhere."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, field_validator

from fedpeft.config import ConfigModel
from fedpeft.data.dataset import Catalogue
from fedpeft.errors import ArtifactError, DataError
from fedpeft.files import read_tensors
from fedpeft.items.encoders import Floats, encoders
from fedpeft.items.state import State, pack, unpack

_SUFFIXES = (".npy", ".safetensors")
_ID_SUFFIXES = (".npy", ".txt")


class ArrayConfig(ConfigModel):
    """Options of the encoder ``array``."""

    path: Path
    """A .npy file, or a .safetensors file with one tensor: floating point, shape (rows, D)."""
    ids: Path | None = Field(default=None)
    """Item id of each row: a .txt file (UTF-8, one id a line) or a .npy file (text or integers).

    Without it row i belongs to item i of the catalogue.  With it rows may come in any order and
    there may be more rows than items.
    """

    @field_validator("path")
    @classmethod
    def _known_array(cls, path: Path) -> Path:
        return _located(path, _SUFFIXES)

    @field_validator("ids")
    @classmethod
    def _known_ids(cls, path: Path | None) -> Path | None:
        return path if path is None else _located(path, _ID_SUFFIXES)


def _located(path: Path, allowed: tuple[str, ...]) -> Path:
    """Return the path made absolute, so that it is found from any working directory."""
    if path.suffix not in allowed:
        raise ValueError(f"{str(path)!r} must end in {' or '.join(allowed)}")
    return path.expanduser().absolute()


class ArrayEncoder:
    """The values are used as they stand; only their dtype becomes float32.

    A text cannot be encoded here.  An item has a vector if the file has a row for its id.
    """

    def __init__(self, config: ArrayConfig) -> None:
        self.config = config

    def identity(self) -> str:
        files = [path for path in (self.config.path, self.config.ids) if path is not None]
        return f"array 1, {', '.join(map(_content_hash, files))}"

    def fit(self, catalogue: Catalogue) -> State:
        """Note what the files hold and whose each row is; the vectors stay where they are.

        Raises
        ------
        DataError
            If a file is missing, malformed, of the wrong shape or dtype, or has no row for an item.
        """
        n_rows = len(self._values())
        if self.config.ids is not None:
            ids = _read_ids(self.config.ids)
            _check_ids(ids, n_rows, self.config.ids)
        elif n_rows == len(catalogue):
            ids = list(catalogue.ids)
        else:
            raise DataError(
                f"{self.config.path} has {n_rows} rows but the catalogue has {len(catalogue)} "
                "items; give one row per item in catalogue order, or name an ids file"
            )
        self._rows(ids, catalogue)
        return State({"ids": pack(ids)}, {"identity": self.identity()})

    def transform(self, state: State, items: Catalogue) -> Floats:
        """Look items up by id; return float32 of shape (m, D).

        Raises
        ------
        ArtifactError
            If the files are not those that `fit` noted.
        DataError
            If there is no row for an item, or a value is NaN, infinite or beyond float32.
        """
        if state.settings.get("identity") != self.identity():
            raise ArtifactError(
                f"{self.config.path} or its ids file has changed since the items were encoded; "
                "bring the old files back, or make the items anew"
            )
        rows = self._rows(unpack(state.tensor("ids", None, dtype=torch.uint8)), items)
        with np.errstate(over="ignore"):  # what overflows float32 is caught as an infinity below
            aligned = np.ascontiguousarray(self._values()[rows], dtype=np.float32)
        bad = np.flatnonzero(~np.isfinite(aligned).all(axis=1))
        if len(bad):
            raise DataError(
                f"{self.config.path} row {rows[bad[0]]} holds NaN, an infinity or a value beyond "
                "float32"
            )
        return aligned

    def _values(self) -> NDArray[np.generic]:
        """Return the numbers in the file: floating point, shape (rows, D), D >= 1."""
        path = self.config.path
        values = _read_npy(path) if path.suffix == ".npy" else _read_safetensors(path)
        if values.ndim != 2 or values.shape[1] == 0:
            raise DataError(f"{path} must have shape (rows, D) with D >= 1, has {values.shape}")
        if not np.issubdtype(values.dtype, np.floating):
            raise DataError(f"{path} must hold floating-point numbers, holds {values.dtype}")
        return values

    def _rows(self, ids: list[str], items: Catalogue) -> NDArray[np.int64]:
        """Return the row of each item, int64 of shape (m,), where row i belongs to ``ids[i]``."""
        row_of = {name: row for row, name in enumerate(ids)}
        missing = [name for name in items.ids if name not in row_of]
        if missing:
            raise DataError(
                f"{self.config.ids or self.config.path} has no row for {len(missing)} of "
                f"{len(items)} items, the first is id {missing[0]!r}; item encoder 'array' looks "
                "vectors up and cannot encode a text"
            )
        return np.array([row_of[name] for name in items.ids], dtype=np.int64)


def _check_ids(ids: list[str], n_rows: int, path: Path) -> None:
    """Raise `DataError` unless there is one id for each row, and no id twice."""
    if len(ids) != n_rows:
        raise DataError(f"{path} names {len(ids)} ids but the array has {n_rows} rows")
    seen: set[str] = set()
    for name in ids:
        if name in seen:
            raise DataError(f"{path} names id {name!r} more than once")
        seen.add(name)


def _content_hash(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from None


def _read_npy(path: Path) -> NDArray[np.generic]:
    try:
        with path.open("rb") as file:  # np.load would take pickles and archives for .npy as well
            values: NDArray[np.generic] = np.lib.format.read_array(file, allow_pickle=False)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from None
    except ValueError as error:
        if "allow_pickle" in str(error):
            raise DataError(
                f"{path} holds pickled Python objects, which are refused; save a plain array"
            ) from None
        raise DataError(f"{path} is not a readable .npy file: {error}") from None
    return values


def _read_safetensors(path: Path) -> NDArray[np.generic]:
    try:
        tensors = read_tensors(path)
    except ValueError as error:
        raise DataError(str(error)) from None
    if len(tensors) != 1:
        raise DataError(f"{path} must hold one tensor, holds {len(tensors)}: {sorted(tensors)}")
    tensor = next(iter(tensors.values()))
    values: NDArray[np.generic] = (tensor.float() if tensor.is_floating_point() else tensor).numpy()
    return values


def _read_ids(path: Path) -> list[str]:
    if path.suffix == ".txt":
        try:
            return path.read_text(encoding="utf-8").splitlines()
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error.strerror}") from None
        except UnicodeDecodeError as error:
            raise DataError(f"{path} is not UTF-8 text: {error}") from None
    values = _read_npy(path)
    if values.ndim != 1 or values.dtype.kind not in "iuU":
        raise DataError(
            f"{path} must hold a row of text or integer ids, has shape {values.shape} "
            f"and dtype {values.dtype}"
        )
    return [str(value) for value in values]


encoders.register("array", config=ArrayConfig, build=ArrayEncoder)
