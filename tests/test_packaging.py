"""What the package promises to pip: versions, licences, links, the files of an sdist."""

import os
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile

import pytest

from sktwotower import __version__
from tests.helpers import ROOT

WORKFLOW = ROOT / ".github" / "workflows" / "ci.yml"
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


def test_the_versions_of_python_that_are_tested_are_claimed():
    tested = re.search(r"python: \[(.*)\]", WORKFLOW.read_text())[1]
    versions = [version.strip('"') for version in tested.split(", ")]
    prefix = "Programming Language :: Python :: 3."
    claimed = [line for line in METADATA["classifiers"] if line.startswith(prefix)]
    assert claimed == [f"Programming Language :: Python :: {v}" for v in versions]
    assert METADATA["requires-python"] == f">={versions[0]}"


def test_a_version_is_the_same_everywhere():
    citation = (ROOT / "CITATION.cff").read_text()
    version = re.search(r"^version: (.+)$", citation, re.MULTILINE)[1]
    date = re.search(r"^date-released: (.+)$", citation, re.MULTILINE)[1]
    assert version == __version__
    sections = re.findall(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert sections[:2] == ["Unreleased", f"{version} - {date}"]


def test_jobs_of_the_workflow_are_make_targets():
    """Whatever fails there can be run here."""
    phony = re.search(r"^\.PHONY: (.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)[1]
    text = WORKFLOW.read_text().partition("\njobs:\n")[2]
    _, *jobs = re.split(r"^  ([\w-]+):$", text, flags=re.MULTILINE)
    commands = {
        name: re.findall(r"run: (.+)", job)
        for name, job in zip(jobs[::2], jobs[1::2], strict=True)
    }
    assert commands.pop("publish") == []
    assert list(commands) == ["lint", "test", "test-oldest", "docs", "build"]
    for name, (command,) in commands.items():
        assert command.split(" VERSION=")[0] == f"make {name}"
    assert set(commands) <= set(phony.split())


def test_a_release_waits_for_all_jobs():
    publish = WORKFLOW.read_text().partition("\n  publish:\n")[2]
    assert "if: github.ref_type == 'tag'" in publish
    assert "needs: [lint, test, test-oldest, docs, build]" in publish


def test_every_bundled_data_set_has_its_licence():
    assert METADATA["license"].split(" AND ")[1:] == ["CC-BY-4.0", "LicenseRef-MovieLens"]
    files = {path for glob in METADATA["license-files"] for path in ROOT.glob(glob)}
    data = ROOT / METADATA["name"] / "datasets" / "data"
    sets = [folder for folder in data.iterdir() if folder.is_dir()]
    assert files == {ROOT / "LICENSE", *(folder / "README.txt" for folder in sets)}


def test_the_readme_has_no_link_that_an_index_page_cannot_follow():
    links = re.findall(r"\]\(([^)]*)\)", (ROOT / METADATA["readme"]).read_text())
    assert [link for link in links if not link.startswith("https://")] == []


def build(kind, folder, target):
    """Call setuptools itself: an isolated build would download it."""
    program = f"import sys, setuptools.build_meta as b; b.build_{kind}(sys.argv[1])"
    subprocess.run([sys.executable, "-c", program, target], cwd=folder, check=True)


@pytest.mark.slow
def test_an_sdist_has_tests_that_run_and_makes_a_complete_wheel(tmp_path):
    build("sdist", ROOT, tmp_path)
    (archive,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as file:
        file.extractall(tmp_path, filter="data")
    (folder,) = (path for path in tmp_path.iterdir() if path.is_dir())
    for name in ("CHANGELOG.md", "docs/index.rst", "benchmarks/README.md", "tests/_nn"):
        assert (folder / name).exists()
    assert (folder / WORKFLOW.relative_to(ROOT)).exists()
    assert not list(folder.rglob("*.pyc"))

    build("wheel", folder, tmp_path)
    (archive,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(archive).namelist()
    package = ROOT / METADATA["name"]
    files = {path for path in package.rglob("*") if path.is_file()}
    files = {path for path in files if path.suffix != ".pyc"}
    assert {path.relative_to(ROOT).as_posix() for path in files} <= set(names)
    licences = [name for name in names if "/licenses/" in name]
    assert len(licences) == 3
    assert {name.split("/")[0].split("-")[0] for name in names} == {METADATA["name"]}

    tests = ["tests/test_helpers.py", "tests/test_examples.py", "sktwotower/datasets"]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests]
    environment = {name: os.environ[name] for name in os.environ if name != "PYTHONPATH"}
    result = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stdout
