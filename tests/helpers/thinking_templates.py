"""Chat templates that know of thinking in each way that templates do, and a small tokenizer that carries one."""

from __future__ import annotations

from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

PLAIN = "{% for m in messages %}<user> {{ m.content }} {% endfor %}{% if add_generation_prompt %}<bot> {% endif %}"
# Knows of thinking as most templates do: it takes it out of earlier turns.
STRIPS = PLAIN.replace("{{ m.content }}", "{{ m.content.split('</think>')[-1] }}")
OPENS = PLAIN.replace("<bot> ", "<bot> <think>\n")
CLOSES = PLAIN.replace("<bot> ", "<bot> <think>\n\n</think>\n\n")
# On unless it is switched off, as Qwen 3's; off unless it is switched on, as DeepSeek V3.1's, by its other name.
SWITCH = "<bot> {% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n{% endif %}"
HYBRID = STRIPS.replace("<bot> ", SWITCH)
ON_DEMAND = PLAIN.replace("<bot> ", "<bot> {% if thinking %}<think>{% else %}</think>{% endif %}")
SILENT = STRIPS.replace("<bot> ", "<bot> {% if thinking %}Think! {% endif %}")
KIMI = PLAIN.replace("{{ m.content }}", "{{ m.content.split('◁/think▷')[-1] }}")
OSS = PLAIN.replace("<bot> ", "<bot> {% if false %}<|channel|>analysis<|message|>{% endif %}")
THINK = ["<think>", "</think>"]


def tokenizer(template: str | None, extra: list[str]) -> PreTrainedTokenizerFast:
    words = ["<pad>", "<eos>", "<unk>", "<user>", "<bot>", "?", "7", "+", "5", "analysis"]
    core = Tokenizer(models.WordLevel({word: place for place, word in enumerate(words)}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made = PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<eos>", pad_token="<pad>", unk_token="<unk>")
    made.add_tokens(extra)
    made.chat_template = template
    return made
