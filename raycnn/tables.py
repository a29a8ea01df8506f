"""Parquet files with a digest of themselves."""

import io
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from raycnn.digest import BLANK, is_whole, with_digest
from raycnn.errors import DataError
from raycnn.files import write_atomically


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
        content = path.read_bytes()
        if not is_whole(content):
            raise DataError(f"{path}: is damaged (it is not what was written). {mend}")
        return pq.read_table(pa.BufferReader(content))
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({str(error).splitlines()[0]}). {mend}") from None
