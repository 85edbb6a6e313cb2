"""Arrow datasets: opened, checked across files, and errors that name file and column."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sktwotower._data.roles import describe
from sktwotower.utils._arrow_types import plain_column, plain_type
from sktwotower.utils._extra import extra
from sktwotower.utils._warnings import warn

# A full disk or too many open files: not a fault of what is read.
_OF_THIS_MACHINE = (errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOMEM)


def arrow(module: str = "pyarrow") -> Any:
    """A module of pyarrow.

    Raises
    ------
    ImportError
        If pyarrow is not installed.
    """
    return extra(module, name="parquet", caller="fit from files needs")


def open_dataset(X: Any) -> Any:
    """The dataset of a path; a dataset as it is.

    A column has the type that holds those of all files, as far as one does.

    Raises
    ------
    FileNotFoundError
        If the path, or the target of a link in it, does not exist.
    ValueError
        If the files are not Parquet.
    """
    if not isinstance(X, str | os.PathLike):
        return X
    path = os.path.expanduser(os.fspath(X))
    _refuse_no_parquet(X, path)
    dataset = arrow("pyarrow.dataset")
    # The buffer would hold a whole file.
    options = dataset.ParquetFragmentScanOptions(pre_buffer=False)
    parquet = dataset.ParquetFileFormat(default_fragment_scan_options=options)
    partitioning = None
    if not os.path.isfile(path):  # directories such as year=2024 are a column
        partitioning = dataset.HivePartitioning.discover(infer_dictionary=True)
        _refuse_dangling_links(X, path)
    try:
        opened = dataset.dataset(path, format=parquet, partitioning=partitioning)
        if not opened.files:
            raise ValueError(f"X is {describe(X)}, a directory without a Parquet file.")
        schema = _common_schema(opened)
        if schema != opened.schema:
            files = list(opened.get_fragments())
            opened = dataset.FileSystemDataset(
                files, schema, opened.format, opened.filesystem
            )
        return opened
    except FileNotFoundError as error:
        raise _not_there(X) from error
    except (arrow().ArrowException, OSError) as error:
        raise ValueError(
            f"X is {describe(X)}, which cannot be read as Parquet ({error}); give a "
            "pyarrow.dataset.Dataset of files of another format, or a frame, such as "
            "pandas.read_csv returns."
        ) from error


def _refuse_no_parquet(X: Any, path: str) -> None:
    """Raise an error for a path without a file of Parquet's, before pyarrow is needed."""
    if "://" in path:  # a URI, which Arrow opens
        return
    if not os.path.exists(path):
        raise _not_there(X)
    walked = os.walk(path) if os.path.isdir(path) else [("", [], [path])]
    files = [os.path.join(folder, name) for folder, _, names in walked for name in names]
    if files and not any(map(is_parquet, files)):
        raise ValueError(
            f"X is {describe(X)}, which cannot be read as Parquet (its files begin "
            "otherwise). Read another format first, for example with pandas.read_csv, and "
            "give the frame; or give a pyarrow.dataset.Dataset."
        )


def _not_there(X: Any) -> FileNotFoundError:
    return FileNotFoundError(
        f"X is {describe(X)}, which does not exist; give a Parquet file or a directory of "
        "them."
    )


def is_parquet(path: str | os.PathLike[str]) -> bool:
    """Whether a file begins as files of Parquet do, or cannot be opened."""
    try:
        with open(path, "rb") as file:
            return file.read(3) == b"PAR"  # PAR1, or PARE if it is encrypted
    except OSError:
        return True


def _refuse_dangling_links(X: Any, path: str) -> None:
    """Raise FileNotFoundError for a link to nothing, which Arrow would leave out."""
    for folder, _, names in os.walk(path):
        for name in names:
            file = os.path.join(folder, name)
            if not os.path.exists(file):
                raise FileNotFoundError(
                    f"X is {describe(X)}, and {file!r} in it is a link to a file that does "
                    "not exist."
                )


def _common_schema(dataset: Any) -> Any:
    """The schema of a dataset with columns and types of all files."""
    pa = arrow()
    schemas = [fragment.physical_schema for fragment in dataset.get_fragments()]
    fields = {field.name: field for field in dataset.schema}
    for schema in schemas:
        for field in schema:
            known = fields.setdefault(field.name, field)
            if known.type == field.type or not _go_together(known.type, field.type):
                continue
            both = [pa.schema([one.remove_metadata()]) for one in (known, field)]
            try:
                joined = pa.unify_schemas(both, promote_options="permissive").field(0)
            except pa.ArrowException:
                continue  # a value that does not fit is an error when it is read
            fields[field.name] = known.with_type(joined.type)
    return pa.schema(list(fields.values()), metadata=dataset.schema.metadata)


def check_column(dataset: Any, X: Any, name: str, *, is_feature: bool, is_id: bool) -> None:
    """Compare a column of Parquet files that are read together.

    Parameters
    ----------
    dataset : Dataset
        The opened files.
    X : path or Dataset
        As the caller passed it. The types of a Dataset are those of its schema, whatever
        its files have.
    name : str
        Name of the column in the files.
    is_feature, is_id : bool
        What it is. Other columns than features have to be in all files; ids that are
        integers in one file are not floats in another.

    Raises
    ------
    ValueError
        If it is missing in a file, or holds values of another kind.

    Warns
    -----
    UserWarning
        If a feature is missing in a file.
    """
    known: Any = None
    lacking, first = [], ""
    fragments = fragments_of(dataset)
    for fragment in fragments:
        path = getattr(fragment, "path", None)
        if path is None:  # in memory
            return
        schema = fragment.physical_schema
        keys = arrow("pyarrow.dataset").get_partition_keys(fragment.partition_expression)
        if name in keys:
            continue
        if name not in schema.names:
            lacking.append(path)
            continue
        kind = schema.field(name).type
        if known is None or arrow().types.is_null(known):
            known, first = kind, path
        fit = _go_together(known, kind, exactly=is_id)
        if not fit and isinstance(X, str | os.PathLike):
            raise ValueError(
                f"Column {name!r} of X is {known} in {first!r} and {kind} in {path!r}; "
                "write one type, or give a pyarrow.dataset.Dataset with a schema."
            )
    if not lacking or len(lacking) == len(fragments):
        return
    where = f"{lacking[0]!r}" + (f" and {len(lacking) - 1} more" if lacking[1:] else "")
    said = (
        f"Column {name!r} of X is missing in {len(lacking)} of {len(fragments)} files: "
        f"{where}"
    )
    if not is_feature:
        raise ValueError(f"{said}; add it, or leave these files out.")
    warn(f"{said}. Their rows have a missing value.")


def plain_schema(schema: Any) -> Any:
    """The schema with types that Arrow can select and compare."""
    pa = arrow()
    for position, field in enumerate(schema):
        kind = plain_type(field.type)
        if kind != field.type:
            schema = schema.set(
                position, pa.field(field.name, kind, metadata=field.metadata)
            )
    return schema


def with_plain_columns(table: Any) -> Any:
    """The table with the types of :func:`plain_schema`."""
    for position, field in enumerate(table.schema):
        if plain_type(field.type) != field.type:
            column = plain_column(table.column(position))
            table = table.set_column(position, field.name, column)
    return table


@contextmanager
def naming_file_and_column(X: Any, dataset: Any, names: list[str]) -> Iterator[None]:
    """Turn an error of Arrow into one that says what cannot be read.

    Parameters
    ----------
    X : path or Dataset
        As the caller passed it.
    dataset : Dataset
        What is read within the context.
    names : list of str
        Names of the columns that are read.

    Raises
    ------
    FileNotFoundError
        If a file is not there any more.
    ValueError
        If a column, or a file, cannot be read.
    """
    try:
        yield
    except (arrow().ArrowException, OSError) as error:
        of_this_machine = isinstance(error, OSError) and error.errno in _OF_THIS_MACHINE
        if of_this_machine or isinstance(error, MemoryError):
            raise
        if isinstance(error, OSError) and error.errno is not None:
            gone = isinstance(error, FileNotFoundError)
            raise (FileNotFoundError if gone else ValueError)(
                f"X is {describe(X)}, of which a file cannot be read"
                f"{' any more' if gone else ''}: {error}"
            ) from error
        raise ValueError(
            f"X is {describe(X)}, of which {_unreadable(dataset, names)} cannot be read: "
            f"{error}"
        ) from error


def _unreadable(dataset: Any, names: list[str]) -> str:
    """The first file, and the column, whose values raise an error."""
    for fragment in fragments_of(dataset):
        failing = [name for name in names if not _is_readable(fragment, dataset, [name])]
        if not failing and _is_readable(fragment, dataset, names):
            continue
        path = getattr(fragment, "path", None)
        of_file = "" if path is None else f" of {path!r}"
        if len(failing) == 1 or (failing and len(failing) < len(names)):
            return f"column {failing[0]!r}{of_file}"
        return f"column {names[0]!r}" if path is None else repr(path)
    return f"a column among {names}"


def fragments_of(dataset: Any) -> list[Any]:
    """The files of a dataset; none of one that is filtered, which Arrow does not tell."""
    try:
        return list(dataset.get_fragments())
    except (AttributeError, ValueError):
        return []


def _is_readable(fragment: Any, dataset: Any, names: list[str]) -> bool:
    try:
        scanner = fragment.scanner(schema=dataset.schema, columns=names, use_threads=False)
        for _ in scanner.to_batches():
            pass
    except Exception:  # whatever it is, it is here
        return False
    return True


def refuse_other_rows(X: Any, dataset: Any, n_rows: int, n_read: int) -> None:
    """Raise ValueError if there are more or fewer rows than were announced."""
    if n_read == n_rows:
        return
    files = list(getattr(dataset, "files", []))
    where = f" ({files[0]!r})" if len(files) == 1 and X is dataset else ""
    raise ValueError(
        f"X is {describe(X)}{where}, which had {n_rows} rows when it was opened and "
        f"{n_read} when it was read: it has changed in between. Fit again, on a file that "
        "does not change."
    )


def _go_together(one: Any, other: Any, *, exactly: bool = False) -> bool:
    """Whether values of two types are of one kind; nulls are of every kind."""
    kinds = [_kind(kind) for kind in (one, other)]
    if "null" in kinds:
        return True
    if not exactly:
        kinds = [kind.replace("integer", "number") for kind in kinds]
    return kinds[0] == kinds[1]


def _kind(kind: Any) -> str:
    """What a type holds, in a word."""
    types = arrow().types
    kind = plain_type(kind)
    if types.is_dictionary(kind):
        return _kind(kind.value_type)
    if "list" in str(kind) and hasattr(kind, "value_field"):
        return f"list of {_kind(kind.value_type)}"
    if types.is_timestamp(kind):
        return "time" if kind.tz is None else "time in a zone"
    for test, word in (
        (types.is_null, "null"),
        (types.is_boolean, "boolean"),
        (types.is_integer, "integer"),
        (types.is_floating, "number"),
        (types.is_decimal, "number"),
        (types.is_string, "string"),
        (types.is_large_string, "string"),
        (types.is_date, "time"),
        (types.is_duration, "duration"),
    ):
        if test(kind):
            return word
    return str(kind)
