"""Reads the logs that people have, each by a reader of its format, into one kind of row."""

from lengthwise.logs.readers.answers import Answers as Answers
from lengthwise.logs.readers.given_fields import Fields as Fields
from lengthwise.logs.readers.log_row import LogRow as LogRow
from lengthwise.logs.readers.log_row import Place as Place
from lengthwise.logs.readers.recognition import Log as Log
from lengthwise.logs.readers.recognition import recognise as recognise
from lengthwise.logs.readers.registry import log_formats as log_formats
from lengthwise.logs.readers.response_ends import End as End

__all__ = ["Answers", "End", "Fields", "Log", "LogRow", "Place", "log_formats", "recognise"]
