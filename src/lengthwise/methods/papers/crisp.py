"""CRISP: the model distils itself as it answers when asked to be brief. arXiv 2603.05433.

Forms ``top-k`` and ``sampled`` are TRL's, not the paper's. `correct_only` is 2605.06188's, whose figures were not read.
"""

from __future__ import annotations

from torch import Tensor

from lengthwise.config.definition import setting
from lengthwise.engine.method import Method
from lengthwise.engine.rollouts import Rollouts
from lengthwise.engine.teacher import Divergence, Form, Mean, Rest, Teacher
from lengthwise.errors import ConfigError
from lengthwise.methods.declaration import Knob, Options, declare
from lengthwise.objectives import constant_cap
from lengthwise.objectives._wide import wide

INSTRUCTIONS = {
    "brief": "Work this out and write down only what the answer rests on. Do not repeat the question, an attempt or a "
    "check that is already settled.",
    "graded": "Work this out; a right answer matters most. If the problem is simple, a few lines are enough. If it is "
    "hard, keep every step, case and check that the result needs, and nothing else.",
}
"""Ours: the paper's prompts of the same two kinds, in other words."""


class CrispOptions(Options):
    """Options of CRISP."""

    instruction: str = setting("graded", help="What asks the teacher for brevity: graded, brief, or your own words.")
    instruction_sep: str = setting("\n\n", help="What stands between instruction and problem.")
    every: int = setting(
        50, ge=0, help="Steps between copies of the student into the teacher; 0: never."
    )  # fmt: skip
    correct_only: bool = setting(False, help="Learn from right and finished answers alone.")
    form: Form = setting("full", help="What is compared at each token: all entries, the student's likeliest, or one.")
    k: int = setting(100, ge=1, help="Entries that top-k compares, at most the vocabulary.")
    rest: Rest = setting("bucket", help="With top-k: the other entries as one, or left out of a renormalized k.")
    divergence: Divergence = setting("reverse", help="The divergence; forward collapsed in the paper.")
    beta: float = setting(0.5, gt=0, lt=1, help="Weight of the teacher in the mixture of jensen-shannon.")
    aggregate: Mean = setting("token-mean", help="Mean over all tokens of an update, or over each row's and then rows.")

    def check(self) -> None:
        """An instruction to read."""
        super().check()
        if not self.instruction.strip():
            raise ConfigError(
                "instruction is empty, so teacher and student would read the same and the loss would be 0; give words "
                "that ask for brevity"
            )

    @property
    def words(self) -> str:
        """What stands before the problem in the teacher's prompt."""
        return INSTRUCTIONS.get(self.instruction, self.instruction) + self.instruction_sep


@declare(
    "crisp",
    CrispOptions,
    paper="CRISP: Compressed Reasoning via Iterative Self-Policy Distillation, arXiv 2603.05433",
    summary="pulled towards what it would have written if asked to be brief; no reward, no verdict, no length term",
    knob=Knob("every", ("0.5*steps", "0.2*steps", "0.1*steps", 0)),
)
def crisp(options: CrispOptions) -> Method:
    """KL(student || teacher) on the student's own tokens; the teacher is the model itself behind `instruction`.

    Every `every` steps the student is copied into the teacher; 1 collapsed in the paper, 0 goes as far as the prompted
    model and stops. Measure the prompted model first: what the instruction does not shorten, this does not. The paper
    takes 32 prompts with one rollout each; groups do not enter, so `--group-size 2` is the least here. The full form
    reads the output layer in chunks and needs a plain one. Differs from the authors' code: mean over all tokens of an
    update, a cut answer gets no EOS.
    """

    def learnt(rollouts: Rollouts) -> Tensor:
        return wide(rollouts.correct if options.correct_only else rollouts.mask.any(1))

    return Method(
        cap=lambda step, state: constant_cap(step, cap=options.cap),
        reward=lambda r, state: wide(r.correct),
        advantage=lambda rewards, r: learnt(r),
        takes_advantages=False,
        signal_alone=True,
        temperature=1.0 if options.form == "sampled" else None,
        teacher=Teacher(
            words=options.words, every=options.every, form=options.form, entries=options.k, rest=options.rest,
            divergence=options.divergence, beta=options.beta, aggregate=options.aggregate,
        ),
    )  # fmt: skip
