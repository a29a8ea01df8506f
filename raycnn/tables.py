"""Parquet files with a digest of themselves."""

import io
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from raycnn.digest import BLANK, is_whole, with_digest
from raycnn.errors import DataError
from raycnn.files import MOST_TABLE_BYTES, read_file, write_atomically

MOST_VALUES = 1_000_000_000
"""In all columns of a table: a few bytes can stand for any number of equal values."""


def write_table(path: Path, table: pa.Table, compression: str = "snappy") -> None:
    """Raises OSError."""
    content = io.BytesIO()
    with pq.ParquetWriter(content, table.schema, compression=compression) as writer:
        writer.write_table(table)
        writer.add_key_value_metadata({"digest": BLANK})  # not the schema's, which is written twice
    write_atomically(path, with_digest(content.getvalue()))


def read_table(path: Path, mend: str) -> pa.Table:
    """mend: what to do about a damaged one. Raises DataError."""
    try:
        content = read_file(path, MOST_TABLE_BYTES)
        if not is_whole(content):
            raise DataError(f"{path}: is damaged (it is not what was written). {mend}")
        with pq.ParquetFile(pa.BufferReader(content)) as file:
            about = file.metadata
            groups = [about.row_group(index) for index in range(about.num_row_groups)]
            if sum(group.column(c).num_values for group in groups for c in range(group.num_columns)) > MOST_VALUES:
                raise DataError(f"{path}: has more than {MOST_VALUES:,} values. {mend}")
            return file.read()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error}). {mend}") from None
    except (pa.ArrowException, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({str(error).splitlines()[0]}). {mend}") from None
