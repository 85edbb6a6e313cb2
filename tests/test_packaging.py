"""What the package promises to pip: versions, licences, links, the files of an sdist."""

import os
import re
import subprocess
import sys
import tarfile
import tomllib

import pytest

from tests.helpers import ROOT

METADATA = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = METADATA["optional-dependencies"]


def requirements(lines):
    """Names and specifiers; extras of this package are followed."""
    found = {}
    for line in lines:
        name, extras, specifier = re.fullmatch(
            r"([\w.-]+)(?:\[([\w,]+)\])?(.*)", line
        ).groups()
        if name == METADATA["name"]:
            for extra in extras.split(","):
                found |= requirements(EXTRAS[extra])
        else:
            found[name] = specifier
    return found


def constraints(name):
    lines = (ROOT / name).read_text().splitlines()
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


def test_the_oldest_versions_that_are_tested_are_those_of_the_metadata():
    named = requirements(METADATA["dependencies"] + EXTRAS["test"])
    lowest = {name: text.split(",")[0].removeprefix(">=") for name, text in named.items()}
    tested = constraints("constraints-oldest.txt")
    assert tested.pop("torch") == constraints("constraints.txt")["torch"]
    del lowest["torch"]
    assert tested == lowest


def test_an_extra_asks_for_one_version_everywhere():
    lines = [
        *METADATA["dependencies"],
        *(line for lines in EXTRAS.values() for line in lines),
    ]
    versions = {}
    for line in lines:
        for name, specifier in requirements([line]).items():
            assert versions.setdefault(name, specifier) == specifier


def test_private_names_of_scikit_learn_have_an_upper_bound():
    assert re.fullmatch(
        r">=[\d.]+,<1\.\d+", requirements(METADATA["dependencies"])["scikit-learn"]
    )
    folder = ROOT / METADATA["name"]
    private = re.compile(r"(from|import) sklearn[\w.]*(\._\w+| import _)")
    using = {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*.py")
        if private.search(path.read_text())
    }
    assert using == {"metrics/_single_scorer.py", "utils/_sklearn.py"}


def test_the_python_that_is_tested_is_claimed():
    classifiers = METADATA["classifiers"]
    claimed = [line for line in classifiers if re.search(r":: 3\.\d+$", line)]
    assert claimed == ["Programming Language :: Python :: 3.11"]
    assert METADATA["requires-python"] == ">=3.11"


def test_every_bundled_data_set_has_its_licence():
    assert METADATA["license"].split(" AND ")[1:] == ["CC-BY-4.0", "LicenseRef-MovieLens"]
    files = {path for glob in METADATA["license-files"] for path in ROOT.glob(glob)}
    data = ROOT / METADATA["name"] / "datasets" / "data"
    sets = [folder for folder in data.iterdir() if folder.is_dir()]
    assert files == {ROOT / "LICENSE", *(folder / "README.txt" for folder in sets)}


def test_the_readme_has_no_link_that_an_index_page_cannot_follow():
    links = re.findall(r"\]\(([^)]*)\)", (ROOT / METADATA["readme"]).read_text())
    assert [link for link in links if not link.startswith("https://")] == []


@pytest.mark.slow
def test_the_tests_run_from_an_sdist(tmp_path):
    """It is built by setuptools alone: an isolated build would download it."""
    program = (
        "import sys; from setuptools import build_meta; build_meta.build_sdist(sys.argv[1])"
    )
    subprocess.run([sys.executable, "-c", program, tmp_path], cwd=ROOT, check=True)
    (archive,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as file:
        file.extractall(tmp_path, filter="data")
    (folder,) = (path for path in tmp_path.iterdir() if path.is_dir())
    for name in (
        "CHANGELOG.md",
        "constraints-oldest.txt",
        "docs/index.rst",
        "benchmarks/README.md",
    ):
        assert (folder / name).is_file()
    assert not list(folder.rglob("*.pyc"))
    files = ["tests/test_helpers.py", "tests/test_examples.py", "sktwotower/datasets"]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *files]
    environment = {
        name: value for name, value in os.environ.items() if name != "PYTHONPATH"
    }
    result = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stdout
