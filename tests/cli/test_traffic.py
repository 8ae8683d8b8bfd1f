"""`fedpeft traffic`: one client's upload of any round, made again bit for bit."""

from __future__ import annotations

import json
import re
from pathlib import Path
from unittest.mock import patch

import pytest

from fedpeft.errors import ArtifactError
from fedpeft.experiment import Schedule, configure, reopen, start
from fedpeft.experiment.replay import replay_upload
from fedpeft.protocol.messages import (
    Upload,
)
from fedpeft.simulation import RunOptions

from .tools import SMALL, fedpeft

SETTINGS = ["training.warmup_rounds=2", "training.refresh_every=2", "training.encoding=int8"]


def recorded(
    folder: Path,
    *settings: str,
    adapter: str = "rq",
    backend: str = "sequential",
    every: int = 100,
) -> list[bytes]:
    """Make a run; return the bytes of all uploads that were really encoded, in order."""
    sent: list[bytes] = []
    encode = Upload.to_bytes

    def noted(upload: Upload) -> bytes:
        sent.append(encode(upload))
        return sent[-1]

    asked = [*SMALL[1::2], "evaluation.test=false", *SETTINGS, *settings]
    config = configure(adapter=adapter, rounds=8, seed=3, settings=asked)
    options = RunOptions(device="cpu", backend=backend)  # type: ignore[arg-type]
    with patch.object(Upload, "to_bytes", noted):
        start(config, folder, options, Silent(), Schedule(checkpoint_every=every))
    return sent


class Silent:
    """Nobody is told how a run goes."""

    def stage(self, text: str) -> None: ...
    def note(self, text: str) -> None: ...
    def started(self, simulation: object) -> None: ...
    def round(self, result: object) -> None: ...
    def evaluated(self, round_number: int, report: object) -> None: ...


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[bytes]]:
    folder = tmp_path_factory.mktemp("runs") / "rq"
    return folder, recorded(folder)


@pytest.mark.parametrize("round_number", [0, 1, 2, 4, 7])
def test_the_bytes_are_those_that_were_sent(
    run: tuple[Path, list[bytes]], round_number: int
) -> None:
    folder, sent = run
    prepared, simulation = reopen(folder)
    users = [prepared.dataset.user_ids[row] for row in simulation.sampler.rows(round_number)]
    again = [replay_upload(folder, user, round_number).data for user in users]
    assert again == [data for data in sent if Upload.from_bytes(data).round == round_number]


def test_a_run_with_hash_functions_of_before_is_not_replayed(tmp_path: Path) -> None:
    """Earlier versions took the first functions that came; the warm-up has none."""
    with patch("fedpeft.adapters.hash._good", lambda config, context, drawn: drawn.flip(0)):
        sent = recorded(tmp_path / "run", adapter="hash")
    prepared, simulation = reopen(tmp_path / "run")  # the functions of its checkpoint are its own
    users = {
        number: prepared.dataset.user_ids[simulation.sampler.rows(number)[0]] for number in (1, 3)
    }
    assert replay_upload(tmp_path / "run", users[1], 1).data in sent
    with pytest.raises(ArtifactError, match="drew other hash functions"):
        replay_upload(tmp_path / "run", users[3], 3)


def test_what_is_in_it_and_the_file(run: tuple[Path, list[bytes]], tmp_path: Path) -> None:
    folder, sent = run
    asked = ["traffic", str(folder), "--user", "user-0", "--round"]
    rounds = [str(number) for number in range(8)]
    said = {number: fedpeft(*asked, number, "--out", str(tmp_path / number)) for number in rounds}
    took_part = [number for number in rounds if said[number].code == 0]
    assert took_part, said
    for number in rounds:
        if number not in took_part:
            assert said[number].code == 2
            assert f"user 'user-0' took no part in round {number}; it did in" in said[number].err
            assert not (tmp_path / number).exists()
    number = took_part[0]
    data = (tmp_path / number).read_bytes()
    assert data in sent
    told = json.loads(fedpeft(*asked, number, "--json").out)
    assert told["bytes"] == len(data) == told["head_bytes"] + told["payload_bytes"]
    assert (told["run"], told["user"], told["round"]) == (str(folder), "user-0", int(number))
    assert told["upload"] == "dense"
    assert re.search(r"\bupload +. +dense\b", said[number].out)
    assert "form" not in said[number].out
    assert told["encoding"] == "int8"
    assert all(tensor["norm"] > 0 for tensor in told["tensors"])
    assert told["tensors"][0]["name"] in said[number].out


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--user", "nobody", "--round", "1"], "there is no user 'nobody' in "),
        (["--user", "user-0", "--round", "8"], "--round 8 must be from 0 to 7"),
        (["--user", "user-0", "--round", "-1"], "--round -1 must be from 0 to 7"),
        (["--user", "user-0", "--round", "0", "--out", "no/such/file"], "must be a file in a"),
    ],
)
def test_what_cannot_be_shown_is_one_sentence(
    words: list[str], sentence: str, run: tuple[Path, list[bytes]]
) -> None:
    done = fedpeft("traffic", str(run[0]), *words)
    assert done.code == 2
    assert sentence in done.err
    assert "Traceback" not in done.err
    assert len(done.err.strip().splitlines()[-1]) < 300


def test_no_run_folder(tmp_path: Path) -> None:
    done = fedpeft("traffic", str(tmp_path), "--user", "user-0", "--round", "0")
    assert done.code == 2
    assert "is not a run folder" in done.err
