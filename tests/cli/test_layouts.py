"""A layout of uploads that shows the server more than a sum would says so; dense says nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from .tools import SMALL, fedpeft


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--preset", "newton", "--adapter", "full"), "history, and its user vector, in clear"),
        (("--adapter", "full", "--loss", "bpr"), "user vector up to length"),
    ],
)
def test_rank_one_is_told(words: tuple[str, ...], said: str, here: Path) -> None:
    asked = ("run", *SMALL, "--rounds", "2", *words)
    short = fedpeft(*asked, "--set", "training.upload=rank_one", "--out", "short", "--json")
    assert short.code == 0, short.err
    assert "training.upload = 'rank_one' shows a server that sees single uploads" in short.err
    assert said in short.err
    dense = fedpeft(*asked, "--out", "dense", "--json")
    assert "single uploads" not in dense.err
    less, more = (json.loads(done.out)["bytes"] for done in (short, dense))
    assert less["upload_per_client_round"] < more["upload_per_client_round"]


@pytest.mark.parametrize(
    ("preset", "adapter", "upload"),
    [("colr", "lora", "dense"), ("rqfedrec", "rq", "dense"), ("fedras", "full", "actions")],
)
def test_presets_of_other_papers(preset: str, adapter: str, upload: str, here: Path) -> None:
    done = fedpeft("run", *SMALL, "--preset", preset, "--rounds", "3", "--out", "run", "--json")
    assert done.code == 0, done.err
    config = json.loads(done.out)["config"]
    assert (config["adapter"]["kind"], config["training"]["upload"]) == (adapter, upload)
    assert ("which of them alike" in done.err) == (upload == "actions")
    mine = ("--preset", preset, "--adapter", "hash")
    done = fedpeft("run", *SMALL, *mine, "--rounds", "1", "--out", "hash", "--json")
    config = json.loads(done.out)["config"]
    assert (config["adapter"]["kind"], config["training"]["upload"]) == ("hash", "dense")
