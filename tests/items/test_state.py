"""Fitted states: texts in tensors, and files that say whether they are whole."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fedpeft.errors import ArtifactError
from fedpeft.items.state import State, pack, read_state, unpack


@given(st.lists(st.text(st.characters())))
def test_texts_survive(texts: list[str]) -> None:
    assert unpack(pack(texts)) == texts


@pytest.mark.parametrize("data", [b"", b"[", b"{}", b"[1]", b"\xff"])
def test_tensors_without_texts(data: bytes) -> None:
    with pytest.raises(ArtifactError, match="JSON list of texts"):
        unpack(torch.tensor(list(data), dtype=torch.uint8))


def test_written_and_read(tmp_path: Path) -> None:
    path = tmp_path / "s.safetensors"
    whole = State({"a": torch.rand(2, 3), "b": torch.arange(4)}, {"x": [1, 0.1], "y": {"z": "é"}})
    whole.write(path)
    found = read_state(path, whole.description())
    assert found.file == path
    assert found.settings == whole.settings
    assert all(torch.equal(found.tensors[name], whole.tensors[name]) for name in ("a", "b"))
    State().write(path)  # an encoder that learns nothing
    assert read_state(path, State().description()).tensors == {}


def test_what_numpy_does_not_know_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "s.safetensors"
    State({"a": torch.ones(2, dtype=torch.bfloat16)}).write(path)
    with pytest.raises(ArtifactError, match="is not the file"):
        read_state(path, State().description())


def test_settings_without_a_number_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "s.safetensors"
    State().write(path)
    with pytest.raises(ArtifactError, match="is not the file"):
        read_state(path, {"settings": {"x": float("nan")}, "sha256": ""})


def test_parts() -> None:
    inner, outer = State({"a": torch.ones(1)}), State({"b": torch.ones(2)}, {"x": 1})
    both = outer.with_part("in.", inner)
    assert set(both.tensors) == {"b", "in.a"}
    assert both.settings == {"x": 1}
    assert set(both.part("in.").tensors) == {"a"}
    assert both.tensor("b", None) is outer.tensors["b"]
    with pytest.raises(ArtifactError, match=r"a fitted state: .* shape \(any, 2\)"):
        both.tensor("b", None, 2)
