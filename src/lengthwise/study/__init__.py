"""Many methods, one protocol: measure, shorten, measure again, compare."""

from lengthwise.study.compare_arms import Arm as Arm
from lengthwise.study.compare_methods import compare_methods as compare_methods
from lengthwise.study.compare_request import Comparison as Comparison
from lengthwise.study.demo import demo as demo
from lengthwise.study.evaluation import Evaluation as Evaluation
from lengthwise.study.evaluation import evaluate_model as evaluate_model
from lengthwise.study.shorten import Job as Job
from lengthwise.study.shorten import shorten as shorten

__all__ = ["Arm", "Comparison", "Evaluation", "Job", "compare_methods", "demo", "evaluate_model", "shorten"]
