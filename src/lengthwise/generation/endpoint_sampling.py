"""Responses from a server, many at a time, into a log; see `endpoint` for how it is asked.

A server may fail and the client may be killed. A response counts once it is in the log, so nothing is lost but what was
under way, and nothing counts twice.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property

from lengthwise.config.groups.sampling import Intervention, Sampling, ServerKind
from lengthwise.errors import EndpointError
from lengthwise.generation.endpoint import Client, Endpoint, Reply, Waiting
from lengthwise.generation.free_baselines import answer_begins, confirmed_at, ending
from lengthwise.generation.native_budgets import (
    CONTROL_BUDGET,
    CONTROL_CAP,
    CONTROL_PROBLEM,
    Control,
    budget_fields,
    checked,
    recognised,
    thinking_text,
    thinking_tokens,
)
from lengthwise.generation.response_log import Completion, ResponseLog
from lengthwise.generation.sampling import chosen
from lengthwise.grading.problems import Problems, Questions
from lengthwise.grading.prompt_contract import PROBLEM_SLOT, plain_text, render
from lengthwise.grading.thinking_marks import THINK_CLOSE, whole_response


class Asker:
    """Draws the responses to questions from a server, under an intervention.

    With a chat template the server renders the prompt (``/chat/completions``). Without one, and where the thinking
    is to be ended, the prompt is rendered here (``/completions``). ``tokenizer``: the model's own; needed to end the
    thinking, and to count where the server does not.
    """

    def __init__(
        self,
        client: Client,
        endpoint: Endpoint,
        questions: Questions,
        sampling: Sampling,
        intervention: Intervention,
    ) -> None:
        self._client, self._endpoint, self._questions = client, endpoint, questions
        self._sampling, self._asked = sampling, intervention
        self._tokenizer = questions.tokenizer if isinstance(questions, Problems) else None
        self._contract = questions.contract
        self._budget: dict[str, object] = {}

    @cached_property
    def _ending(self) -> tuple[str, int]:
        """What asks for the answer, and its tokens."""
        text = ending(self._asked, self._contract)
        return text, self._count(text)

    async def respond(self, problem: int, sample: int) -> Completion:
        """The response that counts as this sample of this problem."""
        if self._asked.short_of is not None:
            drafts = [self._draft(problem, sample, number) for number in range(self._asked.short_of)]
            return chosen(await asyncio.gather(*drafts))
        if self._asked.forces:
            return await self._forced(problem, sample)
        return await self._draft(problem, sample, 0)

    async def _draft(self, problem: int, sample: int, number: int) -> Completion:
        body = self._body(problem, sample, number, self._sampling.most_tokens) | self._budget
        reply = await self._ask(body, self._questions.asked[problem], lambda: self._prompt(problem))
        return Completion(reply.text, self._tokens(reply), reply.finished, reply.reasoning)

    async def _ask(self, body: Mapping[str, object], asked: str, prompt: Callable[[], str]) -> Reply:
        if self._contract.chat_template:
            return await self._client.post(
                "/chat/completions", {**body, "messages": self._messages(asked), **self._told()}
            )
        return await self._client.post("/completions", {**body, "prompt": prompt()})

    async def keep_native_budget(self) -> Control | None:
        """Ask for the budget from now on, once a hard problem has shown that the server keeps one; None without one.

        Raises:
            EndpointError: a server that is not recognised, or that does not keep it.
        """
        if self._asked.native_budget is None:
            return None
        asked = self._asked.server_kind
        kind = recognised([] if asked is not None else await self._client.owners(), asked, self._endpoint.base)
        found = checked(await self._control(kind), self._endpoint.base)
        self._budget = budget_fields(kind, self._asked.native_budget)
        return found

    async def _control(self, kind: ServerKind) -> Control:
        fields = budget_fields(kind, CONTROL_BUDGET)
        body = {**self._request(CONTROL_CAP), **fields}
        problem = self._contract.template.replace(PROBLEM_SLOT, CONTROL_PROBLEM)
        reply = await self._ask(body, problem, lambda: self._rendered(problem))
        said, tokens = (reply.text, reply.reasoning, self._contract), self._tokens(reply)
        counted = self._count(thinking_text(*said)) if self._tokenizer is not None else reply.reasoning_tokens
        about = thinking_tokens(tokens, *said)
        return Control(
            server=kind, fields=fields, budget=CONTROL_BUDGET, thinking_tokens=about if counted is None else counted,
            response_tokens=tokens, counted=counted is not None,
        )  # fmt: skip

    def _rendered(self, asked: str) -> str:
        if not isinstance(self._questions, Problems):
            return plain_text(self._contract, asked)
        contract = replace(self._contract, template=PROBLEM_SLOT)
        return self._without_bos(render(contract, self._questions.tokenizer, {contract.problem_column: asked})[0])

    async def _forced(self, problem: int, sample: int) -> Completion:
        cap, prompt = self._sampling.most_tokens, self._prompt(problem)
        first = await self._continue(problem, sample, 0, prompt, self._asked.budget or cap)
        kept, tokens = self._kept(first)
        if kept is None:
            if first.finished or tokens >= cap:
                return Completion(first.text, tokens, first.finished)
            kept = first.text  # it is giving its answer by itself: let it
            rest = await self._continue(problem, sample, 1, prompt + kept, cap - tokens)
            return Completion(kept + rest.text, tokens + self._tokens(rest), rest.finished)
        kept, tokens = kept + self._ending[0], tokens + self._ending[1]
        room = min(self._asked.answer_room, cap - tokens)
        if room < 1:
            return Completion(kept, cap, False, forced=True)
        rest = await self._continue(problem, sample, 1, prompt + kept, room)
        return Completion(kept + rest.text, tokens + self._tokens(rest), rest.finished, forced=True)

    def _kept(self, first: Reply) -> tuple[str | None, int]:
        """The thinking up to where it is ended, and its tokens; None where it is not ended, and all tokens."""
        begins = answer_begins(first.text, self._contract)
        if self._asked.budget is not None:
            stays = first.finished or begins is not None
            return None if stays else first.text, self._tokens(first)
        at = confirmed_at(first.text[:begins], self._contract)
        return (None, self._tokens(first)) if at is None else (first.text[:at], self._count(first.text[:at]))

    async def _continue(self, problem: int, sample: int, number: int, prompt: str, most: int) -> Reply:
        return await self._client.post("/completions", self._body(problem, sample, number, most) | {"prompt": prompt})

    def _body(self, problem: int, sample: int, number: int, most: int) -> dict[str, object]:
        body = self._request(most)
        if self._sampling.seed is not None:
            mixed = f"{self._sampling.seed}/{self._questions.ids[problem]}/{sample}/{number}".encode()
            body["seed"] = int.from_bytes(hashlib.sha256(mixed).digest()[:4]) >> 1
        return body

    def _request(self, most: int) -> dict[str, object]:
        body: dict[str, object] = {
            "model": self._endpoint.model,
            "max_tokens": most,
            "temperature": self._sampling.temperature,
            "top_p": self._sampling.top_p,
        }
        if self._contract.stop_strings:
            body["stop"] = list(self._contract.stop_strings)
        return body

    def _messages(self, asked: str) -> list[dict[str, str]]:
        system = self._contract.system_prompt
        said = [{"role": "system", "content": system}] if system else []
        return [*said, {"role": "user", "content": asked}]

    def _told(self) -> dict[str, object]:
        """What the server's chat template is told of thinking, where that was asked for and it is known to heed it."""
        told = self._contract.enable_thinking
        return {} if told is None else {"chat_template_kwargs": {"enable_thinking": told, "thinking": told}}

    def _prompt(self, problem: int) -> str:
        if not isinstance(self._questions, Problems):
            return plain_text(self._contract, self._questions.asked[problem])
        return self._without_bos(self._questions.texts[problem])

    def _without_bos(self, text: str) -> str:
        tokenizer = self._tokenizer
        # A chat template writes its own BOS; a server that is sent text puts one before it.
        if tokenizer is not None and tokenizer.bos_token and tokenizer("")["input_ids"][:1] == [tokenizer.bos_token_id]:
            return text.removeprefix(tokenizer.bos_token)
        return text

    def _tokens(self, reply: Reply) -> int:
        if reply.tokens is not None:
            return reply.tokens
        closes = self._contract.think_close or THINK_CLOSE
        text = reply.text if not reply.reasoning else whole_response(reply.reasoning, reply.text, closes)
        return self._count(text) + reply.finished

    def _count(self, text: str) -> int:
        if self._tokenizer is None:
            raise EndpointError(
                f"endpoint {self._endpoint.base}: its replies do not say their completion_tokens; give --tokenizer "
                "FOLDER, the model's own, to count them"
            )
        return len(self._tokenizer(text, add_special_tokens=False)["input_ids"])


def ask_all(
    endpoint: Endpoint,
    questions: Questions,
    sampling: Sampling,
    log: ResponseLog,
    *,
    intervention: Intervention,
    tell: Callable[[Sequence[Completion]], None],
    waiting: Waiting,
) -> Control | None:
    """Draw what a log lacks from a server, `concurrency` requests at a time; see `Asker`.

    Each response is on the disk before the next one is asked for in its place. `tell` hears of each. Returns the trial
    of a native budget, where one is asked for.

    Raises:
        EndpointError: a server that refuses, fails too often, or does not keep a native budget.
    """
    missing = iter(log.missing(questions, sampling.samples))

    async def run() -> Control | None:
        async with Client(endpoint, waiting) as client:
            asker = Asker(client, endpoint, questions, sampling, intervention)
            control = await asker.keep_native_budget()

            async def work() -> None:
                for problem, sample in missing:
                    found = await asker.respond(problem, sample)
                    log.add(questions, [(problem, sample, found)])
                    tell([found])

            async with asyncio.TaskGroup() as group:
                for _ in range(endpoint.options.concurrency):
                    group.create_task(work())
            return control

    try:
        return asyncio.run(run())
    except BaseExceptionGroup as failed:
        # All workers ask the same server, so the first failure says what the others would.
        raise failed.exceptions[0] from None
