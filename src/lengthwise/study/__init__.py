"""Many methods, one protocol: measure, shorten, measure again, compare."""

from lengthwise.study.demo import demo as demo
from lengthwise.study.shorten import Job as Job
from lengthwise.study.shorten import shorten as shorten

__all__ = ["Job", "demo", "shorten"]
