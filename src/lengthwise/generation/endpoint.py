"""Responses from any server of the OpenAI protocol (vLLM, SGLang, llama.cpp, transformers serve), many at a time.

A server may fail, restart or ask to wait; the client may be killed. A response counts once it is in the log, so
nothing is lost but what was under way, and nothing counts twice.
"""

from __future__ import annotations

import asyncio
import email.utils
import hashlib
import os
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import httpx2

from lengthwise.config.groups.sampling import Intervention, Sampling
from lengthwise.errors import ConfigError, EndpointError
from lengthwise.generation.free_baselines import answer_begins, confirmed_at, ending
from lengthwise.generation.response_log import Completion, ResponseLog
from lengthwise.generation.sampling import chosen
from lengthwise.grading.problems import Problems, Questions
from lengthwise.grading.prompt_contract import plain_text
from lengthwise.grading.thinking_marks import THINK_CLOSE, whole_response

KEY_VARIABLE = "OPENAI_API_KEY"
CONNECT_SECONDS = 10.0
FIRST_WAIT, LONGEST_WAIT = 0.5, 60.0
SHOWN = 200  # characters of a server's complaint

Waiting = Callable[[str, float], None]
"""Told of every retry: (reason, seconds until then)."""


@dataclass(frozen=True)
class Endpoint:
    """A server, the model's name there, and how patiently it is asked.

    ``url``: ``http://host:8000`` or with its path, ``http://host:8000/v1``. ``api_key_env``: the environment variable
    with the key; None: `KEY_VARIABLE` where it is set. The key itself is never kept or written. ``concurrency``:
    requests at a time; ``retries`` of one that failed; ``timeout``: seconds that one response may take.

    Raises:
        ConfigError: a URL that is none or has a password in it, a variable that is not set, a number out of range.
    """

    url: str
    model: str
    api_key_env: str | None = None
    concurrency: int = 16
    retries: int = 10
    timeout: float = 1800.0

    def __post_init__(self) -> None:
        try:
            parts = httpx2.URL(self.url)
        except httpx2.InvalidURL as error:
            raise ConfigError(f"endpoint is {self.url!r}: {error}; write for example http://localhost:8000") from error
        if parts.userinfo or parts.query or parts.fragment:
            raise ConfigError(
                "endpoint holds a user name, a password or a query, which would stand in the records; give the key "
                "in an environment variable (--api-key-env)"
            )
        if parts.scheme not in ("http", "https") or not parts.host:
            raise ConfigError(f"endpoint is {self.url!r}; write for example http://localhost:8000")
        if not self.model:
            raise ConfigError("endpoint has no model; name it as the server knows it (--model)")
        if self.api_key_env is not None and not os.environ.get(self.api_key_env):
            raise ConfigError(f"api_key_env is {self.api_key_env!r}, an environment variable that is not set")
        for name, least in (("concurrency", 1), ("retries", 0)):
            if getattr(self, name) < least:
                raise ConfigError(f"{name} is {getattr(self, name)}; give at least {least}")
        if not self.timeout > 0:
            raise ConfigError(f"timeout is {self.timeout}; give the seconds that one response may take")

    @property
    def base(self) -> str:
        """The URL that paths are put behind: with ``/v1`` where it has no path of its own."""
        bare = self.url.rstrip("/")
        return bare if httpx2.URL(bare).path.strip("/") else f"{bare}/v1"

    @property
    def key(self) -> str | None:
        """The API key, from the environment."""
        return os.environ.get(self.api_key_env or KEY_VARIABLE, "").strip() or None


@dataclass(frozen=True)
class Reply:
    """What a server said: text, thinking given apart, tokens (None: it does not say), and whether it ended there."""

    text: str
    reasoning: str | None
    tokens: int | None
    finished: bool


class Client:
    """One connection pool to an endpoint, used inside ``async with``: posts a request until it is answered."""

    def __init__(self, endpoint: Endpoint, waiting: Waiting) -> None:
        self._endpoint, self._waiting = endpoint, waiting
        self._turns = asyncio.Semaphore(endpoint.concurrency)

    async def __aenter__(self) -> Client:
        key, seconds = self._endpoint.key, self._endpoint.timeout
        self._http = httpx2.AsyncClient(
            headers={} if key is None else {"Authorization": f"Bearer {key}"},
            timeout=httpx2.Timeout(seconds, connect=min(CONNECT_SECONDS, seconds), pool=None),
            limits=httpx2.Limits(max_connections=self._endpoint.concurrency),
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    async def post(self, path: str, body: Mapping[str, Any]) -> Reply:
        """The reply to a request. Failures that may pass are tried again, later each time.

        Raises:
            EndpointError: the server refuses the request, or fails more often than there are retries.
        """
        for attempt in range(self._endpoint.retries + 1):
            async with self._turns:
                found, asked_wait = await self._once(path, body)
            if isinstance(found, Reply):
                return found
            if attempt < self._endpoint.retries:
                wait = max(asked_wait, min(LONGEST_WAIT, FIRST_WAIT * 2**attempt) * random.uniform(0.5, 1.0))
                self._waiting(f"{found}; try {attempt + 2} of {self._endpoint.retries + 1}", wait)
                await asyncio.sleep(wait)
        raise EndpointError(
            f"endpoint {self._endpoint.base}: no response after {self._endpoint.retries + 1} tries ({found}); see to "
            "the server and give the same command again, it continues"
        )

    async def _once(self, path: str, body: Mapping[str, Any]) -> tuple[Reply | str, float]:
        """The reply, or what went wrong and the seconds that the server asks to wait."""
        try:
            response = await self._http.post(f"{self._endpoint.base}{path}", json=body)
        except httpx2.TransportError as error:
            return f"{type(error).__name__} {error}".strip(), 0.0
        status = response.status_code
        if status == 429 or status >= 500:
            return f"HTTP {status} {self._complaint(response)}".strip(), retry_after(
                response.headers.get("Retry-After")
            )
        if status != 200:
            raise EndpointError(
                f"endpoint {self._endpoint.base}{path}, model {self._endpoint.model!r}: HTTP {status} "
                f"{self._complaint(response)}".strip()
            )
        try:
            return parse_reply(response.json()), 0.0
        except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
            return f"a reply that is no completion ({type(error).__name__}: {str(error)[:SHOWN]})", 0.0

    def _complaint(self, response: httpx2.Response) -> str:
        try:
            found = response.json()
            found = found.get("error", found) if isinstance(found, dict) else found
            text = found.get("message") or found.get("detail") or found if isinstance(found, dict) else found
        except ValueError:
            text = response.text
        shown = " ".join(str(text).split())
        if self._endpoint.key is not None:  # some servers repeat it
            shown = shown.replace(self._endpoint.key, "***")
        return shown[:SHOWN]


def parse_reply(body: Any) -> Reply:
    """Read a completion or chat completion; anything else raises a ValueError, TypeError, KeyError or IndexError."""
    choice = body["choices"][0]
    said = choice["message"] if "message" in choice else {"content": choice["text"]}
    text, thinking = said.get("content"), said.get("reasoning_content") or said.get("reasoning")
    tokens = (body.get("usage") or {}).get("completion_tokens")
    for name, value, kind in (("text", text, str), ("reasoning", thinking, str), ("completion_tokens", tokens, int)):
        if value is not None and not isinstance(value, kind):
            raise TypeError(f"{name} is a {type(value).__name__}")
    return Reply(text or "", thinking, tokens, choice["finish_reason"] == "stop")


def retry_after(header: str | None) -> float:
    """The seconds that a Retry-After header asks for, as a number or a date; 0 without one."""
    if header is None:
        return 0.0
    try:
        return max(0.0, float(header))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(header).timestamp() - time.time())
    except ValueError:
        return 0.0


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
        body = self._body(problem, sample, number, self._sampling.most_tokens)
        if self._contract.chat_template:
            asked = {"messages": self._messages(problem), **self._told()}
            reply = await self._client.post("/chat/completions", body | asked)
        else:
            reply = await self._client.post("/completions", body | {"prompt": self._prompt(problem)})
        return Completion(reply.text, self._tokens(reply), reply.finished, reply.reasoning)

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

    def _body(self, problem: int, sample: int, number: int, most: int) -> dict[str, Any]:
        sampling = self._sampling
        body: dict[str, Any] = {
            "model": self._endpoint.model,
            "max_tokens": most,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
        }
        if sampling.seed is not None:
            mixed = f"{sampling.seed}/{self._questions.ids[problem]}/{sample}/{number}".encode()
            body["seed"] = int.from_bytes(hashlib.sha256(mixed).digest()[:4]) >> 1
        if self._contract.stop_strings:
            body["stop"] = list(self._contract.stop_strings)
        return body

    def _messages(self, problem: int) -> list[dict[str, str]]:
        system = self._contract.system_prompt
        said = [{"role": "system", "content": system}] if system else []
        return [*said, {"role": "user", "content": self._questions.asked[problem]}]

    def _told(self) -> dict[str, Any]:
        """What the server's chat template is told of thinking, where that was asked for and it is known to heed it."""
        told = self._contract.enable_thinking
        return {} if told is None else {"chat_template_kwargs": {"enable_thinking": told, "thinking": told}}

    def _prompt(self, problem: int) -> str:
        if not isinstance(self._questions, Problems):
            return plain_text(self._contract, self._questions.asked[problem])
        text, tokenizer = self._questions.texts[problem], self._questions.tokenizer
        # A chat template writes its own BOS; a server that is sent text puts one before it.
        if tokenizer.bos_token and tokenizer("")["input_ids"][:1] == [tokenizer.bos_token_id]:
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
) -> None:
    """Draw what a log lacks from a server, `endpoint.concurrency` requests at a time; see `Asker`.

    Each response is on the disk before the next one is asked for in its place. `tell` hears of each.
    """
    missing = iter(log.missing(questions, sampling.samples))

    async def run() -> None:
        async with Client(endpoint, waiting) as client:
            asker = Asker(client, endpoint, questions, sampling, intervention)

            async def work() -> None:
                for problem, sample in missing:
                    found = await asker.respond(problem, sample)
                    log.add(questions, [(problem, sample, found)])
                    tell([found])

            async with asyncio.TaskGroup() as group:
                for _ in range(endpoint.concurrency):
                    group.create_task(work())

    try:
        asyncio.run(run())
    except BaseExceptionGroup as failed:
        # All workers ask the same server, so the first failure says what the others would.
        raise failed.exceptions[0] from None
