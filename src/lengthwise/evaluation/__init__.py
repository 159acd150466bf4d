"""One prompt contract, graders, metrics, records and the report: what judges every method alike."""

from lengthwise.evaluation.answer_text import answer_key as answer_key
from lengthwise.evaluation.bootstrap import Interval as Interval
from lengthwise.evaluation.graders import Verdict as Verdict
from lengthwise.evaluation.graders import grade as grade
from lengthwise.evaluation.graders import load_grader as load_grader
from lengthwise.evaluation.isolated import IsolatedPool as IsolatedPool
from lengthwise.evaluation.isolated import SafeGrader as SafeGrader
from lengthwise.evaluation.isolated import Stopped as Stopped
from lengthwise.evaluation.metrics import accuracy_at_budget as accuracy_at_budget
from lengthwise.evaluation.metrics import majority_at_k as majority_at_k
from lengthwise.evaluation.metrics import pass_at_k as pass_at_k
from lengthwise.evaluation.metrics import removable_share as removable_share
from lengthwise.evaluation.prompts import PromptContract as PromptContract
from lengthwise.evaluation.prompts import preset as preset
from lengthwise.evaluation.prompts import resolve as resolve
from lengthwise.evaluation.records import Record as Record
from lengthwise.evaluation.records import check_comparable as check_comparable
from lengthwise.evaluation.records import compare as compare
from lengthwise.evaluation.records import summarise as summarise
from lengthwise.evaluation.scores import accuracy_efficiency_score as accuracy_efficiency_score
from lengthwise.evaluation.scores import frontier as frontier
from lengthwise.evaluation.stated import stated_answers as stated_answers

__all__ = [
    "Interval",
    "IsolatedPool",
    "PromptContract",
    "Record",
    "SafeGrader",
    "Stopped",
    "Verdict",
    "accuracy_at_budget",
    "accuracy_efficiency_score",
    "answer_key",
    "check_comparable",
    "compare",
    "frontier",
    "grade",
    "load_grader",
    "majority_at_k",
    "pass_at_k",
    "preset",
    "removable_share",
    "resolve",
    "stated_answers",
    "summarise",
]
