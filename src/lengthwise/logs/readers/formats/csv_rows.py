"""CSV and TSV with a head: flat rows, of which every cell is text and an empty one is missing."""

from __future__ import annotations

from lengthwise.logs.readers.formats.flat_rows import fits_row, read_flat_rows
from lengthwise.logs.readers.log_format import LogFormat, fits_any
from lengthwise.logs.readers.openings import Form, Opening


def _fits(opening: Opening) -> bool:
    return opening.form is Form.CSV and fits_any(opening, fits_row)


FORMAT = LogFormat(
    "csv", "CSV", "a head with a column called response, completion, output or the like", _fits, read_flat_rows,
    general=True,
)  # fmt: skip
