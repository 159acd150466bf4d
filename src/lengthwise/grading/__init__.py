"""How a row becomes a prompt and a response becomes a verdict: contract, problems, graders and their sandbox."""

from lengthwise.grading.answer_extraction.answer_text import answer_key as answer_key
from lengthwise.grading.answer_extraction.stated_answers import stated_answers as stated_answers
from lengthwise.grading.graders import Verdict as Verdict
from lengthwise.grading.graders import grade as grade
from lengthwise.grading.graders import load_grader as load_grader
from lengthwise.grading.prompt_contract import PromptContract as PromptContract
from lengthwise.grading.prompt_contract import preset as preset
from lengthwise.grading.prompt_contract import resolve as resolve
from lengthwise.grading.worker_pool import IsolatedPool as IsolatedPool
from lengthwise.grading.worker_pool import SafeGrader as SafeGrader
from lengthwise.grading.worker_pool import Stopped as Stopped

__all__ = [
    "IsolatedPool",
    "PromptContract",
    "SafeGrader",
    "Stopped",
    "Verdict",
    "answer_key",
    "grade",
    "load_grader",
    "preset",
    "resolve",
    "stated_answers",
]
