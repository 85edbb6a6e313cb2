"""MovieLens ratings: a small set inside the package, larger sets by download."""

from __future__ import annotations

import difflib
import gzip
import io
import os
import zipfile
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import IO, NamedTuple

from sklearn.utils import Bunch

from sktwotower.datasets._arrays import interactions_to_array, table_to_array
from sktwotower.datasets._movielens_formats import (
    OpenFile,
    Tables,
    read_1m,
    read_100k,
    read_csv_set,
)

_BASE_URL = "https://files.grouplens.org/datasets/movielens/"

# Environment variable that replaces the user's cache folder.
_DATA_HOME_VARIABLE = "SKTWOTOWER_DATA"


class _Archive(NamedTuple):
    """An archive ``ml-<name>.zip``: its published MD5 checksum, and its reader."""

    md5: str
    read: Callable[[OpenFile], Tables]


_ARCHIVES = {
    "100k": _Archive("0e33842e24a9c977be4e0107933c0723", read_100k),
    "1m": _Archive("c4d9eecfca2ab87c1945afe126590906", read_1m),
    "20m": _Archive("cd245b17a1ae2cc31bb14903e1204af3", read_csv_set),
    "25m": _Archive("6b51fb2759a8657d3bfcbfc42b592ada", read_csv_set),
    "32m": _Archive("d472be332d4daa821edc399621853b57", read_csv_set),
}


def load_movielens_small(*, as_frame: bool = True) -> Bunch:
    """Load the MovieLens *latest-small* ratings that come with the package.

    The set has 100,836 ratings (half a star to five stars) of 9,742 films by 610 users,
    from March 1996 to September 2018, with titles, genres and 3,683 free-text tags. It
    has no user table. Nothing is downloaded. Use it to try things out; GroupLens asks
    that published results use one of its fixed benchmark sets
    (:func:`fetch_movielens`).

    **Licence**: the data may be used for research and be redistributed under the same
    conditions. Commercial or revenue-bearing use requires permission of GroupLens, and
    publications must cite [1]_. The conditions are in the ``README.txt`` beside the
    data, whose text is also in ``DESCR``.

    Parameters
    ----------
    as_frame : bool, default=True
        Whether the tables are data frames, or arrays as described below.

    Returns
    -------
    data : :class:`~sklearn.utils.Bunch`
        Dictionary-like object, with the following attributes.

        interactions : DataFrame of shape (100836, 4)
            ``user_id`` (int64), ``item_id`` (int64), ``rating`` (float64) and
            ``timestamp`` (datetime64[s], UTC), in the order of the file: by user, then
            by item. With ``as_frame=False`` a float64 array; the timestamp is in unix
            seconds.
        item_table : DataFrame of shape (9742, 4)
            ``item_id`` (int64); ``title``, as published; ``year`` (Int64), the year at
            the end of the title, missing if there is none; ``genres``, names joined
            by ``|``, empty if there are none. 18 films have no interaction. With
            ``as_frame=False`` an object array; a missing year is None.
        user_table : None
            This set has no user table.
        tags : DataFrame of shape (3683, 4)
            ``user_id``, ``item_id``, ``tag``, ``timestamp``.
            With ``as_frame=False`` an object array; the timestamp is in unix seconds.
        interaction_columns, item_columns, tag_columns : list of str
            The column names of the tables.
        user_columns : None
            There is no user table.
        DESCR : str
            A short description and the text of the README.

    See Also
    --------
    fetch_movielens : Larger MovieLens sets, downloaded once.
    make_interactions : Synthetic interactions with a known ground truth.

    References
    ----------
    .. [1] Harper & Konstan, "The MovieLens Datasets: History and Context", ACM
       Transactions on Interactive Intelligent Systems 5(4), 2015, 19:1-19:19. https://doi.org/10.1145/2827872

    Examples
    --------
    >>> from sktwotower.datasets import load_movielens_small
    >>> data = load_movielens_small()
    >>> data.interactions.shape
    (100836, 4)
    >>> data.item_table.loc[0, "title"]
    'Toy Story (1995)'
    >>> data.item_table.loc[0, "genres"]
    'Adventure|Animation|Children|Comedy|Fantasy'
    """
    folder = resources.files("sktwotower.datasets") / "data" / "ml-latest-small"

    def open_file(name: str) -> IO[bytes]:
        if name == "README.txt":  # the licence, which is not compressed
            return (folder / name).open("rb")
        return io.BytesIO(gzip.decompress((folder / f"{name}.gz").read_bytes()))

    return _make_bunch(
        read_csv_set(open_file),
        "MovieLens latest-small: 100,836 ratings of 9,742 films by 610 users.\n"
        "For non-commercial use, under the conditions of GroupLens' README below.",
        as_frame=as_frame,
    )


def fetch_movielens(
    name: str,
    *,
    data_home: str | os.PathLike[str] | None = None,
    download_if_missing: bool = True,
    as_frame: bool = True,
    progress: bool = False,
) -> Bunch:
    """Load a MovieLens benchmark set, downloading it on first use.

    The archive is downloaded from GroupLens, checked against its published MD5 checksum,
    cached, and read without unpacking. This needs the optional dependency ``pooch``:
    ``pip install "sktwotower[data]"``.

    ======  ==========  =======  ======  ==============  ======
    name    ratings     users    films   further tables  zip
    ======  ==========  =======  ======  ==============  ======
    "100k"  100,000     943      1,682   users           5 MB
    "1m"    1,000,209   6,040    3,883   users           6 MB
    "20m"   20,000,263  138,493  27,278  tags            199 MB
    "25m"   25,000,095  162,541  62,423  tags            262 MB
    "32m"   32,000,204  200,948  87,585  tags            239 MB
    ======  ==========  =======  ======  ==============  ======

    **Licence**: each set has its own conditions, which are in ``DESCR``: they allow
    research, and commercial use only with permission; "100k" and "1m" may not be
    redistributed. Publications must cite [1]_.

    Parameters
    ----------
    name : {"100k", "1m", "20m", "25m", "32m"}
        The set. Start with "100k"; "20m", "25m" and "32m" take a few gigabytes of
        memory.
    data_home : str or path-like, default=None
        Folder of the archives. None: the environment variable ``SKTWOTOWER_DATA`` if it
        is set, else the user's cache folder (``pooch.os_cache("sktwotower")``).
    download_if_missing : bool, default=True
        If False, raise an OSError instead of downloading.
    as_frame : bool, default=True
        Whether the tables are data frames, or arrays as described below.
    progress : bool, default=False
        Show a progress bar (tqdm) while downloading.

    Returns
    -------
    data : :class:`~sklearn.utils.Bunch`
        Dictionary-like object, with the following attributes.

        interactions : DataFrame of shape (n_ratings, 4)
            ``user_id`` (int64), ``item_id`` (int64), ``rating`` (float64) and
            ``timestamp`` (datetime64[s], UTC), in the order of the file. With
            ``as_frame=False`` a float64 array; the timestamp is in unix seconds.
        item_table : DataFrame of shape (n_items, 4)
            ``item_id`` (int64); ``title``, as published; ``year`` (Int64), the year at
            the end of the title, missing if there is none; ``genres``, names joined
            by ``|``, empty if there are none ("unknown" in "100k"). With
            ``as_frame=False`` an object array; a missing year is None.
        user_table : DataFrame of shape (n_users, 5) or None
            ``user_id`` (int64), ``age`` (int64), ``gender``, ``occupation``,
            ``zip_code`` (strings). In "1m" the age is the lower end of a bracket: 1
            (under 18), 18, 25, 35, 45, 50 or 56, and occupations are named as in the
            README. With ``as_frame=False`` an object array.
        tags : DataFrame of shape (n_tags, 4) or None
            ``user_id``, ``item_id``, ``tag``, ``timestamp``.
            With ``as_frame=False`` an object array; the timestamp is in unix seconds.
        interaction_columns, item_columns : list of str
            The column names of the tables.
        user_columns, tag_columns : list of str or None
            The column names of the tables; None if there is no such table.
        DESCR : str
            A short description and the text of the README.

    Raises
    ------
    ValueError
        If ``name`` is unknown, or if the download does not have the published checksum.
    OSError
        If the archive is not in the cache and ``download_if_missing=False``, or if the
        download fails.
    ImportError
        If pooch is not installed.

    See Also
    --------
    load_movielens_small : A smaller set that comes with the package.
    make_interactions : Synthetic interactions with a known ground truth.

    References
    ----------
    .. [1] Harper & Konstan, "The MovieLens Datasets: History and Context", ACM
       Transactions on Interactive Intelligent Systems 5(4), 2015, 19:1-19:19. https://doi.org/10.1145/2827872

    Examples
    --------
    >>> from sktwotower.datasets import fetch_movielens
    >>> data = fetch_movielens("100k", progress=True)  # doctest: +SKIP
    >>> data.interactions.shape  # doctest: +SKIP
    (100000, 4)
    """
    if name not in _ARCHIVES:
        guess = str(name).lower().removeprefix("ml-")
        close = difflib.get_close_matches(guess, _ARCHIVES, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise ValueError(
            f"name={name!r} is not a MovieLens set; the sets are {list(_ARCHIVES)}.{hint}"
        )
    archive = _ARCHIVES[name]
    path = _fetch_archive(
        f"ml-{name}.zip",
        archive.md5,
        data_home=data_home,
        download_if_missing=download_if_missing,
        progress=progress,
    )
    with zipfile.ZipFile(path) as zip_file:
        tables = archive.read(lambda member: zip_file.open(f"ml-{name}/{member}"))
    description = f"MovieLens {name}. Use it under the conditions of the README below."
    return _make_bunch(tables, description, as_frame=as_frame)


def _fetch_archive(
    file_name: str,
    md5: str,
    *,
    data_home: str | os.PathLike[str] | None,
    download_if_missing: bool,
    progress: bool,
) -> Path:
    """Return the path of a checked archive; download it if it is not in the cache."""
    try:
        import pooch
    except ImportError as error:
        raise ImportError(
            "fetch_movielens needs pooch, which is not installed: "
            'pip install "sktwotower[data]".'
        ) from error

    folder = Path(
        data_home or os.environ.get(_DATA_HOME_VARIABLE) or pooch.os_cache("sktwotower")
    )
    folder = folder.expanduser()
    path = folder / file_name
    url = _BASE_URL + file_name
    if not download_if_missing:
        if path.is_file() and pooch.file_hash(str(path), alg="md5") == md5:
            return path
        state = "has a wrong checksum" if path.is_file() else "does not exist"
        raise OSError(
            f"{path} {state} and download_if_missing=False. Call fetch_movielens with "
            f"download_if_missing=True, or put {url} there, or name the folder that "
            f"has it with data_home or the environment variable {_DATA_HOME_VARIABLE}."
        )
    # retrieve() also checks a cached file, and downloads it again if it is damaged.
    return Path(
        pooch.retrieve(
            url, f"md5:{md5}", fname=file_name, path=folder, progressbar=progress
        )
    )


def _make_bunch(tables: Tables, description: str, *, as_frame: bool) -> Bunch:
    interactions, items, users, tags, readme = tables
    item_table = items if as_frame else table_to_array(items)
    user_table = users if as_frame else table_to_array(users)
    return Bunch(
        interactions=interactions if as_frame else interactions_to_array(interactions),
        user_table=user_table,
        item_table=item_table,
        tags=tags if as_frame else table_to_array(tags),
        interaction_columns=list(interactions.columns),
        user_columns=None if users is None else list(users.columns),
        item_columns=list(items.columns),
        tag_columns=None if tags is None else list(tags.columns),
        DESCR=f"{description}\n\n{readme}",
    )
