"""Tasks that measure how long a model can read: line retrieval, questions about long texts, passkeys, perplexity."""

from lengthwise.context.tasks.lines import lines_rows as lines_rows
from lengthwise.context.tasks.lines import lines_rows_of as lines_rows_of
from lengthwise.context.tasks.lines import read_longchat as read_longchat
from lengthwise.context.tasks.passkey import passkey_rows as passkey_rows
from lengthwise.context.tasks.qa import altered_rows as altered_rows
from lengthwise.context.tasks.qa import freeform_rows as freeform_rows
from lengthwise.context.tasks.qa import read_released as read_released
from lengthwise.context.tasks.qa import read_sources as read_sources
from lengthwise.context.tasks.rows import NEW_TOKENS as NEW_TOKENS
from lengthwise.context.tasks.rows import TaskRow as TaskRow
from lengthwise.context.tasks.scoring import loss_by_position as loss_by_position
from lengthwise.context.tasks.scoring import perplexity as perplexity
from lengthwise.context.tasks.scoring import score_rows as score_rows

__all__ = [
    "NEW_TOKENS", "TaskRow", "altered_rows", "freeform_rows", "lines_rows", "lines_rows_of", "loss_by_position",
    "passkey_rows", "perplexity", "read_longchat", "read_released", "read_sources", "score_rows",
]  # fmt: skip
