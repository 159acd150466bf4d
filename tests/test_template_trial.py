"""A chat template of a stranger's ends within bounds and reads nothing; a sound one is rendered as ever."""

from __future__ import annotations

import pytest
from thinking_templates import PLAIN, tokenizer

from lengthwise import template_trial
from lengthwise.errors import ConfigError
from lengthwise.template_trial import render_chat

ASKED = [{"role": "user", "content": "7 + 5 ?"}]
ENDLESS = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"


@pytest.mark.parametrize(
    ("template", "said"),
    [
        (ENDLESS, "does not end within 1 seconds"),
        ("{{ 9 ** 999999999 }}", "does not end within 1 seconds"),  # jinja computes it while it compiles
        ("{{ 'x' * 10000000000 }}", "wants more than 1024 MiB"),
        ("{{ 'x' * 9999999 }}", "makes 9,999,999 characters of one question"),
        ("{% include '/etc/passwd' %}", "refuses a conversation of user"),
        ("{{ ''.__class__.__mro__ }}", "refuses a conversation of user"),
        ("{{ lipsum.__globals__['os'].system('true') }}", "refuses a conversation of user"),
        ("{{ 1 / 0 }}", r"\(division by zero\)"),
        ("{% for %}", "refuses a conversation of user"),
    ],
)
def test_a_hostile_template_is_refused_in_one_line(template: str, said: str, monkeypatch) -> None:
    monkeypatch.setattr(template_trial, "CPU_SECONDS", 1)
    with pytest.raises(ConfigError, match=said) as refused:
        render_chat(tokenizer(template, []), ASKED)
    assert "\n" not in str(refused.value)


def test_a_sound_template_renders_as_transformers_renders_it() -> None:
    made = tokenizer(PLAIN, [])
    assert render_chat(made, ASKED) == made.apply_chat_template(ASKED, tokenize=False, add_generation_prompt=True)


def test_the_process_ends_by_itself_and_another_one_follows(monkeypatch) -> None:
    monkeypatch.setattr(template_trial, "IDLE_SECONDS", 1)
    for number in range(2):
        assert render_chat(tokenizer(f"{PLAIN} {number}", []), ASKED).endswith(str(number))
    assert template_trial._running[0].wait(timeout=30) == 0
