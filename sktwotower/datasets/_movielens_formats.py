"""The three file formats of MovieLens, read into the same tables.

Each reader takes a function that opens a file of the set by name: from a folder of
gzip files or from a zip archive.
"""

from __future__ import annotations

import csv
from collections.abc import Callable
from itertools import compress
from typing import IO, NamedTuple

import pandas as pd

OpenFile = Callable[[str], IO[bytes]]

_NO_GENRES = ("(no genres listed)", "unknown")  # in the csv sets and in 100k

# "Toy Story (1995)", a series "Death Note (2006–2007)", IMDb's mark "... (1995) (V)".
_YEAR_PATTERN = r"\((\d{4})(?:[-–]\d{0,4})?\)(?: \(V\))?\s*$"

# Names of the occupation codes 0, 1, ... of 1m, from its README.
_OCCUPATIONS_1M = (
    "other",
    "academic/educator",
    "artist",
    "clerical/admin",
    "college/grad student",
    "customer service",
    "doctor/health care",
    "executive/managerial",
    "farmer",
    "homemaker",
    "K-12 student",
    "lawyer",
    "programmer",
    "retired",
    "sales/marketing",
    "scientist",
    "self-employed",
    "technician/engineer",
    "tradesman/craftsman",
    "unemployed",
    "writer",
)


class Tables(NamedTuple):
    """The tables of a MovieLens set."""

    interactions: pd.DataFrame
    items: pd.DataFrame
    users: pd.DataFrame | None
    tags: pd.DataFrame | None
    readme: str


def read_csv_set(open_file: OpenFile) -> Tables:
    """Read latest-small, 20m, 25m or 32m: csv files with a header, UTF-8."""
    with open_file("ratings.csv") as file:
        interactions = _finish_interactions(pd.read_csv(file))
    # keep_default_na=False because "NA" may be a title and "null" a tag.
    with open_file("movies.csv") as file:
        movies = pd.read_csv(
            file, keep_default_na=False, dtype={"title": str, "genres": str}
        )
    with open_file("tags.csv") as file:
        tags = pd.read_csv(file, keep_default_na=False, dtype={"tag": str})
    tags.columns = pd.Index(["user_id", "item_id", "tag", "timestamp"])
    tags["timestamp"] = _dates(tags["timestamp"])
    return Tables(
        interactions,
        _make_items(movies["movieId"], movies["title"], movies["genres"]),
        None,
        tags,
        _read_text(open_file, "README.txt", "utf-8"),
    )


def read_100k(open_file: OpenFile) -> Tables:
    """Read 100k: files without a header, tab or ``|`` between the columns, Latin-1."""
    with open_file("u.data") as file:
        interactions = _finish_interactions(pd.read_csv(file, sep="\t", header=None))
    genre_names = [line.split("|")[0] for line in _read_lines(open_file, "u.genre")]
    with open_file("u.item") as file:
        movies = _read_bars(file)
    # Columns: id, title, two dates, a link, and one 0/1 column per genre.
    flags = movies.iloc[:, 5:].to_numpy(dtype=bool)
    genres = ["|".join(compress(genre_names, row)) for row in flags]
    with open_file("u.user") as file:
        users = _read_bars(file, dtype={4: str})  # a zip code can start with 0
    users.columns = pd.Index(["user_id", "age", "gender", "occupation", "zip_code"])
    return Tables(
        interactions,
        _make_items(movies[0], movies[1], pd.Series(genres, dtype=movies[1].dtype)),
        users,
        None,
        _read_text(open_file, "README", "latin-1"),
    )


def read_1m(open_file: OpenFile) -> Tables:
    """Read 1m: ``.dat`` files with ``::`` between the columns, Latin-1."""
    # "1::2" is read as three columns separated by ":", the middle one empty, because
    # pandas' C parser takes a single character and its Python parser is many times slower.
    # No field of these two files has a ":"; titles do, so films are split line by line.
    with open_file("ratings.dat") as file:
        interactions = _finish_interactions(
            pd.read_csv(file, sep=":", header=None, usecols=[0, 2, 4, 6])
        )
    with open_file("users.dat") as file:
        users = pd.read_csv(
            file, sep=":", header=None, usecols=[0, 2, 4, 6, 8], dtype={8: str}
        )
    users.columns = pd.Index(["user_id", "gender", "age", "occupation", "zip_code"])
    users["occupation"] = users["occupation"].map(dict(enumerate(_OCCUPATIONS_1M)))
    item_ids, titles, genres = [], [], []
    for line in _read_lines(open_file, "movies.dat"):
        item_id, rest = line.split("::", 1)
        title, genre = rest.rsplit("::", 1)  # titles may contain "::", genres do not
        item_ids.append(int(item_id))
        titles.append(title)
        genres.append(genre)
    return Tables(
        interactions,
        _make_items(pd.Series(item_ids), pd.Series(titles), pd.Series(genres)),
        users.reindex(columns=["user_id", "age", "gender", "occupation", "zip_code"]),
        None,
        _read_text(open_file, "README", "latin-1"),
    )


def _dates(seconds: pd.Series) -> pd.Series:
    """Unix seconds as datetime64[s]."""
    return seconds.astype("int64").astype("datetime64[s]")


def _finish_interactions(frame: pd.DataFrame) -> pd.DataFrame:
    """Set the names and types of the four columns."""
    frame.columns = pd.Index(["user_id", "item_id", "rating", "timestamp"])
    frame["rating"] = frame["rating"].astype("float64")
    frame["timestamp"] = _dates(frame["timestamp"])
    return frame


def _make_items(item_ids: pd.Series, titles: pd.Series, genres: pd.Series) -> pd.DataFrame:
    """Make the item table; the year is taken from the title."""
    year = titles.str.extract(_YEAR_PATTERN, expand=False)
    return pd.DataFrame(
        {
            "item_id": item_ids,
            "title": titles,
            "year": pd.to_numeric(year).astype("Int64"),
            "genres": genres.mask(genres.isin(_NO_GENRES), ""),
        }
    )


def _read_bars(file: IO[bytes], dtype: dict[int, type] | None = None) -> pd.DataFrame:
    return pd.read_csv(
        file,
        sep="|",
        header=None,
        encoding="latin-1",
        quoting=csv.QUOTE_NONE,  # titles may contain a single quotation mark
        keep_default_na=False,
        dtype=dtype,
    )


def _read_text(open_file: OpenFile, name: str, encoding: str) -> str:
    with open_file(name) as file:
        return file.read().decode(encoding)


def _read_lines(open_file: OpenFile, name: str) -> list[str]:
    """Read the lines of a Latin-1 file that are not blank."""
    # Not str.splitlines, which would also split at the control characters of Latin-1.
    lines = _read_text(open_file, name, "latin-1").replace("\r\n", "\n").split("\n")
    return [line for line in lines if line.strip()]
