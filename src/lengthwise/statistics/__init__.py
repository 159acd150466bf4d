"""Records of responses, what is measured on them, and what may be claimed of a difference."""

from lengthwise.statistics.bootstrap import Interval as Interval
from lengthwise.statistics.metrics import accuracy_at_budget as accuracy_at_budget
from lengthwise.statistics.metrics import majority_at_k as majority_at_k
from lengthwise.statistics.metrics import pass_at_k as pass_at_k
from lengthwise.statistics.metrics import removable_share as removable_share
from lengthwise.statistics.records import Record as Record
from lengthwise.statistics.records import check_comparable as check_comparable
from lengthwise.statistics.records import compare as compare
from lengthwise.statistics.records import summarise as summarise
from lengthwise.statistics.tradeoff_scores import accuracy_efficiency_score as accuracy_efficiency_score
from lengthwise.statistics.tradeoff_scores import frontier as frontier

__all__ = [
    "Interval",
    "Record",
    "accuracy_at_budget",
    "accuracy_efficiency_score",
    "check_comparable",
    "compare",
    "frontier",
    "majority_at_k",
    "pass_at_k",
    "removable_share",
    "summarise",
]
