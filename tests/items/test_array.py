"""Files of vectors; every malformed file gets one clear sentence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from fedpeft.errors import DataError, FedpeftError

from .conftest import catalogue_of, encode, encoder

THREE = catalogue_of(["x", "y", "z"])  # ids 10, 11, 12
GOOD = np.arange(6, dtype=np.float32).reshape(3, 2)


class TestArray:
    @pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
    def test_npy(self, tmp_path: Path, dtype: type) -> None:
        np.save(tmp_path / "v.npy", GOOD.astype(dtype))
        vectors = encode(encoder("array", path=tmp_path / "v.npy"), THREE)
        assert vectors.dtype == np.float32
        np.testing.assert_array_equal(vectors, GOOD)

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
    def test_safetensors(self, tmp_path: Path, dtype: torch.dtype) -> None:
        save_file({"any": torch.from_numpy(GOOD).to(dtype)}, tmp_path / "v.safetensors")
        vectors = encode(encoder("array", path=tmp_path / "v.safetensors"), THREE)
        assert vectors.dtype == np.float32
        np.testing.assert_array_equal(vectors, GOOD)

    @pytest.mark.parametrize("kind", ["txt", "text", "integer"])
    def test_ids_align_rows(self, tmp_path: Path, kind: str) -> None:
        np.save(tmp_path / "v.npy", np.arange(8.0).reshape(4, 2))
        ids = tmp_path / ("ids.txt" if kind == "txt" else "ids.npy")
        order = ["12", "99", "10", "11"]
        if kind == "txt":
            ids.write_text("\n".join(order) + "\n")
        else:
            np.save(ids, np.array(order) if kind == "text" else np.array([int(i) for i in order]))
        vectors = encode(encoder("array", path=tmp_path / "v.npy", ids=ids), THREE)
        np.testing.assert_array_equal(vectors, [[4, 5], [6, 7], [0, 1]])

    def test_identity_is_the_content(self, tmp_path: Path) -> None:
        np.save(tmp_path / "v.npy", GOOD)
        vectors = encoder("array", path=tmp_path / "v.npy")
        before = vectors.identity()
        np.save(tmp_path / "v.npy", GOOD + 1)
        assert vectors.identity() != before
        with pytest.raises(DataError, match="cannot be read"):
            encoder("array", path=tmp_path / "w.npy").identity()

    @pytest.mark.parametrize(
        ("values", "sentence"),
        [
            (GOOD[:2], "has 2 rows but the catalogue has 3 items"),
            (np.zeros((0, 2)), "has 0 rows"),
            (GOOD[:, 0], r"must have shape \(rows, D\)"),
            (GOOD[:, :0], r"must have shape \(rows, D\)"),
            (GOOD[None], r"must have shape \(rows, D\)"),
            (np.float32(3), r"must have shape \(rows, D\)"),
            (GOOD.astype(np.int64), "must hold floating-point numbers, holds int64"),
            (GOOD.astype(np.complex64), "holds complex64"),
            (GOOD.astype(str), "must hold floating-point"),
            (GOOD.astype(object), "pickled Python objects, which are refused"),
            (np.where(GOOD == 3, np.nan, GOOD), "row 1 holds NaN"),
            (np.where(GOOD == 4, -np.inf, GOOD), "row 2 holds NaN, an infinity"),
            (np.where(GOOD == 0, 1e300, GOOD.astype(np.float64)), "row 0 .* beyond float32"),
        ],
    )
    def test_malformed_values(self, tmp_path: Path, values: np.ndarray, sentence: str) -> None:
        np.save(tmp_path / "v.npy", values, allow_pickle=True)
        with pytest.raises(DataError, match=sentence):
            encode(encoder("array", path=tmp_path / "v.npy"), THREE)

    @pytest.mark.parametrize(
        ("name", "content", "sentence"),
        [
            ("v.npy", None, "cannot be read: No such file"),
            ("v.npy", b"", "not a readable .npy"),
            ("v.npy", b"PK\x03\x04", "not a readable .npy"),
            ("v.npy", b"\x80\x04K\x01.", "not a readable"),
            ("v.npy", b"half", "not a readable .npy"),
            ("v.safetensors", None, "does not exist"),
            ("v.safetensors", b"nonsense", "not a readable safetensors"),
        ],
    )
    def test_malformed_files(
        self, tmp_path: Path, name: str, content: bytes | None, sentence: str
    ) -> None:
        path = tmp_path / name
        if content == b"half":
            np.save(path, GOOD)
            content = path.read_bytes()[:-5]
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(DataError, match=sentence) as caught:
            encode(encoder("array", path=path), THREE)
        assert str(path) in str(caught.value)

    def test_an_archive_is_refused(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "v.npz", GOOD)
        (tmp_path / "v.npz").rename(tmp_path / "v.npy")
        with pytest.raises(DataError, match=r"not a readable \.npy"):
            encode(encoder("array", path=tmp_path / "v.npy"), THREE)

    def test_two_tensors_are_refused(self, tmp_path: Path) -> None:
        save_file({"a": torch.zeros(3, 2), "b": torch.zeros(3, 2)}, tmp_path / "v.safetensors")
        with pytest.raises(DataError, match=r"must hold one tensor, holds 2"):
            encode(encoder("array", path=tmp_path / "v.safetensors"), THREE)

    @pytest.mark.parametrize(
        ("ids", "sentence"),
        [
            (["10", "11"], "names 2 ids but the array has 3 rows"),
            (["10", "11", "11"], "names id '11' more than once"),
            (["10", "7", "8"], "no row for 2 of 3 items, the first is id '11'"),
        ],
    )
    def test_wrong_ids(self, tmp_path: Path, ids: list[str], sentence: str) -> None:
        np.save(tmp_path / "v.npy", GOOD)
        (tmp_path / "ids.txt").write_text("\n".join(ids))
        with pytest.raises(DataError, match=sentence):
            encode(encoder("array", path=tmp_path / "v.npy", ids=tmp_path / "ids.txt"), THREE)

    @pytest.mark.parametrize("values", [GOOD, np.zeros(3), np.array([{}, 1, 2], dtype=object)])
    def test_malformed_id_arrays(self, tmp_path: Path, values: np.ndarray) -> None:
        np.save(tmp_path / "v.npy", GOOD)
        np.save(tmp_path / "ids.npy", values, allow_pickle=True)
        with pytest.raises(DataError, match=r"ids\.npy"):
            encode(encoder("array", path=tmp_path / "v.npy", ids=tmp_path / "ids.npy"), THREE)

    def test_malformed_id_text(self, tmp_path: Path) -> None:
        np.save(tmp_path / "v.npy", GOOD)
        ids = tmp_path / "ids.txt"
        made = encoder("array", path=tmp_path / "v.npy", ids=ids)
        with pytest.raises(DataError, match="No such file"):
            encode(made, THREE)
        ids.write_bytes(b"\xff\xfe\x00")
        with pytest.raises(FedpeftError, match="not UTF-8"):
            encode(made, THREE)
