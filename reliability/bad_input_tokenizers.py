"""Tokenizer files and chat templates made wrong: a hostile template reads no file and does not hang."""

from __future__ import annotations

import functools
import json
import os
import random
from pathlib import Path
from typing import TYPE_CHECKING, cast

from lengthwise.grading.prompt_contract import preset, render, resolve
from lengthwise.grading.think_auto import decide
from lengthwise.json_types import JsonValue
from reliability._batches import INSIDE, OUT, Case, command, run
from reliability._harness import Ask, Tally, harness
from reliability._mutations import NAMES, changed_bytes, changed_value

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

FILES = ("tokenizer.json", "tokenizer_config.json", "config.json", "generation_config.json")
CANARY = "canary"
PLAIN = (
    "{% for m in messages %}<user> {{ m.content }} {% endfor %}{% if add_generation_prompt %}<bot> {% endif %}",
    "{{ bos_token }}{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] | trim }}{% endfor %}"
    "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n{% endif %}",
    "{% if messages[0].role == 'system' %}{{ raise_exception('no system role') }}{% endif %}{{ messages | tojson }}",
    "{% macro one(m) %}{{ m.content }}{% endmacro %}{% set ns = namespace(n=0) %}{% for m in messages[::-1] %}"
    "{% set ns.n = ns.n + 1 %}{{ one(m) }}{% endfor %}{{ ns.n }} ?",
)
HOSTILE = (
    "{% for a in range(99999) %}{% for b in range(99999) %}x{% endfor %}{% endfor %}",
    "{% for a in range(1000000000) %}x{% endfor %}",
    "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}?",
    "{{ 'x' * 10000000000 }}", "{{ 'x' * 99999999 }}", "{{ [0] * 10000000000 }}", "{{ 9 ** 9 ** 9 }}",
    "{{ 'x'.center(10000000000) }}", "{{ 'x' | center(10000000000) }}", "{{ '%10000000000d' % 1 }}",
    "{{ '{:10000000000}'.format(1) }}", "{{ 'x'.ljust(10000000000) }}", "{{ ('x' * 9999999) | wordwrap(1) }}",
    "{% set ns = namespace(s='xx') %}{% for a in range(60) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}{{ ns.s }}",
    "{% macro f(n) %}{{ f(n) }}{% endmacro %}{{ f(1) }}",
    "{% macro f(n) %}{{ f(n + 1) }}{{ f(n + 1) }}{% endmacro %}{{ f(1) }}",
    "{% include '/etc/passwd' %}", "{% import 'os' as os %}", "{% extends '/etc/passwd' %}",
    "{% from 'os' import system %}",
    "{{ ''.__class__.__mro__[1].__subclasses__() }}", "{{ messages.__class__ }}", "{{ self.__init__.__globals__ }}",
    "{{ ''['__class__'] }}", "{{ '' | attr('__class__') }}", "{{ '{0.__class__}'.format('') }}",
    "{{ '{0.__class__.__mro__}'.format_map({'0': ''}) }}", "{{ range.__init__ }}", "{{ raise_exception.__globals__ }}",
    "{{ namespace.__init__.__globals__['os'].system('touch canary') }}", "{{ cycler.__init__.__globals__.os }}",
    "{{ lipsum.__globals__['os'].popen('touch canary') }}", "{{ joiner.__init__.__globals__ }}",
    "{{ open('/etc/passwd') }}",
    "{{ strftime_now('%Y') * 1000000000 }}", "{{ strftime_now('%' ~ 'Y' * 99999999) }}",
    "{{ messages.append(messages) }}",
    "{% set _ = messages.clear() %}", "{{ messages | tojson(indent=1000000000) }}", "{{ 1 / 0 }}", "{{ [][0] }}",
    "{{ none.x.y }}",
    "{{ 'x' | int(base=99) }}", "{{ undefined_name() }}", "{{ 'a' | nosuchfilter }}", "{% break %}", "{{",
    "{% for %}", "{# ",
    "{{ messages | map(attribute='content') | list | first }}", "{{ 'x' | urlize }}", "{{ dict(a=1).update(b=2) }}",
    "{{ (1, 2) | batch(10000000000, 'x') | list }}", "{{ 'x' | indent(10000000000, true) }}", "{{ 1 | round(-400) }}",
    "{{ messages | pprint }}", "{% generation %}{{ messages[0].content }}{% endgeneration %}",
    "{{ 'x'.encode('idna') }}",
    "{{ ('a' * 30 + '!') is match }}", "{{ '1' * 5000 | int }}", "{{ ('1' * 5000) | int }}",
    "{% call x() %}{% endcall %}",
    "{{ ('((' * 100) ~ '[' * 100 }}", "{% if " + "(" * 500 + "1" + ")" * 500 + " %}{% endif %}", "{{ -" * 300,
    "{{ 1" + "+1" * 3000 + " }}",
    "{% for i in range(9) recursive %}{{ loop(range(9)) }}{% endfor %}", "{{ caller() }}", "{{ loop }}",
    "{{ super() }}",
)  # fmt: skip


@harness("bad-tokenizers", "Bad input", "tokenizer files, and chat templates that are hostile or broken", cases=1500)
def bad_tokenizers(ask: Ask) -> Tally:
    """Files through ``grade --tokenizer``; templates as every command renders a prompt through them."""
    return run("bad_input_tokenizers", ask)


def make(rng: random.Random, place: Path) -> Case:
    """Files of a tokenizer, or a template."""
    return _files(rng, place) if rng.random() < 0.5 else _template(rng, place)


def _files(rng: random.Random, place: Path) -> Case:
    """The lab's tokenizer with one of its files changed; counted with."""
    folder = place / INSIDE / rng.choice(NAMES)
    folder.mkdir()
    for name, data in _sound().items():
        (folder / name).write_bytes(data)
    changed = rng.choice(FILES)
    data = _sound()[changed]
    if rng.random() < 0.6:
        data = json.dumps(changed_value(cast("JsonValue", json.loads(data)), rng)).encode("utf-8", "surrogatepass")
    (folder / changed).write_bytes(changed_bytes(data, rng) if rng.random() < 0.5 else data)
    (place / INSIDE / "log.jsonl").write_text(json.dumps({"problem": "1+1", "response": "A:2", "answer": "2"}) + "\n")
    words = ("--tokenizer", os.path.relpath(folder, place), "--preset", "lab", "--out", f"{OUT}/graded.jsonl")
    return Case(f"tokenizer's {changed}", command("grade", f"{INSIDE}/log.jsonl", *words))


@functools.cache
def _sound() -> dict[str, bytes]:
    from lengthwise.lab.reasoner import shipped_reasoner

    return {name: (Path(shipped_reasoner()) / name).read_bytes() for name in FILES}


def _template(rng: random.Random, place: Path) -> Case:
    """A prompt through a template, with the question how it thinks before it, as every command asks it."""
    if rng.random() < 0.5:
        text = rng.choice(HOSTILE)
    else:
        text = changed_bytes(rng.choice([*PLAIN, *PLAIN, *HOSTILE]).encode(), rng)[:20_000].decode("utf-8", "replace")
    if rng.random() < 0.1:
        text = rng.choice(PLAIN) + text
    contract = preset("math", think_prefix="<think>\n", system_prompt=rng.choice(["", "be brief"]) or None)

    def act() -> None:
        made = _tokenizer(text)
        row = {"problem": "7 + 5 ?", "answer": "12"}
        render(resolve(decide(contract, made, rng.choice(["auto", "yes", "no", "marks"])), made), made, row)

    def check() -> str | None:
        return "the template's code ran" if (place / CANARY).exists() else None

    return Case(f"template {text[:60]!r}", act, check)


def _tokenizer(template: str) -> PreTrainedTokenizerFast:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = ["<pad>", "<eos>", "<unk>", "<user>", "<bot>", "?", "7", "+", "5", "<think>", "</think>"]
    core = Tokenizer(models.WordLevel({word: place for place, word in enumerate(words)}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made = PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<eos>", pad_token="<pad>")
    made.chat_template = template
    return made
