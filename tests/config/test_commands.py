"""Settings of the commands: each name defined once, defaults valid, the same after every round trip, old names told."""

from __future__ import annotations

import inspect
import json
from collections import Counter
from collections.abc import Iterator

import pytest

from lengthwise.config import files, renames, tables, values
from lengthwise.config.command import Command
from lengthwise.config.commands import COMMANDS
from lengthwise.config.definition import PANELS, facts_of
from lengthwise.config.settings import Settings, groups, is_group
from lengthwise.errors import ConfigError

REQUIRED = {
    "grade": {"log": "log.jsonl"},
    "evaluate": {"model": "m", "data": "d"},
    "demo": {},
    "shorten": {"model": "m", "data": "d", "out": "o"},
    "compare": {"model": "lab:chains", "methods": ["grpo", "dler"], "out": "o"},
    "methods": {},
    "doctor": {},
    "generate": {"model": "m", "prompt": "Once"},
    "extend": {"model": "m", "scheme": "yarn", "factor": 4.0, "out": "o"},
    "evaluate-context": {"models": ["m"], "lengths": "1k,2k"},
    "merge": {"models": ["a", "b"], "method": "linear", "out": "o"},
    "repair": {"model": "m", "harmful": "rows.jsonl", "out": "o"},
    "export": {"engine": "trl", "model": "m", "data": "d", "cap": 100, "out": "o"},
    "report": {"runs": ["r"]},
    "compare-records": {"records": ["a.json", "b.json"]},
}
EACH = pytest.mark.parametrize("name", COMMANDS)


def made(name: str, **more: object) -> Command:
    return COMMANDS[name].from_dict({**REQUIRED[name], **more})


def all_classes(kind: type[Settings] = Settings) -> Iterator[type[Settings]]:
    for below in kind.__subclasses__():
        if below.__module__.startswith("lengthwise.config."):  # methods name their options for themselves
            yield below
            yield from all_classes(below)


def refusal(name: str, **given: object) -> str:
    with pytest.raises(ConfigError) as caught:
        made(name, **given)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_every_setting_is_defined_once():
    defined = Counter(
        field
        for kind in set(all_classes())
        for field, info in kind.model_fields.items()
        if field in inspect.get_annotations(kind) and not is_group(info) and facts_of(info).defined
    )
    assert {field: count for field, count in defined.items() if count != 1} == {}
    used = {entry.attribute for kind in COMMANDS.values() for entry in kind.entries().values()}
    assert used - defined.keys() == set(), "a command has a setting that nothing defines"
    assert defined.keys() - used - {"models"} == set(), "a definition that no command uses"


def test_a_setting_is_of_one_panel_kind_and_has_one_line_of_help():
    for kind in COMMANDS.values():
        for entry in kind.entries().values():
            assert entry.panel in PANELS, entry.key
            assert entry.facts.help.endswith("."), entry.key
            assert "\n" not in entry.facts.help, entry.key


def test_no_group_is_called_like_a_setting_of_any_command():
    names = {key for kind in COMMANDS.values() for key in kind.entries()}
    assert names & {name for kind in COMMANDS.values() for name in groups(kind)} == set()


@EACH
def test_defaults_are_valid_and_survive_every_round_trip(name, tmp_path):
    found, kind = made(name), COMMANDS[name]
    assert kind.from_dict(found.to_dict()) == found
    assert kind.from_dict(json.loads(json.dumps(found.to_dict(), allow_nan=False))) == found
    file = tmp_path / "run.yaml"
    file.write_text(files.dump_yaml(found), encoding="utf-8")
    assert files.merged(kind, files.load(file), {}) == found
    assert found.changed().keys() == REQUIRED[name].keys()
    assert found.replace() == found


@EACH
def test_every_default_is_a_value_of_its_type(name):
    # what is shown as a default on the command line is read back as that default
    for key, entry in COMMANDS[name].entries().items():
        if entry.default in (None, (), "") or isinstance(entry.default, bool) or entry.facts.read is not None:
            continue
        assert values.from_text(values.as_flag(entry.default), entry.annotation, entry.facts) == entry.default, key


@EACH
def test_unknown_and_frozen(name):
    key = next(iter(COMMANDS[name].entries()))
    assert f"did you mean {key}" in refusal(name, **{key + "x": 1})
    with pytest.raises(ValueError, match="frozen"):
        made(name).out = 3


@EACH
def test_a_number_out_of_bounds_is_refused_by_name(name):
    for key, entry in COMMANDS[name].entries().items():
        low = entry.facts.ge if entry.facts.ge is not None else entry.facts.gt
        if low is None:
            continue
        value: object = low - 1 if entry.facts.ge is not None else low
        kinds = values.parts(values.entry_type(entry.annotation) or entry.annotation)
        value = int(low) - 1 if int in kinds else float(value)  # type: ignore[arg-type]
        text = refusal(name, **{key: [value] if values.entry_type(entry.annotation) else value})
        assert text.startswith(f"{key} is {value}; "), text


@EACH
def test_what_a_run_folder_keeps_makes_the_same_run(name, tmp_path):
    found = made(name)
    transient = {key for key, entry in found.entries().items() if entry.facts.transient}
    (tmp_path / "config.json").write_text(json.dumps(files.run_config(found, environment={"seed": 3})))
    back = files.merged(
        COMMANDS[name], files.load(tmp_path), {key: REQUIRED[name][key] for key in transient & REQUIRED[name].keys()}
    )
    assert back == found


def test_words_of_one_meaning_are_one_word():
    names = {key for kind in COMMANDS.values() for key in kind.entries()}
    assert names & {"max_tokens", "micro_tokens", "problems", "num_problems", "eval_problems", "batch_size"} == set()
    assert all("model" in kind.entries() or "models" in kind.entries() for name, kind in COMMANDS.items()
               if name not in ("grade", "demo", "methods", "report", "compare-records", "doctor"))  # fmt: skip


def test_old_names_are_told_the_new_ones():
    for row in renames.RENAMES:
        for command in row.commands:
            kind = COMMANDS[command]
            assert str(kind.no_such_flag(row.old)) == f"{row.old} is now {row.text}"
            if row.text.startswith(renames.ARGUMENT):
                continue
            key = row.old.removeprefix("--").replace("-", "_")
            assert refusal(command, **{key: 1}) == f"{key} is now {row.as_key()}"
            assert row.as_key().partition(":")[0] in kind.entries()
            assert key not in kind.entries()
    assert refusal("shorten", no_think=True) == "no_think is now think: no"
    assert "| `--micro-tokens` | `--micro-batch-tokens` | shorten, compare |" in renames.rename_table()


def test_refused_flags_give_the_reason():
    assert str(COMMANDS["shorten"].no_such_flag("--top-p")).startswith("--top-p is not taken: training samples by")
    assert refusal("extend", **{"lambda": True}).startswith("lambda cannot be written into a folder")


def test_the_cap_of_training_and_its_schedules():
    assert made("shorten", cap=512).schedule.cap == 512
    assert "its longest cap is not given; add --longest" in refusal("shorten", cap="stair")
    assert "which does not move" in refusal("shorten", cap=64, cycle=3)
    assert refusal("shorten", cap="much") == (
        "cap is 'much'; give a whole number of tokens, auto, or cosine, stair, stair-cosine"
    )
    assert made("compare", cap="0.8L").caps.cap == "0.8L"
    assert made("compare", cap="300").caps.cap == 300
    assert "p95, or 0.8L" in refusal("compare", cap="p")


def test_a_lab_model_is_compared_at_a_higher_rate_unless_one_is_given():
    assert made("compare").training.lr == 1e-4
    assert made("compare", model="m", data="d").training.lr == 1e-6
    assert made("compare", lr=3e-5).training.lr == 3e-5


def test_a_servers_seed_is_its_own_unless_given():
    server = {"endpoint": "http://h:1", "cap": 9}
    assert (made("evaluate").sampling.seed, made("evaluate", **server).sampling.seed) == (0, None)
    assert made("evaluate", **server, seed=0).sampling.seed == 0
    assert "cap is not given" in refusal("evaluate", endpoint="http://h:1")
    assert "password" in refusal("evaluate", **{**server, "endpoint": "http://me:secret@h:1"})
    assert "secret" not in refusal("evaluate", **{**server, "endpoint": "http://me:secret@h:1"})
    assert refusal("evaluate", **{**server, "endpoint": "ftp://h"}).startswith("endpoint is 'ftp://h'; write for")


def test_options_come_as_texts_a_list_or_a_table():
    texts = ("alpha=0.5", "flat=true", "cap=none", "levels=1,2")
    assert made("shorten", option=list(texts)).option == texts
    assert made("shorten", option={"alpha": 0.5, "flat": True, "cap": None, "levels": [1, 2]}).option == texts
    assert made("shorten", option="alpha=0.5").option == ("alpha=0.5",)
    assert made("compare", sweep={"dler:cap": [100, 200]}).sweep == ("dler:cap=100,200",)
    assert refusal("shorten", option=3) == "option is 3; give name=value, as a list or a table"


def test_settings_that_exclude_each_other():
    assert "exclude each other" in refusal("evaluate", budget=3, concise=True)
    assert refusal("evaluate", window=3) == "window is set without --lambda; give --lambda too"
    assert refusal("shorten", updates=20) == (
        "updates is 20 but a batch has 16 groups, and groups stay whole; give at most one update per prompt"
    )
    assert "merge_back is 0.25" in refusal("shorten", merge_back=[0.25])
    assert "give density,scale" in refusal("shorten", merge_back="a,b")
    assert "are the same file" in refusal("grade", out="a", record="a")
    assert "the log are the same file" in refusal("grade", report="log.jsonl")
    assert "give one of them" in refusal("generate", stream=True, json=True)
    assert "one of them" in refusal("generate", prompt_file="f")
    assert "needs --data FILE" in refusal("evaluate-context", tasks="lines,freeform-qa")
    assert "need the model's weights" in refusal(
        "evaluate-context", endpoint="http://h", tokenizer="t", scheme=["lambda"]
    )
    assert refusal("compare-records", out="page.txt").endswith(".html, the PNG is written beside it")


def test_a_repair_says_what_would_change_nothing():
    assert "no rows to score on" in refusal("repair", harmful=None)
    assert "needs both --judge and --data" in refusal("repair", judge="flag:x")
    assert refusal("repair", rows="3:2").startswith("rows is 3:2, which holds no row")
    assert refusal("repair", rows="3").startswith("rows is '3'; give START:STOP")
    assert "needs a reference" in refusal("repair", mode="reset")
    assert "does not use it" in refusal("repair", mode="zero", reference="r")
    given = {**REQUIRED["repair"], "seed": 1}
    with pytest.raises(ConfigError, match="^--seed has no effect without a random control to draw"):
        files.merged(COMMANDS["repair"], None, given)
    assert files.merged(COMMANDS["repair"], None, {**given, "control": "random"}).choice.seed == 1
    assert refusal("repair", prompt_template="Q: {prompt}").endswith("for the harmful rows, as --harmful-template")
    assert made("repair", rows="2:").rows_scored.span == (2, None)


def test_lengths_are_counted_in_thousands_of_1024():
    assert made("evaluate-context", lengths="2k,1k,64,1k").reading.lengths == (64, 1024, 2048)
    assert made("evaluate-context", lengths=[64, "1k"]).reading.lengths == (64, 1024)
    assert refusal("evaluate-context", lengths="1m") == (
        "lengths is '1m'; give token counts with commas, for example 1k,2k,4096"
    )


@EACH
def test_tables_name_every_setting_once_under_its_heading(name):
    page = tables.options_table(COMMANDS[name])
    for entry in COMMANDS[name].entries().values():
        shown = entry.facts.metavar if entry.facts.positional else entry.flag
        assert page.count(f"| `{shown}`") == 1, shown
    assert [line.removeprefix("### ") for line in page.splitlines() if line.startswith("#")] == [
        panel for panel in PANELS if any(entry.panel == panel for entry in COMMANDS[name].entries().values())
    ]
    rows = [line for line in page.splitlines() if line.startswith("| ")]
    assert all(line.replace("\\|", "").count("|") == 4 for line in rows)


def test_a_row_that_three_commands_have_stands_once_for_all():
    shared = tables.common_rows(COMMANDS.values())
    device = "| `--device` text | auto | auto, cpu, cuda, cuda:1 ...; one device. |"
    assert shared[device] == "Model" and tables.common_table(shared).count("`--device`") == 1
    table = tables.options_table(COMMANDS["shorten"], shared, "settings.md")
    assert device not in table and "[In common](settings.md#model): `--device`, " in table
    assert "| `--dtype` float32" in table, "of another kind than the commonest: a row of its own"


@EACH
def test_every_command_has_two_examples_that_are_its_own(name):
    assert len(COMMANDS[name].examples) == 2
    assert all(example.startswith(f"lengthwise {name}") for example in COMMANDS[name].examples)


@EACH
def test_what_needs_others_is_a_setting_of_the_command(name):
    assert {key for need in COMMANDS[name].needs for key in need.names} <= COMMANDS[name].entries().keys()


def test_a_setting_without_effect_is_refused_where_it_was_asked_for(tmp_path):
    kind, given = COMMANDS["extend"], {**REQUIRED["extend"], "steps": 3}
    assert kind.from_dict(given).training.steps == 3, "Python may set what is not used"
    with pytest.raises(ConfigError, match="^--steps has no effect without --data, .*; leave it out, or change that$"):
        files.merged(kind, None, given)
    file = tmp_path / "run.yaml"
    file.write_text("command: extend\nsteps: 3\n")
    with pytest.raises(ConfigError, match="run.yaml, line 2: steps has no effect without --data"):
        files.merged(kind, files.load(file), REQUIRED["extend"])
    file.write_text("steps: 0\n")  # its default, as a file of all settings has it
    assert files.merged(kind, files.load(file), REQUIRED["extend"]).training.steps == 0


def test_numbers_beyond_any_use_are_refused():
    assert refusal("shorten", steps=10**13) == (
        "steps is 10000000000000, beyond any use; give a number up to 1,000,000,000,000"
    )
    assert refusal("shorten", lr=1e300).startswith("lr is 1e+300, beyond any use")
    assert refusal("repair", fractions=[0.1, 2]).startswith("fractions is 2")
    assert made("shorten", seed=2**63 - 1).training.seed == 2**63 - 1
    assert refusal("shorten", seed=2**63).startswith("seed is 9223372036854775808, beyond")
