"""What a model runs on, under which attention, and the server that it may stand behind."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Literal, TypedDict
from urllib.parse import urlsplit

from lengthwise.config.definition import again, setting
from lengthwise.config.settings import Settings
from lengthwise.errors import ConfigError
from lengthwise.json_types import JsonObject

Dtype = Literal["auto", "float32", "bfloat16", "float16"]
ComputeDtype = Literal["float32", "bfloat16", "float16"]
BackendName = Literal["auto", "transformers", "vllm"]
OWN_FIELDS = {
    "model": "MODEL", "messages": "--data", "prompt": "--data", "max_tokens": "--cap", "max_completion_tokens": "--cap",
    "temperature": "--temperature", "top_p": "--top-p", "seed": "--seed", "n": "--samples",
}  # fmt: skip
"""Fields of a request that settings of ours decide, by their flag."""
UNREADABLE_FIELDS = ("stream", "stop", "echo", "best_of")
"""Fields of a request under which its reply could not be read, or would be another than records say."""


def read_body(given: object) -> object:
    """A JSON object as its text, in one way of writing it; what is none is left to be refused."""
    try:
        found = dict(given) if isinstance(given, Mapping) else json.loads(str(given))
        return json.dumps(found, sort_keys=True)
    except (ValueError, TypeError):
        return given


class Device(Settings):
    """What a model runs on, but for the threads."""

    panel = "Model"
    device: str = setting("auto", help="auto, cpu, cuda, cuda:1 ...; one device.")
    dtype: Dtype = setting("auto", help="Numbers to compute in; auto is the folder's own.")
    trust_remote_code: bool = setting(False, help="Run Python code from the folder.")


class Runtime(Device):
    """What a model runs on that only answers: nothing is trained, so the folder's own dtype is enough."""

    threads: int | None = setting(
        None, ge=1, help="Threads of the CPU.", transient=True,
        default_text="1 for models below 20 million parameters, else one a core",
    )  # fmt: skip


class TrainingRuntime(Runtime):
    """What a model runs on that is trained."""

    dtype: ComputeDtype = again(Device, "dtype", "float32", help="Numbers to compute in; weights stay float32.")


class TrainingDevice(Device):
    """What models run on that are trained side by side, one thread each."""

    dtype: ComputeDtype = again(TrainingRuntime, "dtype")


class Writing(Settings):
    """What writes the tokens."""

    panel = "Model"
    backend: BackendName = setting(
        "auto", help="What writes the tokens: transformers, vllm, or auto, which takes vLLM where it can."
    )
    vllm_memory: float | None = setting(
        None, gt=0, help="vLLM's share of a GPU's memory, weights included; on a CPU the GiB of its cache.",
        default_text="0.3; on a CPU what all responses need, at most a quarter of the machine", transient=True,
    )  # fmt: skip

    def check(self) -> None:
        """Memory is for vLLM only."""
        super().check()
        if self.vllm_memory is not None and self.backend == "transformers":
            raise ConfigError(
                f"vllm_memory is {self.vllm_memory:g}, but backend is 'transformers', which takes what it needs; leave "
                "it out"
            )


class LambdaOptions(TypedDict, total=False):
    """Options of `lambda_attention`, those that were given."""

    rule: str
    n_global: int
    window: int


class LambdaWindow(Settings):
    """Reading and writing without end, in constant memory: start tokens and a window of the last ones."""

    panel = "Model"
    lambda_: bool = setting(False, help="Constant memory for any length: start tokens and a window.")
    lambda_rule: Literal["lambda", "streaming"] | None = setting(
        None, help="--lambda: LM-Infinite's rule, or StreamingLLM's.", default_text="lambda"
    )
    n_global: int | None = setting(
        None, ge=0, help="--lambda: start tokens that stay.", default_text="10, streaming 4"
    )  # fmt: skip
    window: int | None = setting(
        None, ge=1, help="--lambda: last tokens that are seen.", default_text="the trained context, at most 4096"
    )

    def check(self) -> None:
        """Its options need --lambda."""
        super().check()
        if self.options and not self.lambda_:
            raise ConfigError(f"{', '.join(self.options)} is set without --lambda; give --lambda too")

    @property
    def options(self) -> LambdaOptions:
        """What was given for `lambda_attention`."""
        found: LambdaOptions = {}
        if self.lambda_rule is not None:
            found["rule"] = self.lambda_rule
        if self.n_global is not None:
            found["n_global"] = self.n_global
        if self.window is not None:
            found["window"] = self.window
        return found


class EndpointOptions(Settings):
    """A server of the OpenAI protocol, and how patiently it is asked."""

    panel = "Model"
    endpoint: str | None = setting(
        None, help="URL of an OpenAI-compatible server; MODEL is then the model's name there.", metavar="url"
    )
    tokenizer: str | None = setting(None, help="Folder of the model's tokenizer.", metavar="folder")
    concurrency: int = setting(16, ge=1, help="Requests at a time.", transient=True)
    retries: int = setting(10, ge=0, help="Times that a failed request is tried again.", transient=True)
    timeout: float = setting(
        1800.0, gt=0, help="Seconds that one response may take.", refusal="give the seconds that one response may take",
        transient=True,
    )  # fmt: skip
    api_key_env: str | None = setting(
        None, help="Environment variable with the API key.", default_text="OPENAI_API_KEY where it is set",
        metavar="name", transient=True,
    )  # fmt: skip
    extra_body: str | None = setting(
        None, help="JSON object whose fields every request gets.", metavar="json", read=read_body,
        wanted='a JSON object, as {"min_p": 0.05}',
    )  # fmt: skip

    @property
    def extra(self) -> JsonObject:
        """The fields that every request gets."""
        found: JsonObject = {} if self.extra_body is None else json.loads(self.extra_body)
        return found

    def check(self) -> None:
        """A URL that is one, without a secret in it; fields of requests that are not decided elsewhere."""
        super().check()
        if self.extra_body is not None:
            _check_body(self.extra_body)
        if self.endpoint is None:
            return
        try:
            found = urlsplit(self.endpoint)
            host = found.hostname and found.port != 0
        except ValueError as error:
            raise ConfigError(
                f"endpoint is {self.endpoint!r}: {error}; write for example http://localhost:8000"
            ) from error
        if found.username or found.password or found.query or found.fragment:
            raise ConfigError(
                "endpoint holds a user name, a password or a query, which would stand in the records; give the key "
                "in an environment variable (--api-key-env)"
            )
        if found.scheme not in ("http", "https") or not host:
            raise ConfigError(f"endpoint is {self.endpoint!r}; write for example http://localhost:8000")


def _check_body(text: str) -> None:
    example = 'give a JSON object, as {"min_p": 0.05}'
    try:
        found = json.loads(text, parse_constant=_no_constant)
    except ValueError as error:
        raise ConfigError(f"extra_body is {text[:80]!r}, which is no JSON ({error}); {example}") from error
    if not isinstance(found, dict):
        raise ConfigError(f"extra_body is {text[:80]!r}; {example}")
    for name in found:
        if name in OWN_FIELDS:
            raise ConfigError(f"extra_body has {name}, which {OWN_FIELDS[name]} decides; give that, or leave it out")
        if name in UNREADABLE_FIELDS:
            raise ConfigError(f"extra_body has {name}, under which replies could not be read as whole; leave it out")


def _no_constant(name: str) -> object:
    raise ValueError(f"{name} is none of JSON's values")
