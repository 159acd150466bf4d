"""What each command does, from top to bottom: measure, shorten, measure again, compare, repair, extend."""

from lengthwise.runs.chains_demo import demo as demo
from lengthwise.runs.compare.arms import Arm as Arm
from lengthwise.runs.compare.compare_methods import compare_methods as compare_methods
from lengthwise.runs.compare.comparison import Comparison as Comparison
from lengthwise.runs.evaluate import evaluate_model as evaluate_model
from lengthwise.runs.shortening.job import Job as Job
from lengthwise.runs.shortening.resolve import shorten_by as shorten_by
from lengthwise.runs.shortening.shorten import shorten as shorten

__all__ = [
    "Arm",
    "Comparison",
    "Job",
    "compare_methods",
    "demo",
    "evaluate_model",
    "shorten",
    "shorten_by",
]
