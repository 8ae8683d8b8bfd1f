"""`fedpeft recommend`: to users of a run, to people who took no part, to all at once."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import stat
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from fedpeft.experiment import Recommender

from . import spoilt
from .tools import SMALL, Outcome, fedpeft, tree

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "guide.md"


def recommended(*words: str | Path) -> list[dict[str, Any]]:
    """Return what a command recommends."""
    done = fedpeft("recommend", *words, "--json")
    assert done.code == 0, done.err
    found: list[dict[str, Any]] = json.loads(done.out)
    return found


def history_of(folder: Path, user: str) -> list[str]:
    """Return the ids of a user's items, oldest first."""
    recommender = Recommender(folder)
    files = recommender.histories
    row = list(files.users).index(user)
    items = files.items[files.indptr[row] : files.indptr[row + 1]]
    return [recommender.catalogue.ids[item] for item in items]


def test_the_guides_three_commands(here: Path) -> None:
    """From a file of ratings to recommendations for someone who is not in it."""
    section = GUIDE.read_text("utf-8").partition("\n## Recommend\n")[2]
    block = re.search(r"```bash\n(.*?)```", section, re.S)
    assert block is not None
    rows = (spoilt.table(here) / "interactions.csv").read_text()
    shutil.rmtree(here / "data")  # nothing but the one file is left
    rows = rows.replace(",i1,", ",A004,").replace(",i2,", ",A031,")  # the guide's ids
    rows = rows.replace("user_id,item_id", "userId,movieId")
    (here / "ratings.csv").write_text(rows)
    lines = block[1].splitlines()
    assert len(lines) == 3
    done = Outcome(0, "", "")
    for line in lines:
        words = shlex.split(line)[1:]
        small = ["--set", "evaluation.negatives=5"] if words[0] == "run" else []
        done = fedpeft(*words, *small)
        assert done.code == 0, done.err
    assert len(set(re.findall(r"\bi\d+\b", done.out))) == 10
    assert "A004" not in done.out


def test_the_data_are_not_read_again(here: Path) -> None:
    spoilt.table(here)
    words = ("--set", "evaluation.negatives=5", "--set", "items.base=svd", "--rounds", "2")
    assert fedpeft("run", "--data", "data", *words, "--out", "new").code == 0
    shutil.rmtree(here / "data")
    before = tree(here / "new")
    assert fedpeft("recommend", "new", "--user", "u0").code == 0
    assert fedpeft("recommend", "new", "--history", "i1,i2").code == 0
    assert fedpeft("recommend", "new", "--all", "--out", "all.parquet").code == 0
    assert fedpeft("export", "new", "--out", "exported").code == 0
    assert tree(here / "new") == before


def test_a_newcomer_with_a_users_history_gets_what_the_user_gets(
    finished: Path, here: Path
) -> None:
    """The exact local solution knows of nothing but the history."""
    found = recommended(finished, "--history", ",".join(history_of(finished, "user-7")))
    known = recommended(finished, "--user", "user-7")
    assert [each["item"] for each in found] == [each["item"] for each in known]
    assert [each["score"] for each in found] == pytest.approx(
        [each["score"] for each in known], abs=1e-5
    )


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("basket.txt", "item-3\n\n item-14 \nitem-15\n"),
        ("basket.csv", "item_id\nitem-3\nitem-14\nitem-15\n"),
        ("basket.tsv", "note\titem_id\nx\titem-3\ny\titem-14\nz\titem-15\n"),
        (
            "basket.csv",
            "user_id,item_id,timestamp\nme,item-15,9\nme,item-3,1\nme,item-14,5\nme,item-3,10\n",
        ),
    ],
    ids=["lines", "a column", "tabs", "times"],
)
def test_forms_of_a_history(name: str, text: str, finished: Path, here: Path) -> None:
    (here / name).write_text(text)
    expected = recommended(finished, "--history", "item-3, item-14,item-15")
    assert recommended(finished, "--history", name) == expected
    assert not {each["item"] for each in expected} & {"item-3", "item-14", "item-15"}


def test_items_that_the_catalogue_lacks_are_left_out_and_told(finished: Path, here: Path) -> None:
    done = fedpeft("recommend", finished, "--history", "item-3,new,item-14", "--json")
    assert done.err == (
        "1 of 3 items of the history are not in the catalogue and are left out: new\n"
    )
    assert json.loads(done.out) == recommended(finished, "--history", "item-3,item-14")


def test_a_history_of_everything_leaves_nothing(finished: Path, here: Path) -> None:
    done = fedpeft(
        "recommend", finished, "--history", ",".join(Recommender(finished).catalogue.ids)
    )
    assert done.code == 2
    assert done.err.endswith("the history has every item, so none is left to recommend\n")


def test_all_users_at_once(finished: Path, here: Path) -> None:
    done = fedpeft("recommend", finished, "--all", "--out", "all.parquet", "--top", "4", "--json")
    table = pl.read_parquet("all.parquet")
    assert json.loads(done.out) == {"users": 60, "rows": 240, "out": "all.parquet"}
    assert table.columns == ["user", "rank", "item", "title", "score"]
    assert stat.S_IMODE((here / "all.parquet").stat().st_mode) == 0o600
    for user in ("user-0", "user-7", table["user"][-1]):
        own = table.filter(pl.col("user") == user).drop("user")
        alone = recommended(finished, "--user", user, "--top", "4")
        assert own.drop("score").to_dicts() == [
            {name: each[name] for name in ("rank", "item", "title")} for each in alone
        ]
        assert np.allclose(own["score"], [each["score"] for each in alone], atol=1e-5)


def test_more_than_there_is(finished: Path) -> None:
    """Who has many items gets fewer rows; nobody is recommended what they have."""
    recommender = Recommender(finished)
    table = recommender.for_all(top=1000)
    lengths = np.diff(recommender.histories.indptr)
    assert table.height == int((len(recommender.catalogue.ids) - lengths).sum())
    for user in ("user-0", "user-3"):
        own = set(table.filter(pl.col("user") == user)["item"])
        assert own == set(recommender.catalogue.ids) - set(history_of(finished, user))


def test_a_folder_of_before_reads_the_data(run: Path, finished: Path) -> None:
    known = recommended(finished, "--user", "user-7")
    for name in ("catalogue.parquet", "histories.parquet"):
        (run / name).unlink()
    assert recommended(run, "--user", "user-7") == known


def test_an_interrupted_run_recommends(run: Path) -> None:
    known = recommended(run, "--user", "user-7")
    spoilt.unfinished(run.parent)
    assert recommended(run, "--user", "user-7") == known


@pytest.mark.parametrize("words", [("--user", "me@home.org"), ("--history", "x")], ids=str)
def test_no_message_names_another_user(words: tuple[str, ...], finished: Path, here: Path) -> None:
    done = fedpeft("recommend", finished, *words)
    assert done.code == 2
    assert "user-" not in done.err + done.out


@pytest.mark.parametrize(
    ("backbone", "preset"),
    [("fedncf", "fedpeft"), ("pfedrec", "paper"), ("fedpergnn", "fedpeft"), ("fedmf", "paper")],
)
def test_every_backbone(backbone: str, preset: str, here: Path) -> None:
    """Where local parameters move by gradient, a newcomer's end up as good as a user's."""
    words = ("--backbone", backbone, "--preset", preset, "--rounds", "20", "--out", "new")
    done = fedpeft("run", *SMALL, "--set", "evaluation.centralised_baseline=false", *words)
    assert done.code == 0, done.err
    history = history_of(here / "new", "user-7")
    found = recommended("new", "--history", ",".join(history))
    assert len(found) == 10
    assert found == recommended("new", "--history", ",".join(history))
    assert not {each["item"] for each in found} & set(history)
    # of two histories that share nothing the scores differ: the local part has learnt
    other = [each for each in Recommender(here / "new").catalogue.ids if each not in history][:9]
    theirs = recommended("new", "--history", ",".join(other))
    assert [each["score"] for each in found] != [each["score"] for each in theirs]
