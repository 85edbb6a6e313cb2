"""A training as a file of YAML or JSON: the estimator's parameters and where things are."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pandas as pd

from sktwotower._data.arrow_files import is_parquet
from sktwotower._data.entity_table import EntityTable
from sktwotower._two_tower import TwoTowerRecommender
from sktwotower.history import PooledHistory, TransformerHistory
from sktwotower.preprocessing import FeatureEncoder, MultiHotEncoder
from sktwotower.utils._extra import extra
from sktwotower.utils._paths import path_of
from sktwotower.utils._spelling import did_you_mean

# What a parameter may be beside numbers, texts and lists of them.
_CLASSES: dict[str, Callable[..., Any]] = {
    cls.__name__: cls
    for cls in (
        PooledHistory,
        TransformerHistory,
        FeatureEncoder,
        MultiHotEncoder,
        EntityTable,
    )
}
_CONVERT = (
    "convert another format first, for example with pandas.read_csv(...).to_parquet(...)."
)
_FRAMES = ("user_table", "item_table", "frame")  # parameters that a file is read for


@dataclass(frozen=True)
class TrainingOrder:
    """What a configuration asks for.

    Attributes
    ----------
    data : str
        A Parquet file with the interactions, or a directory of Parquet files.
    model : str
        The directory to save to.
    parameters : dict
        Parameters of the estimator; files of tables are read.
    y, sample_weight : str or None
        Columns of the data, as in ``fit``.
    """

    data: str
    model: str
    parameters: dict[str, Any]
    y: str | None = None
    sample_weight: str | None = None

    @classmethod
    def read(cls, path: str) -> TrainingOrder:
        """The order that a file has.

        Raises
        ------
        FileNotFoundError
            If the file, or a file that it names, does not exist.
        ImportError
            If it is YAML, and PyYAML is not installed.
        ValueError
            If it is neither YAML nor JSON, or says something that is not known.
        """
        content = _content(path)
        if not isinstance(content, dict):
            raise ValueError(
                f"{path} has no settings; write 'data', 'model' and 'parameters'."
            )
        known = [field.name for field in fields(cls)]
        for name in content:
            if name not in known:
                raise ValueError(f"{path} has {name!r}, {_not_a_key(name, known)}")
        for name in ("data", "model"):
            if content.get(name) is None:
                raise ValueError(f"{path} lacks {name!r}, the path of the {name}.")
        for name in ("data", "model", "y", "sample_weight"):
            value = content.get(name)
            if value is not None and not isinstance(value, str):
                raise ValueError(f"{name} of {path} must be a text; got {value!r}.")
        parameters = content.get("parameters")
        if parameters is None:
            parameters = {}
        values = _values(parameters, TwoTowerRecommender, where=f"parameters of {path}")
        return cls(**content | {"parameters": values})


def existing(path: str, what: str) -> Path:
    """A path with something at it.

    Raises
    ------
    FileNotFoundError
        If there is nothing.
    """
    found = path_of(path)
    if not found.exists():
        raise FileNotFoundError(f"{what} {path} does not exist.")
    return found


def existing_parquet(path: str, what: str) -> Path:
    """A path with a Parquet file, or a directory, at it.

    Raises
    ------
    FileNotFoundError
        If there is nothing.
    ValueError
        If there is a file of another format.
    """
    found = existing(path, what)
    if found.is_file() and not is_parquet(found):
        raise ValueError(f"{what} {path} cannot be read as Parquet; {_CONVERT}")
    return found


def read_frame(path: str, what: str) -> pd.DataFrame:
    """The frame in a Parquet file, or in a directory of Parquet files.

    Raises
    ------
    FileNotFoundError
        If there is nothing at the path.
    ImportError
        If pyarrow is not installed.
    ValueError
        If it is not Parquet.
    """
    found = existing_parquet(path, what)
    arrow = extra("pyarrow", name="cli", caller="the command line needs")
    try:
        return pd.read_parquet(found)
    except arrow.ArrowException as error:
        raise ValueError(
            f"{what} {path} cannot be read as Parquet ({error}); {_CONVERT}"
        ) from error


def _content(path: str) -> Any:
    """What is in a file of YAML or JSON."""
    file = existing(path, "The configuration")
    if file.suffix not in (".json", ".yaml", ".yml"):
        raise ValueError(f"{path} must be called .yaml, .yml or .json.")
    text = file.read_text(encoding="utf-8")
    if file.suffix == ".json":
        try:
            return json.loads(text, object_pairs_hook=_without_repetition)
        except ValueError as error:
            raise ValueError(f"{path} is no JSON: {error}") from error
    yaml = extra("yaml", name="cli", caller="a configuration in YAML needs")
    try:
        return yaml.load(text, _loader(yaml))
    except (yaml.YAMLError, ValueError) as error:
        raise ValueError(f"{path} is no YAML: {error}") from error


def _loader(yaml: Any) -> Any:
    """YAML without objects, in which 1e-3 is a number and no key is given twice."""

    class Loader(yaml.SafeLoader):
        """PyYAML's, with both."""

        def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
            _without_repetition(self.construct_pairs(node, deep))
            return super().construct_mapping(node, deep)

    # YAML 1.1, which PyYAML reads, wants 1.0e-3.
    number = re.compile(r"[-+]?[0-9]+(?:\.[0-9]*)?[eE][-+]?[0-9]+$")
    Loader.add_implicit_resolver("tag:yaml.org,2002:float", number, list("-+0123456789"))
    return Loader


def _without_repetition(pairs: Iterable[tuple[Any, Any]]) -> dict[Any, Any]:
    """The dict of these pairs; raise ValueError for a key that is there twice."""
    content: dict[Any, Any] = {}
    for key, value in pairs:
        if key in content:
            raise ValueError(f"{key!r} is there twice")
        content[key] = value
    return content


def _not_a_key(name: Any, known: list[str]) -> str:
    if name in inspect.signature(TwoTowerRecommender).parameters:
        return "which is a parameter of the estimator; put it under 'parameters'."
    return f"which is not known.{did_you_mean(name, known)} The settings are {known}."


def _values(given: Any, cls: Callable[..., Any], *, where: str) -> dict[str, Any]:
    """The parameters of a class, with objects and frames where the file describes them."""
    names = list(inspect.signature(cls).parameters)
    if not isinstance(given, dict):
        raise ValueError(f"{where} must be names and values; got {given!r}.")
    for name in given:
        if name not in names:
            hint = did_you_mean(name, names) or f" The parameters are {', '.join(names)}."
            raise ValueError(
                f"{where} has {name!r}, which is not a parameter of {cls.__name__}.{hint}"
            )
    return {name: _value(name, value, where) for name, value in given.items()}


def _value(name: str, value: Any, where: str) -> Any:
    if isinstance(value, str) and value in _CLASSES:
        value = {value: {}}
    if isinstance(value, Mapping):
        return _object(name, value, where)
    if name in _FRAMES and isinstance(value, str):
        return read_frame(value, f"{name} of {where}:")
    return value


def _object(name: str, described: Mapping[Any, Any], where: str) -> Any:
    """The object that ``{Class: {parameter: value}}`` describes."""
    cls_name = next(iter(described), None)
    if len(described) != 1 or cls_name not in _CLASSES:
        raise ValueError(
            f"{name} of {where} is {dict(described)!r}. Write an object as its class with "
            f"its parameters, such as {name}: {{TransformerHistory: {{size: 50}}}}; the "
            f"classes are {', '.join(_CLASSES)}.{did_you_mean(cls_name, _CLASSES)}"
        )
    cls = _CLASSES[cls_name]
    values = _values(described[cls_name] or {}, cls, where=f"{cls_name} in {where}")
    try:
        return cls(**values)
    except TypeError as error:  # one that has no default is missing
        raise ValueError(f"{name} of {where}: {error}") from error
