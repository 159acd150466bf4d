"""How responses are drawn, what is done to them meanwhile, and how much is measured."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Self

from lengthwise.config.definition import again, setting
from lengthwise.config.groups.common import Common
from lengthwise.config.settings import Settings
from lengthwise.errors import ConfigError
from lengthwise.json_types import JsonObject

ONE_TOKEN = "a response has at least 1 token"
IN_RECORDS = ("cap", "temperature", "top_p", "samples", "seed", "stop_repeats")
"""What a record's context has of how its responses were drawn."""
ANSWER_TOKENS = 256
EAT_WARM_UP, EAT_THRESHOLD, DEER_THRESHOLD = 25, 2.0**-10, 0.95
"""What the papers (and EAT's notebook) have; see `objectives.exits`."""
ServerKind = Literal["vllm", "sglang", "llama.cpp"]
BASELINES = ("budget", "early_stop", "short_of", "concise", "no_think", "native_budget")
"""What excludes each other."""
EXITS = ("eat", "deer")
"""Early stops that ask the model itself whether its thinking has settled."""


class Sampling(Settings):
    """How responses are drawn."""

    panel = "Evaluation"
    cap: int | None = setting(
        None, ge=1, help="Most response tokens.", refusal=ONE_TOKEN, wanted="a whole number of tokens",
        default_text="2048, or what the model has room for; to be named for a server",
    )  # fmt: skip
    samples: int = setting(1, ge=1, help="Samples per problem.", refusal="draw at least 1 response per problem")
    temperature: float = setting(
        1.0, ge=0, help="Sampling temperature; 0 is greedy.", refusal="give 0 (greedy) or a positive number"
    )
    top_p: float = setting(
        1.0, gt=0, le=1, help="Nucleus of the distribution that is drawn from.",
        refusal="give a number above 0 and up to 1",
    )  # fmt: skip
    seed: int | None = again(Common, "seed", panel=None, default_text="0; over an endpoint the server's own")
    sample_rows: int = setting(
        128, ge=1, help="Rows in flight while sampling.", refusal="give the rows in flight, at least 1"
    )  # fmt: skip
    stop_repeats: bool = setting(
        False, help="Cut a response once its last 256 tokens repeat a piece of at most 64."
    )  # fmt: skip

    @property
    def most_tokens(self) -> int:
        """The cap, where it is settled.

        Raises:
            ConfigError: it is to be chosen for a model yet.
        """
        if self.cap is None:
            raise ConfigError("cap is not given; name the most response tokens")
        return self.cap

    def context(self) -> JsonObject:
        """As records have it; ``stop_repeats`` only where it is on."""
        found: JsonObject = {name: getattr(self, name) for name in IN_RECORDS}
        return found if self.stop_repeats else {name: found[name] for name in IN_RECORDS[:-1]}

    @classmethod
    def of(cls, context: Mapping[str, object], **changes: object) -> Self:
        """The sampling of a record's context, with changes."""
        return cls.from_dict({name: context[name] for name in IN_RECORDS if name in context} | changes)


class Intervention(Settings):
    """Free baselines: what makes an untouched model's responses shorter while they are written; one at a time."""

    panel = "Evaluation"
    budget: int | None = setting(
        None, ge=1, help="End the thinking after so many tokens and ask for the answer.",
        refusal="give the most thinking tokens, at least 1",
    )  # fmt: skip
    early_stop: Literal["agree", "eat", "deer"] | None = setting(
        None,
        help="End the thinking and ask for the answer once one stands there twice (agree), or the model is sure of it: "
        "its next token's entropy stays (eat), a trial answer is likely (deer).",
    )
    short_of: int | None = setting(
        None, ge=2, help="Draw so many at once and take the first to finish.",
        refusal="the first to finish of one is no choice, give at least 2",
    )  # fmt: skip
    concise: bool = setting(False, help="Ask for brevity in the prompt.")
    no_think: bool = setting(False, help="Switch the thinking off, by the chat template's own switch.")
    native_budget: int | None = setting(
        None, ge=0, help="Most thinking tokens, kept by the server itself (vLLM, SGLang, llama.cpp); tried out first.",
        refusal="give the most thinking tokens, at least 0",
    )  # fmt: skip
    server_kind: ServerKind | None = setting(
        None, help="What the server is, for --native-budget.", default_text="what it says itself"
    )
    exit_threshold: float | None = setting(
        None, gt=0, help="--early-stop eat: variance of the entropy to stop below; deer: confidence to stop above.",
        default_text="2^-10 for eat, 0.95 for deer",
    )  # fmt: skip
    exit_warm_up: int | None = setting(
        None, ge=1, help="--early-stop eat: paragraphs before the first stop.", default_text="25"
    )  # fmt: skip
    answer_tokens: int | None = setting(
        None, ge=1, help="Most tokens after the answer was asked for.", default_text="256",
        refusal="an answer has at least 1 token",
    )  # fmt: skip
    answer_prompt: str | None = setting(
        None, help="Text that asks for the answer.", default_text="the preset's", metavar="text"
    )

    def check(self) -> None:
        """One at a time, and options only with what they belong to."""
        super().check()
        chosen = [name for name in BASELINES if _given(getattr(self, name))]
        if len(chosen) > 1:
            raise ConfigError(f"{' and '.join(chosen)} exclude each other; measure one at a time")
        for name in ("answer_tokens", "answer_prompt"):
            if getattr(self, name) is not None and not self.forces:
                raise ConfigError(f"{name} belongs to budget or early_stop; give one of them, or leave it out")
        if self.exit_threshold is not None and self.early_stop not in EXITS:
            raise ConfigError("exit_threshold belongs to early_stop eat or deer; give one of them, or leave it out")
        if self.exit_warm_up is not None and self.early_stop != "eat":
            raise ConfigError("exit_warm_up belongs to early_stop eat; give that, or leave it out")
        if self.early_stop == "deer" and self.threshold >= 1:
            raise ConfigError(f"exit_threshold is {self.threshold:g}; a confidence is below 1, as 0.95")

    @property
    def forces(self) -> bool:
        """Whether it may end the thinking and ask for the answer."""
        return self.budget is not None or self.early_stop is not None

    @property
    def answer_room(self) -> int:
        """Most tokens after the answer was asked for."""
        return self.answer_tokens or ANSWER_TOKENS

    @property
    def threshold(self) -> float:
        """Where an early stop that asks the model stops."""
        return self.exit_threshold or (EAT_THRESHOLD if self.early_stop == "eat" else DEER_THRESHOLD)

    @property
    def warm_up(self) -> int:
        """Paragraphs before the first stop on entropy."""
        return self.exit_warm_up or EAT_WARM_UP

    def context(self) -> JsonObject | None:
        """What is done, as records have it; None for nothing."""
        found: JsonObject = {name: getattr(self, name) for name in self.entries() if _given(getattr(self, name))}
        if self.forces:
            found["answer_tokens"] = self.answer_room
        if self.early_stop in EXITS:
            found["exit_threshold"] = self.threshold
        if self.early_stop == "eat":
            found["exit_warm_up"] = self.warm_up
        return found or None


def _given(value: object) -> bool:
    """Whether a setting is on; a number is, and so is 0."""
    return value is not None and value is not False


class Measuring(Settings):
    """What a run is measured on, before and after."""

    panel = "Evaluation"
    eval_data: str | None = setting(
        None, help="Problems to measure on.", default_text="a tenth of --data, split by a hash", metavar="file"
    )
    eval_limit: int = setting(200, ge=1, help="At most this many problems to measure on.")
    eval_samples: int = setting(1, ge=1, help="Samples per problem at temperature 1.")
    eval_cap: int | None = setting(
        None, ge=1, help="Most response tokens in evaluation.", refusal=ONE_TOKEN,
        default_text="8 times --cap, at least 512; 2048 under --cap auto",
    )  # fmt: skip
    stop_repeats: bool = again(
        Sampling, "stop_repeats", help="Cut a measured response once its last 256 tokens repeat a piece of at most 64."
    )


class Splits(Settings):
    """What the settings of a comparison are chosen on, and what is reported."""

    panel = "Evaluation"
    test_data: str | None = setting(
        None, help="Problems to report on.", default_text="a tenth of --data, split by a hash", metavar="file"
    )
    validation_limit: int = setting(200, ge=1, help="At most this many problems to choose settings on.")
    test_limit: int = setting(500, ge=1, help="At most this many problems to report on.")
    eval_samples: int = again(Measuring, "eval_samples", help="Samples per problem.")
    eval_cap: int | None = again(
        Measuring, "eval_cap", default_text="the world's; else 8 times a training cap given as a number, or 2048"
    )  # fmt: skip
    choose: Literal["aes", "shortest"] = setting("aes", help="How settings are chosen on validation.")
    baselines: bool = setting(True, help="Measure what needs no training, too.")
    margin: float = setting(
        0.01, ge=0, lt=1, help="Accuracy that may be lost without being inferior.",
        refusal="give a share of accuracy from 0 to below 1, as 0.01",
    )  # fmt: skip
