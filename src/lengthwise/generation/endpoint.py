"""A server of the OpenAI protocol (vLLM, SGLang, llama.cpp, transformers serve) and a client that asks it patiently.

A server may fail, restart or ask to wait.
"""

from __future__ import annotations

import asyncio
import email.utils
import os
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import httpx2

from lengthwise.config.groups.model import EndpointOptions
from lengthwise.errors import ConfigError, EndpointError
from lengthwise.json_types import JsonObject, JsonValue

KEY_VARIABLE = "OPENAI_API_KEY"
CONNECT_SECONDS = 10.0
FIRST_WAIT, LONGEST_WAIT = 0.5, 60.0
SHOWN = 200  # characters of a server's complaint

Waiting = Callable[[str, float], None]
"""Told of every retry: (reason, seconds until then)."""
Found = TypeVar("Found")


@dataclass(frozen=True)
class Endpoint:
    """A server as the settings name it, and the model's name there. The API key itself is never kept or written.

    Raises:
        ConfigError: no URL, a model without a name, a variable for the key that is not set.
    """

    options: EndpointOptions
    model: str

    def __post_init__(self) -> None:
        if self.options.endpoint is None:
            raise ConfigError("endpoint is not given; write for example http://localhost:8000")
        if not self.model:
            raise ConfigError("endpoint has no model; name it as the server knows it (MODEL)")
        if self.options.api_key_env is not None and not os.environ.get(self.options.api_key_env):
            raise ConfigError(f"api_key_env is {self.options.api_key_env!r}, an environment variable that is not set")

    @property
    def base(self) -> str:
        """The URL that paths are put behind: with ``/v1`` where it has no path of its own."""
        bare = str(self.options.endpoint).rstrip("/")
        return bare if httpx2.URL(bare).path.strip("/") else f"{bare}/v1"

    @property
    def key(self) -> str | None:
        """The API key, from the environment."""
        return os.environ.get(self.options.api_key_env or KEY_VARIABLE, "").strip() or None


@dataclass(frozen=True)
class Reply:
    """What a server said: text, thinking given apart, tokens (None: it does not say), and whether it ended there.

    ``reasoning_tokens``: of them those of the thinking, where it says.
    """

    text: str
    reasoning: str | None
    tokens: int | None
    finished: bool
    reasoning_tokens: int | None = None


class Client:
    """One connection pool to an endpoint, used inside ``async with``: asks until it is answered.

    Every request gets the fields of the endpoint's `extra`; where one and a request's own are objects, they are joined.
    """

    def __init__(self, endpoint: Endpoint, waiting: Waiting) -> None:
        self._endpoint, self._waiting = endpoint, waiting
        self._turns = asyncio.Semaphore(endpoint.options.concurrency)

    async def __aenter__(self) -> Client:
        key, options = self._endpoint.key, self._endpoint.options
        self._http = httpx2.AsyncClient(
            headers={} if key is None else {"Authorization": f"Bearer {key}"},
            timeout=httpx2.Timeout(options.timeout, connect=min(CONNECT_SECONDS, options.timeout), pool=None),
            # A connection for each request: on one that is used again a reply that was sent twice answers another's.
            limits=httpx2.Limits(max_connections=options.concurrency, max_keepalive_connections=0),
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    async def post(self, path: str, body: Mapping[str, object]) -> Reply:
        """The reply to a request. Failures that may pass are tried again, later each time.

        Raises:
            EndpointError: the server refuses the request, or fails more often than there are retries.
        """
        whole = joined(body, self._endpoint.options.extra)
        return await self._patiently("POST", path, whole, parse_reply, "completion")

    async def owners(self) -> list[str]:
        """Who the server says its models are owned by, which is how it names itself.

        Raises:
            EndpointError: as for `post`.
        """
        return await self._patiently("GET", "/models", None, _owners, "list of models")

    async def _patiently(
        self, verb: str, path: str, body: Mapping[str, object] | None, read: Callable[[JsonValue], Found], what: str
    ) -> Found:
        retries = self._endpoint.options.retries
        for attempt in range(retries + 1):
            async with self._turns:
                found = await self._once(verb, path, body, read, what)
            if not isinstance(found, _Failed):
                return found
            if attempt < retries:
                wait = max(found.wait, min(LONGEST_WAIT, FIRST_WAIT * 2**attempt) * random.uniform(0.5, 1.0))
                self._waiting(f"{found.why}; try {attempt + 2} of {retries + 1}", wait)
                await asyncio.sleep(wait)
        assert isinstance(found, _Failed), "anything else was returned"
        raise EndpointError(
            f"endpoint {self._endpoint.base}: no response after {retries + 1} tries ({found.why}); see to "
            "the server and give the same command again, it continues"
        )

    async def _once(
        self, verb: str, path: str, body: Mapping[str, object] | None, read: Callable[[JsonValue], Found], what: str
    ) -> Found | _Failed:
        try:
            response = await self._http.request(verb, f"{self._endpoint.base}{path}", json=body)
        except httpx2.TransportError as error:
            return _Failed(f"{type(error).__name__} {error}".strip())
        status = response.status_code
        if status == 429 or status >= 500:
            asked_wait = retry_after(response.headers.get("Retry-After"))
            return _Failed(f"HTTP {status} {self._complaint(response)}".strip(), asked_wait)
        if status != 200:
            raise EndpointError(
                f"endpoint {self._endpoint.base}{path}, model {self._endpoint.model!r}: HTTP {status} "
                f"{self._complaint(response)}".strip()
            )
        try:
            return read(response.json())
        except (ValueError, TypeError, KeyError, IndexError) as error:
            return _Failed(f"a reply that is no {what} ({type(error).__name__}: {str(error)[:SHOWN]})")

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


@dataclass(frozen=True)
class _Failed:
    """What went wrong with a request that may be tried again, and the seconds that the server asks to wait."""

    why: str
    wait: float = 0.0


def joined(body: Mapping[str, object], extra: Mapping[str, object]) -> dict[str, object]:
    """A request with more fields; objects of one name are joined, and the request's own values win in them."""
    whole = {**extra, **body}
    for name in body.keys() & extra.keys():
        ours, theirs = body[name], extra[name]
        if isinstance(ours, Mapping) and isinstance(theirs, Mapping):
            whole[name] = joined(ours, theirs)
    return whole


def parse_reply(body: JsonValue) -> Reply:
    """Read a completion or chat completion; anything else raises a ValueError, TypeError, KeyError or IndexError."""
    choices = _object(body, "the reply")["choices"]
    choice = _object(choices[0] if isinstance(choices, list) else choices, "a choice")
    said = _object(choice["message"], "a message") if "message" in choice else {"content": choice["text"]}
    usage = _object(_object(body, "the reply").get("usage") or {}, "usage")
    details = _object(usage.get("completion_tokens_details") or {}, "completion_tokens_details")
    reasoning = _text(said.get("reasoning_content") or said.get("reasoning"), "reasoning")
    thought = _count(details.get("reasoning_tokens"), "reasoning_tokens")
    return Reply(
        text=_text(said.get("content"), "text") or "",
        reasoning=reasoning,
        tokens=_count(usage.get("completion_tokens"), "completion_tokens"),
        finished=choice["finish_reason"] == "stop",
        reasoning_tokens=None if thought == 0 and reasoning else thought,  # vLLM 0.32 says 0 beside its thinking
    )


def _object(value: JsonValue, name: str) -> JsonObject:
    if not isinstance(value, dict):
        raise TypeError(f"{name} is a {type(value).__name__}")
    return value


def _text(value: JsonValue, name: str) -> str | None:
    if value is not None and not isinstance(value, str):
        raise TypeError(f"{name} is a {type(value).__name__}")
    return value


def _count(value: JsonValue, name: str) -> int | None:
    if value is not None and not isinstance(value, int):
        raise TypeError(f"{name} is a {type(value).__name__}")
    return value


def _owners(body: JsonValue) -> list[str]:
    models = _object(body, "the reply")["data"]
    if not isinstance(models, list):
        raise TypeError(f"data is a {type(models).__name__}")
    return [str(_object(model, "a model").get("owned_by", "")) for model in models]


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
