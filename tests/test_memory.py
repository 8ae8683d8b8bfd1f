"""What a process does with the memory that it frees."""

from __future__ import annotations

import platform
import sys

import pytest

from fedpeft.memory import keep_freed


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the allocator of glibc")
def test_glibc_takes_the_limits() -> None:
    assert keep_freed()


@pytest.mark.parametrize("system", ["win32", "darwin"])
def test_elsewhere_nothing_happens(system: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", system)
    assert not keep_freed()
