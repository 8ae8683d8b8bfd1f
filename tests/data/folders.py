"""Tiny folders in each format; every title and number is invented."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

# (user, item, rating, time): user 7 has a repeated item, user 9 is too short, items 5 and 6 unused
EVENTS = [
    (7, 3, 4, 300), (8, 1, 5, 10), (7, 1, 2, 100), (7, 2, 3, 200), (8, 2, 1, 10), (9, 1, 4, 5),
    (7, 1, 5, 400), (8, 4, 4, 10), (9, 4, 2, 6), (8, 3, 3, 9),
]  # fmt: skip
BY_TIME = {"7": ["1", "2", "3"], "8": ["3", "1", "2", "4"]}
BY_FILE = {"7": ["3", "1", "2"], "8": ["1", "2", "4", "3"]}
TITLES = {
    1: "Café by the Canal (2031)", 2: "The Lantern Thief (2032)", 3: "Moss (2030)",
    4: "Seven Kites (2033)", 5: "Gone Fishing Again (2034)", 6: "Unseen (2035)",
}  # fmt: skip
GENRES = {1: [1], 2: [0, 2], 3: [2], 4: [0], 5: [1], 6: [2]}
GENRE_NAMES = ["Calm", "Sad", "Loud"]


def genres(item: int) -> str:
    return "|".join(GENRE_NAMES[genre] for genre in GENRES[item])


def movielens_100k(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    rows = ["\t".join(map(str, event)) for event in EVENTS]
    (folder / "u.data").write_text("\n".join(rows) + "\n")
    flags = {i: "|".join("1" if g in GENRES[i] else "0" for g in range(3)) for i in TITLES}
    films = [f"{i}|{title}|01-Jan-2030||http://x|{flags[i]}" for i, title in TITLES.items()]
    (folder / "u.item").write_text("\n".join(films) + "\n", encoding="latin-1")
    named = [f"{name}|{place}" for place, name in enumerate(GENRE_NAMES)]
    (folder / "u.genre").write_text("\n".join(named) + "\n\n")
    return folder


def movielens_1m(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    rows = ["::".join(map(str, event)) for event in EVENTS]
    (folder / "ratings.dat").write_text("\n".join(rows) + "\n")
    films = [f"{i}::{title}::{genres(i)}" for i, title in TITLES.items()]
    (folder / "movies.dat").write_text("\n".join(films) + "\n", encoding="latin-1")
    return folder


def movielens_latest(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    rows = ["userId,movieId,rating,timestamp", *(",".join(map(str, event)) for event in EVENTS)]
    (folder / "ratings.csv").write_text("\n".join(rows) + "\n")
    films = [f'{i},"{title}",{genres(i)}' for i, title in TITLES.items()]
    films[5] = f'6,"{TITLES[6]}",(no genres listed)'
    text = "\n".join(["movieId,title,genres", *films]) + "\n"
    (folder / "movies.csv").write_text(text, encoding="utf-8")
    return folder


def zip_lines(path: Path, records: list[dict[str, object]]) -> None:
    """Write one JSON object a line, compressed."""
    text = "".join(json.dumps(record) + "\n" for record in records)
    path.write_bytes(gzip.compress(text.encode()))


def amazon_2018(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    reviews = [
        {"reviewerID": str(u), "asin": str(i), "overall": float(r), "unixReviewTime": t,
         "style": {"Size:": "M"}}
        for u, i, r, t in EVENTS
    ]  # fmt: skip
    meta = [
        {"asin": str(i), "title": title, "brand": "Acme &amp; Sons", "description": ["<b>Nice</b>"],
         "category": ["Things", genres(i).replace("|", " ")]}
        for i, title in TITLES.items()
    ]  # fmt: skip
    zip_lines(folder / "Things_5.json.gz", reviews)
    zip_lines(folder / "meta_Things.json.gz", meta)
    return folder


def amazon_2023(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    reviews = [
        {"user_id": str(u), "asin": f"{i}-red", "parent_asin": str(i), "rating": float(r),
         "timestamp": t * 1000, "title": "Nice", "text": "", "images": []}
        for u, i, r, t in EVENTS
    ]  # fmt: skip
    meta = [
        {"parent_asin": str(i), "title": title, "store": "Acme &amp; Sons", "features": ["Soft"],
         "description": ["<b>Nice</b>"], "details": {"Size": "M"}, "price": None,
         "categories": ["Things", genres(i).replace("|", " ")]}
        for i, title in TITLES.items()
    ]  # fmt: skip
    zip_lines(folder / "Things.jsonl.gz", reviews)
    zip_lines(folder / "meta_Things.jsonl.gz", meta)
    return folder


def recbole(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    names = ("user_id:token", "item_id:token", "rating:float", "timestamp:float")
    rows = ["\t".join(map(str, event)) for event in (names, *EVENTS)]
    (folder / "things.inter").write_text("\n".join(rows) + "\n")
    names = ("item_id:token", "movie_title:token_seq", "price:float", "class:token_seq")
    films = [(i, title, 1.5, genres(i).replace("|", " ")) for i, title in TITLES.items()]
    text = "\n".join("\t".join(map(str, film)) for film in (names, *films))
    (folder / "things.item").write_text(text, encoding="utf-8")
    return folder


def table(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    rows = ["user_id,item_id,rating,timestamp", *(",".join(map(str, event)) for event in EVENTS)]
    (folder / "interactions.csv").write_text("\n".join(rows) + "\n")
    films = [f'{i},"{title}",{genres(i)},' for i, title in TITLES.items()]
    text = "\n".join(["item_id,title,genres,plot", *films]) + "\n"
    (folder / "items.csv").write_text(text, encoding="utf-8")
    return folder


FORMATS = {
    "amazon_2018": amazon_2018,
    "amazon_2023": amazon_2023,
    "movielens_100k": movielens_100k,
    "movielens_1m": movielens_1m,
    "movielens_latest": movielens_latest,
    "recbole": recbole,
    "table": table,
}
