"""The fetcher, against a loopback server with tiny archives in the real formats."""

import hashlib
import io
import re
import sys
import threading
import zipfile
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pandas as pd
import pytest

from sktwotower.datasets import _movielens, fetch_movielens, load_movielens_small

GENRES_100K = (
    "unknown Action Adventure Animation Children's Comedy Crime Documentary Drama "
    "Fantasy Film-Noir Horror Musical Mystery Romance Sci-Fi Thriller War Western"
).split()


def item_100k(item_id, title, *genres):
    flags = "|".join(str(int(genre in genres)) for genre in GENRES_100K)
    return f"{item_id}|{title}|01-Jan-1995||http://us.imdb.com/M/title-exact|{flags}\n"


FILES_100K = {
    "README": "SUMMARY & USAGE LICENSE of 100k",
    "u.data": "196\t242\t3\t881250949\n186\t1\t5\t891717742\n",
    "u.genre": "".join(f"{name}|{code}\n" for code, name in enumerate(GENRES_100K)) + "\n",
    "u.item": item_100k(1, "Toy Story (1995)", "Animation", "Children's", "Comedy")
    + item_100k(242, 'Misérables: "Les (1995) (V)', "Drama")
    + item_100k(267, "unknown", "unknown"),
    "u.user": "186|39|F|executive|00000\n196|49|M|writer|T8H1N\n",
}
FILES_1M = {
    "README": "SUMMARY of 1m",
    "ratings.dat": "1::1193::5::978300760\n2::260::3::978302109\n1::7::1::978301968\n",
    "users.dat": "1::F::1::10::02139\n2::M::56::16::98107-2117\n",
    "movies.dat": "260::Star Wars: Episode IV - A New Hope (1977)::Action|Sci-Fi\n"
    "1193::Café:: au lait (1993)::Comedy\n"
    "7::Sabrina\x85 (1995)::Comedy|Romance\n",
}
FILES_CSV = {
    "README.txt": "Summary of 20m – in UTF-8",
    "ratings.csv": "userId,movieId,rating,timestamp\n"
    "1,2,3.5,1112486027\n1,29,4,1112484676\n",
    "movies.csv": "movieId,title,genres\n"
    '2,"American President, The (1995)",Comedy|Drama\n'
    "29,Cité des enfants perdus: (1995),(no genres listed)\n"
    "30,NA,Drama\n",
    "tags.csv": "userId,movieId,tag,timestamp\n1,2,null,1112486028\n",
    "links.csv": "movieId,imdbId,tmdbId\n2,0113497,8844\n",
}
ARCHIVES = {
    "100k": (FILES_100K, "latin-1"),
    "1m": (FILES_1M, "latin-1"),
    "20m": (FILES_CSV, "utf-8"),
}


def make_zip(name):
    files, encoding = ARCHIVES[name]
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, text in files.items():
            archive.writestr(f"ml-{name}/{member}", text.encode(encoding))
    return buffer.getvalue()


class Server:
    """A folder served over HTTP, and a list of the requested paths."""

    def __init__(self, folder):
        self.folder = folder
        self.requests = requests = []

        class Handler(SimpleHTTPRequestHandler):
            def do_GET(self):
                requests.append(self.path)
                super().do_GET()

            def log_message(self, *args):
                pass

        self.http = ThreadingHTTPServer(
            ("127.0.0.1", 0), partial(Handler, directory=str(folder))
        )
        self.url = f"http://127.0.0.1:{self.http.server_port}/"


@pytest.fixture
def server(tmp_path, monkeypatch):
    pytest.importorskip("pooch")
    folder = tmp_path / "served"
    folder.mkdir()
    for name in ARCHIVES:
        content = make_zip(name)
        (folder / f"ml-{name}.zip").write_bytes(content)
        md5 = hashlib.md5(content).hexdigest()
        archive = _movielens._ARCHIVES[name]._replace(md5=md5)
        monkeypatch.setitem(_movielens._ARCHIVES, name, archive)
    server = Server(folder)
    monkeypatch.setattr(_movielens, "_BASE_URL", server.url)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("SKTWOTOWER_DATA", raising=False)
    thread = threading.Thread(
        target=server.http.serve_forever, kwargs={"poll_interval": 0.01}
    )
    thread.start()
    yield server
    server.http.shutdown()
    server.http.server_close()
    thread.join()


@pytest.fixture
def home(tmp_path):
    return tmp_path / "home"


def test_100k(server, home):
    data = fetch_movielens("100k", data_home=home)
    rows = data.interactions.to_numpy(dtype=object)
    assert rows[:, :3].tolist() == [[196, 242, 3.0], [186, 1, 5.0]]
    dates = pd.to_datetime([881250949, 891717742], unit="s")
    assert data.interactions["timestamp"].tolist() == dates.tolist()
    assert data.item_table["item_id"].tolist() == [1, 242, 267]
    assert data.item_table["title"].tolist() == [
        "Toy Story (1995)",
        'Misérables: "Les (1995) (V)',
        "unknown",
    ]
    assert data.item_table["year"].tolist() == [1995, 1995, pd.NA]
    assert data.item_table["genres"].tolist() == [
        "Animation|Children's|Comedy",
        "Drama",
        "",
    ]
    assert data.user_table.to_numpy(dtype=object).tolist() == [
        [186, 39, "F", "executive", "00000"],
        [196, 49, "M", "writer", "T8H1N"],
    ]
    assert data.tags is None
    assert data.DESCR.endswith(FILES_100K["README"])


def test_1m(server, home):
    data = fetch_movielens("1m", data_home=home)
    assert data.interactions["user_id"].tolist() == [1, 2, 1]
    assert data.interactions["item_id"].tolist() == [1193, 260, 7]
    assert data.interactions["rating"].tolist() == [5.0, 3.0, 1.0]
    assert data.interactions["timestamp"].astype("int64").tolist() == [
        978300760,
        978302109,
        978301968,
    ]
    assert data.item_table["title"].tolist() == [
        "Star Wars: Episode IV - A New Hope (1977)",
        "Café:: au lait (1993)",
        "Sabrina\x85 (1995)",
    ]
    assert data.item_table["year"].tolist() == [1977, 1993, 1995]
    assert data.item_table["genres"].tolist() == [
        "Action|Sci-Fi",
        "Comedy",
        "Comedy|Romance",
    ]
    assert data.user_table.to_numpy(dtype=object).tolist() == [
        [1, 1, "F", "K-12 student", "02139"],
        [2, 56, "M", "self-employed", "98107-2117"],
    ]
    assert data.tags is None


def test_csv(server, home):
    data = fetch_movielens("20m", data_home=home)
    assert data.interactions["rating"].tolist() == [3.5, 4.0]
    assert data.item_table["title"].tolist() == [
        "American President, The (1995)",
        "Cité des enfants perdus: (1995)",
        "NA",
    ]
    assert data.item_table["genres"].tolist() == ["Comedy|Drama", "", "Drama"]
    assert data.tags["tag"].tolist() == ["null"]
    assert data.user_table is None
    assert data.DESCR.endswith("Summary of 20m – in UTF-8")


@pytest.mark.parametrize("name", ARCHIVES)
def test_same_layout_as_the_bundled_set(server, home, name):
    bundled = load_movielens_small()
    data = fetch_movielens(name, data_home=home)
    assert data.keys() == bundled.keys()
    pd.testing.assert_series_equal(data.interactions.dtypes, bundled.interactions.dtypes)
    pd.testing.assert_series_equal(data.item_table.dtypes, bundled.item_table.dtypes)
    assert data.interaction_columns == bundled.interaction_columns
    assert data.item_columns == bundled.item_columns
    if data.user_table is not None:
        expected = ["user_id", "age", "gender", "occupation", "zip_code"]
        assert data.user_columns == list(data.user_table) == expected
        assert (data.user_table.dtypes.iloc[:2] == np.int64).all()


def test_arrays(server, home):
    data = fetch_movielens("100k", data_home=home, as_frame=False)
    np.testing.assert_array_equal(
        data.interactions, [[196, 242, 3, 881250949], [186, 1, 5, 891717742]]
    )
    assert data.item_table[2].tolist() == [267, "unknown", None, ""]
    assert data.user_table[0].tolist() == [186, 39, "F", "executive", "00000"]
    assert data.tags is None


def test_second_call_is_answered_from_the_cache(server, home):
    first = fetch_movielens("1m", data_home=home)
    second = fetch_movielens("1m", data_home=home, download_if_missing=False)
    assert server.requests == ["/ml-1m.zip"]
    pd.testing.assert_frame_equal(first.interactions, second.interactions)
    assert [path.name for path in home.iterdir()] == ["ml-1m.zip"]


def test_environment_variable_names_the_cache(server, home, monkeypatch, tmp_path):
    monkeypatch.setenv("SKTWOTOWER_DATA", str(home))
    fetch_movielens("1m")
    assert (home / "ml-1m.zip").is_file()
    # data_home takes precedence
    fetch_movielens("1m", data_home=tmp_path / "other")
    assert (tmp_path / "other" / "ml-1m.zip").is_file()


def test_default_cache_is_the_users_cache_folder(server, home, monkeypatch):
    import pooch

    monkeypatch.setattr(pooch, "os_cache", lambda project: home / project)
    fetch_movielens("1m")
    assert (home / "sktwotower" / "ml-1m.zip").is_file()


def test_progress_bar(server, home, capsys):
    pytest.importorskip("tqdm")
    fetch_movielens("1m", data_home=home)
    assert "100%" not in capsys.readouterr().err
    (home / "ml-1m.zip").unlink()
    fetch_movielens("1m", data_home=home, progress=True)
    assert "100%" in capsys.readouterr().err


def test_wrong_checksum_is_refused(server, home):
    (server.folder / "ml-1m.zip").write_bytes(make_zip("1m") + b"tampered")
    with pytest.raises(ValueError, match="MD5|hash"):
        fetch_movielens("1m", data_home=home)
    assert list(home.iterdir()) == []  # no partial download is left


def test_damaged_cache_is_downloaded_again(server, home):
    home.mkdir()
    (home / "ml-1m.zip").write_bytes(b"half a file")
    with pytest.raises(OSError, match="has a wrong checksum"):
        fetch_movielens("1m", data_home=home, download_if_missing=False)
    assert server.requests == []
    assert len(fetch_movielens("1m", data_home=home).interactions) == 3
    assert server.requests == ["/ml-1m.zip"]


def test_missing_and_not_to_be_downloaded(server, home):
    with pytest.raises(OSError, match="download_if_missing=True") as info:
        fetch_movielens("25m", data_home=home, download_if_missing=False)
    assert str(home / "ml-25m.zip") in str(info.value)
    assert "SKTWOTOWER_DATA" in str(info.value)
    assert server.requests == []
    assert not home.exists()


@pytest.mark.parametrize("name, guess", [("ml-1m", "1m"), ("100K", "100k"), ("20", "20m")])
def test_unknown_name_with_a_guess(name, guess):
    message = (
        f"name={name!r} is not a MovieLens set; the sets are "
        f"['100k', '1m', '20m', '25m', '32m']. Did you mean {guess!r}?"
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        fetch_movielens(name)


def test_unknown_name_without_a_guess():
    with pytest.raises(ValueError, match=r"'32m'\]\.$"):
        fetch_movielens("netflix")


def test_without_pooch_the_error_names_the_extra(home, monkeypatch):
    monkeypatch.setitem(sys.modules, "pooch", None)  # makes `import pooch` fail
    with pytest.raises(ImportError, match=re.escape("sktwotower[data]")):
        fetch_movielens("100k", data_home=home)


def test_registry_is_the_published_one():
    assert _movielens._BASE_URL == "https://files.grouplens.org/datasets/movielens/"
    assert all(
        re.fullmatch("[0-9a-f]{32}", archive.md5)
        for archive in _movielens._ARCHIVES.values()
    )
