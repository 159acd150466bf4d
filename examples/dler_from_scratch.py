"""DLER from scratch: a reasoner learns to think in fewer tokens, in one file that reads from top to bottom.

    python examples/dler_from_scratch.py [--steps 120] [--limit 300] [--seed 0]

The lab's model and problems, transformers' `generate`, and the four parts of the method from `lengthwise.objectives`:
what `lengthwise demo` does, without checkpoints, records and reports. Expect about 82 tokens before and 30 after (the
shortest sound answer), at an accuracy that rises from about 80 % to 95 % or more, in about four minutes.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from lengthwise.grading import grade
from lengthwise.lab import chains
from lengthwise.lab.reasoner import shipped_reasoner
from lengthwise.objectives import batch_normalised, clipped_surrogate, mixed_groups, truncation

CAP = 50  # response tokens allowed in training; the untouched model writes 81 on average
PROMPTS, GROUP, ROUNDS, UPDATES, RATE = 16, 8, 4, 2, 1e-4
WIDTH = 16  # tokens of the longest prompt
LEVELS = (2, 3, 4, 5, 6, 7)


@dataclass
class Batch:
    """Rollouts: ids [B, T] of prompts (padded on the left) and responses (padded on the right)."""

    prompts: Tensor
    responses: Tensor
    mask: Tensor  # [B, T] the response's tokens, EOS included
    finished: Tensor  # [B] ended by EOS
    correct: Tensor  # [B]
    groups: Tensor  # [B] which prompt a row belongs to

    def select(self, rows: Tensor) -> Batch:
        """Some of the rows."""
        return Batch(**{name: value[rows] for name, value in vars(self).items()})


def draw(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, problems: list[chains.Chain], group: int, cap: int
) -> Batch:
    """`group` responses of at most `cap` tokens to every problem, at temperature 1, graded."""
    texts = [problem.problem for problem in problems for _ in range(group)]
    prompts = tokenizer(texts, return_tensors="pt", padding="max_length", max_length=WIDTH, padding_side="left")
    with torch.no_grad():
        whole = model.generate(
            input_ids=prompts["input_ids"], attention_mask=prompts["attention_mask"], max_new_tokens=cap,
            do_sample=True, temperature=1.0, top_k=0, top_p=1.0, pad_token_id=tokenizer.pad_token_id,
        )  # fmt: skip
    responses = functional.pad(whole[:, WIDTH:], (0, WIDTH + cap - whole.shape[1]), value=tokenizer.pad_token_id)
    ends = responses == tokenizer.eos_token_id
    mask = ends.int().cumsum(1) - ends.int() == 0  # up to the first EOS and with it
    replies = [tokenizer.decode(row[keep], skip_special_tokens=True) for row, keep in zip(responses, mask, strict=True)]
    answers = [problem.answer for problem in problems for _ in range(group)]
    right = [grade(reply, answer, answer_format="lab").correct for reply, answer in zip(replies, answers, strict=True)]
    return Batch(
        prompts["input_ids"], responses, mask, finished=ends.any(1), correct=torch.tensor(right),
        groups=torch.arange(len(texts)) // group,
    )  # fmt: skip


def log_probabilities(model: PreTrainedModel, batch: Batch, pad: int) -> Tensor:
    """Log-probability of every response token under the model: [B, T]."""
    ids = torch.cat([batch.prompts, batch.responses], 1)
    seen = torch.cat([batch.prompts != pad, batch.mask], 1).long()
    positions = (seen.cumsum(1) - 1).clamp(min=0)
    logits = model(input_ids=ids, attention_mask=seen, position_ids=positions).logits[:, WIDTH - 1 : -1]
    return logits.float().log_softmax(-1).gather(-1, batch.responses[..., None])[..., 0]


def collect(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, problems: Iterator[chains.Chain]
) -> tuple[Batch, Batch]:
    """All that a step draws, and what of it teaches."""
    # 1. Prompts whose responses are all right or all wrong teach nothing; others are drawn in their place.
    drawn: list[Batch] = []
    while len(drawn) < ROUNDS:
        batch = draw(model, tokenizer, list(itertools.islice(problems, PROMPTS)), GROUP, CAP)
        batch.groups += PROMPTS * len(drawn)
        drawn.append(batch)
        whole = Batch(**{name: torch.cat([getattr(one, name) for one in drawn]) for name in vars(batch)})
        taught = whole.select(mixed_groups(whole.correct, whole.groups))
        if len(taught.correct) >= PROMPTS * GROUP:
            break
    return whole, taught.select(torch.arange(min(len(taught.correct), PROMPTS * GROUP)))


def learn(model: PreTrainedModel, optimizer: torch.optim.Optimizer, batch: Batch, pad: int) -> None:
    """The rest of DLER: a reward, an advantage, a loss."""
    # 2. A right answer within the cap is worth 1, anything else 0.
    lengths = batch.mask.sum(1)
    reward = truncation(batch.correct, lengths, batch.finished, limit=CAP)
    # 3. Centred within the prompt's group, then whitened over the whole batch: the variance of a group is a poor guess.
    advantage = batch_normalised(reward, batch.groups, batch.mask)
    # 4. Clipped further upwards than downwards, so that rare short answers can grow.
    with torch.no_grad():
        old = log_probabilities(model, batch, pad)
    for rows in torch.randperm(len(lengths)).chunk(UPDATES):
        part = batch.select(rows)
        loss, _ = clipped_surrogate(
            log_probabilities(model, part, pad), old[rows], advantage[rows], part.mask, clip_low=0.2, clip_high=0.28
        )
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()


def measured(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, problems: list[chains.Chain]) -> str:
    """Accuracy and mean tokens of one response to each problem, with room to finish."""
    batch = draw(model, tokenizer, problems, group=1, cap=260)
    right, tokens = (batch.correct & batch.finished).float().mean(), batch.mask.sum(1).float().mean()
    return f"accuracy {right:.1%}, {tokens:.1f} tokens"


def main() -> None:
    """Measure, learn, measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in (("--steps", 120), ("--limit", 300), ("--seed", 0)):
        parser.add_argument(name, type=int, default=default)
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    torch.set_num_threads(1)  # faster than two for so small a model
    folder = shipped_reasoner()
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.0)
    test = chains.problems(options.limit, split="test", seed=0, levels=LEVELS)
    train = itertools.cycle(chains.problems(4000, split="train", seed=options.seed))
    print("before:", measured(model, tokenizer, test))
    for step in range(options.steps):
        drawn, taught = collect(model, tokenizer, train)
        if len(taught.correct):
            learn(model, optimizer, taught, tokenizer.pad_token_id)
        if step % 10 == 9:
            print(f"step {step + 1}: {drawn.correct.float().mean():.1%} right within {CAP} tokens", flush=True)
    print("after:", measured(model, tokenizer, test))


if __name__ == "__main__":
    main()
