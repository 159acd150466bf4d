"""Many methods, one protocol: measure, shorten, measure again, compare."""

from lengthwise.study.demo import demo as demo
from lengthwise.study.evaluation import Evaluation as Evaluation
from lengthwise.study.evaluation import evaluate_model as evaluate_model
from lengthwise.study.shorten import Job as Job
from lengthwise.study.shorten import shorten as shorten

__all__ = ["Evaluation", "Job", "demo", "evaluate_model", "shorten"]
