"""Python of the user's own: it loads as an import would, and whatever it raises is one line with its place, exit 2."""

from __future__ import annotations

import json
import pickle
import sys
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch

from lengthwise.cli import main
from lengthwise.engine.method import LossInputs, Method
from lengthwise.errors import ConfigError, InputError, LengthwiseError
from lengthwise.lab import chains
from lengthwise.lab.reasoner import shipped_reasoner
from lengthwise.methods import build_method, options_of, read_option
from lengthwise.statistics.harm import load_judge
from lengthwise.user_code import from_file

DLER = "from lengthwise.methods import dler\n"
DATACLASS = """
from __future__ import annotations
import dataclasses, typing
from typing import Literal
from lengthwise.methods import dler
if typing.TYPE_CHECKING:
    from nowhere import Nothing

@dataclasses.dataclass(frozen=True)
class Settings:
    alpha: float
    names: list[str] = dataclasses.field(default_factory=list)

def method(
    *, cap: int, alpha: float, count: int = 2, share: float = 1, flag: bool = False, word: str = "3",
    kind: Literal["plain", "fancy"] = "plain", limit: int | None = None, either: typing.Optional[float] = None,
    bare=0.5, unknown: Nothing = 7,
):
    said = Settings(alpha)
    base = dler(cap=cap)
    given = dict(alpha=said.alpha, count=count, share=share, flag=flag, word=word, kind=kind, limit=limit,
                 either=either, bare=bare, unknown=unknown)
    return dataclasses.replace(base, name="mine", options={"cap": cap, **given})
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    before, modules = list(sys.path), set(sys.modules)
    yield tmp_path
    assert sys.path == before
    for name in set(sys.modules) - modules:
        del sys.modules[name]


def written(here: Path, text: str, name: str = "mine.py") -> str:
    (here / name).write_text(text)
    return name


# ------------------------------------------------------------------------------------------------------- loading


def test_a_file_with_postponed_annotations_and_a_dataclass_loads(here: Path) -> None:
    made = build_method(written(here, DATACLASS), cap=6, alpha=0.5)
    assert (made.name, made.options["alpha"]) == ("mine", 0.5)


def test_a_file_is_run_once_for_each_of_its_contents_and_hides_no_other_module(here: Path) -> None:
    text = "import helper_beside_it\nimport json as found\nruns = []\nclass Kept: pass\n"
    written(here, "value = 3\n", "helper_beside_it.py")
    module = from_file(Path(written(here, text, "json.py")), "file")
    assert module is from_file(here / "json.py", "file") and module.found is json
    assert module.helper_beside_it.value == 3
    assert isinstance(pickle.loads(pickle.dumps(module.Kept())), module.Kept)
    written(here, text + "more = 1\n", "json.py")
    assert from_file(here / "json.py", "file").more == 1


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("x = 1\n\ny = 1 / 0\n", "cannot be run: ZeroDivisionError: division by zero (mine.py, line 3)"),
        ("def f():\n    return [\n", "cannot be run: SyntaxError: '[' was never closed (mine.py, line 2)"),
        ("import json\njson.loads('{')\n", "(mine.py, line 2)"),  # raised in Python's library, called from here
        ("import sys\nsys.exit(0)\n", "it leaves the program; put what it does as a program under if __name__"),
        ("raise ValueError('two\\nlines')\n", "ValueError: two lines (mine.py, line 1)"),
        ("from lengthwise.methods import build_method\nbuild_method('drop', cap=3)\n", "did you mean drpo"),
    ],
)
def test_what_a_file_raises_on_import_is_one_line_with_its_place(here: Path, text: str, says: str) -> None:
    modules = set(sys.modules)
    with pytest.raises(ConfigError) as raised:
        build_method(written(here, text), cap=6)
    assert says in str(raised.value) and "\n" not in str(raised.value)
    assert not [name for name in set(sys.modules) - modules if "mine" in name]


def test_a_file_that_cannot_be_read_is_one_line(here: Path) -> None:
    (here / "mine.py").write_bytes(b"\xff\x00\xfe")
    with pytest.raises(ConfigError, match=r"method is 'mine.py': it cannot be run: SyntaxError: "):
        build_method("mine.py", cap=6)


def test_what_a_maker_raises_is_one_line_with_its_place(here: Path) -> None:
    name = written(here, "def method(*, cap, **more):\n    return {}['gone']\n")
    with pytest.raises(ConfigError, match=r"method 'mine.py' could not be made: KeyError: 'gone' \(mine.py, line 2\)"):
        build_method(name, cap=6)
    name = written(here, f"{DLER}def method(*, cap):\n    return dler(cap=cap, lam=1)\n")
    with pytest.raises(ConfigError, match=r"method 'dler' has no option 'lam'; .*\(mine.py, line 3\)"):
        build_method(name, cap=6)


# ------------------------------------------------------------------------------------------------------- options


@pytest.mark.parametrize(
    ("option", "text", "wanted"),
    [
        ("alpha", "0.5", 0.5), ("alpha", "1e-3", 1e-3), ("alpha", "2", 2.0), ("count", "3", 3), ("share", "0.5", 0.5),
        ("flag", "true", True), ("flag", "False", False), ("word", "3", "3"), ("word", "none", "none"),
        ("kind", "fancy", "fancy"), ("limit", "4", 4), ("limit", "none", None), ("either", "1", 1.0),
        ("bare", "2", 2.0), ("unknown", "8", 8),
    ],
)  # fmt: skip
def test_an_option_is_what_it_is_annotated_as(here: Path, option: str, text: str, wanted: Any) -> None:
    found = read_option(written(here, DATACLASS), option, text)
    assert found == wanted and type(found) is type(wanted)


@pytest.mark.parametrize(
    ("option", "text", "says"),
    [
        ("alpha", "half", "option alpha is 'half'; give a number"),
        ("alpha", "none", "option alpha is 'none'; give a number"),
        ("count", "0.5", "option count is '0.5'; give a whole number"),
        ("flag", "1", "option flag is '1'; give true or false"),
        ("kind", "odd", "option kind is 'odd'; give one of plain, fancy"),
        ("limit", "x", "option limit is 'x'; give a whole number or none"),
        ("bonsu", "1", "method 'mine.py' has no option 'bonsu'"),
    ],
)
def test_wrong_text_names_option_value_and_what_is_wanted(here: Path, option: str, text: str, says: str) -> None:
    with pytest.raises(ConfigError) as raised:
        read_option(written(here, DATACLASS), option, text)
    assert says in str(raised.value)


def test_options_without_a_star_and_open_options_are_taken(here: Path) -> None:
    name = written(
        here, "from lengthwise.methods import dler\ndef method(cap, alpha: float = 1):\n  return dler(cap=cap)\n"
    )
    assert set(options_of(name)) == {"cap", "alpha"} and read_option(name, "alpha", "2") == 2.0
    name = written(
        here, "from lengthwise.methods import dler\ndef method(*, cap, **rest):\n  return dler(cap=cap, **rest)\n"
    )
    read = {
        option: read_option(name, option, text) for option, text in (("clip_high", "0.3"), ("aggregate", "token-mean"))
    }
    assert build_method(name, cap=6, **read).options["clip_high"] == 0.3
    name = written(here, "def method(*, cap, pairs: list[int]):\n    pass\n")
    with pytest.raises(ConfigError, match="option pairs wants list.*cannot be written as text"):
        read_option(name, "pairs", "1,2")


def test_a_dataclass_may_be_the_maker_of_its_fields(here: Path) -> None:
    name = written(
        here,
        "from __future__ import annotations\nimport dataclasses\nfrom lengthwise.methods import dler\n"
        "@dataclasses.dataclass\nclass Mine:\n    cap: int\n    alpha: float = 1\n"
        "    def made(self):\n        return dataclasses.replace(dler(cap=self.cap), name=str(self.alpha))\n"
        "def method(*, cap: int, alpha: float = 1): return Mine(cap, alpha).made()\n",
    )
    assert build_method(name, cap=6, alpha=read_option(name, "alpha", "0.25")).name == "0.25"
    assert read_option("mine:Mine", "alpha", "3") == 3.0


@pytest.mark.parametrize(
    ("method", "option", "text", "wanted"),
    [
        ("dler", "dual_clip", "none", None), ("dler", "dual_clip", "4", 4.0), ("dler", "weights", "tokens", "tokens"),
        ("da-dler", "easy_cap", "3", 3), ("siri", "shortest", "5", 5), ("grpo", "divide_by_std", "false", False),
        ("ada-r1", "epsilon", "0.1", 0.1), ("laser", "target", "7", 7), ("alp", "kl_coef", "0", 0.0),
    ],
)  # fmt: skip
def test_options_of_methods_by_name_are_read_the_same_way(method: str, option: str, text: str, wanted: Any) -> None:
    found = read_option(method, option, text)
    assert found == wanted and type(found) is type(wanted)


# --------------------------------------------------------------------------------------------------- its functions

PARTS = """
import dataclasses
from lengthwise.engine.method import ExtraLoss, Observation, Stage
from lengthwise.methods import grpo
def fails(*given):
    return given[99]
def method(*, cap):
    base = grpo(cap=cap)
    return dataclasses.replace(base, {changes})
"""
INPUTS = LossInputs(
    torch.zeros(2, 4, requires_grad=True), torch.zeros(2, 4), torch.ones(2), torch.ones(2, 4) > 0,
    tiny.rollouts([4, 4]), 8.0,
)  # fmt: skip
CALLS: dict[str, tuple[str, Any]] = {
    "cap": ("cap=fails", lambda m: m.cap(0, {})),
    "keep": ("keep=fails", lambda m: m.keep(tiny.rollouts([2, 4]))),
    "reward": ("reward=fails", lambda m: m.reward(tiny.rollouts([2, 4]), {})),
    "advantage": ("advantage=fails", lambda m: m.advantage(torch.ones(2), tiny.rollouts([2, 4]))),
    "loss": ("loss=fails", lambda m: m.loss(INPUTS)),
    "normaliser": ("normaliser=fails", lambda m: m.normaliser(tiny.rollouts([2, 4]))),
    "shared": ("shared=fails", lambda m: m.shared(1, 2, 3)),
    "prompts": ("prompts=fails", lambda m: m.prompts(len)),
    "initial_state": ("initial_state=fails", lambda m: m.initial_state()),
    "update_state": ("update_state=fails", lambda m: m.update_state({}, None)),
    "observe": ("observe=Observation(1, 1, fails)", lambda m: m.observe.update({}, None)),
    "odd loss": (
        "needs=('bare_prompt_ids',), extra_losses=(ExtraLoss('odd loss', 1.0, fails),)",
        lambda m: m.extra_losses[0].function(None),
    ),
    "stage first": ("prepare=(Stage('first', fails),)", lambda m: m.prepare[0].run(None)),
    "stage last": ("finish=(Stage('last', fails),)", lambda m: m.finish[0].run(None)),
}


@pytest.mark.parametrize("part", CALLS)
def test_what_any_function_raises_names_method_file_and_line(here: Path, part: str) -> None:
    changes, call = CALLS[part]
    made = build_method(written(here, PARTS.format(changes=changes)), cap=6)
    with pytest.raises(InputError) as raised:
        call(made)
    said = "IndexError: tuple index out of range (mine.py, line 6)"
    assert str(raised.value) == f"the {part} of 'mine.py' raised {said}"
    assert isinstance(raised.value.__cause__, IndexError)


@pytest.mark.parametrize(
    ("changes", "part", "says"),
    [
        ("cap=lambda *_: '6'", "cap", "gave str; give a finite number"),
        ("cap=lambda *_: float('nan')", "cap", "gave nan; give a finite number"),
        ("keep=lambda r: r.num_tokens", "keep", "gave (2,) of int64; give a bool tensor"),
        ("reward=lambda r, s: [1.0, 2.0]", "reward", "gave list; give a tensor with one number for each of 2 rows"),
        ("advantage=lambda a, r: a[:1]", "advantage", "gave (1,) of float32; give floats"),
        ("advantage=lambda a, r: a / 0", "advantage", "not finite"),
        ("loss=lambda i: i.logp.sum()", "loss", "gave () of float32; give the loss and a dict"),
        ("loss=lambda i: (i.logp, {})", "loss", "give a loss of one number"),
        ("loss=lambda i: (i.old_logp.sum(), {})", "loss", "does not depend on inputs.logp"),
        ("normaliser=lambda r: 0", "normaliser", "gave 0; give a number above 0"),
        ("prompts=lambda ask: []", "prompts", "gave list; give a list of"),
        ("initial_state=lambda: {'a': {1, 2}}", "initial_state", "gave what JSON cannot hold"),
        ("update_state=lambda s, r: {3: 1}", "update_state", "gave dict; give a dict by names"),
    ],
)
def test_what_a_function_gives_is_looked_at(here: Path, changes: str, part: str, says: str) -> None:
    made = build_method(written(here, PARTS.format(changes=changes)), cap=6)
    with pytest.raises(InputError) as raised:
        CALLS[part][1](made)
    assert f"the {part} of 'mine.py' gave" in str(raised.value) and says in str(raised.value)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ("reward=3", "the reward of 'mine.py' is 3; give a function"),
        ("prepare=[fails]", "the prepare of 'mine.py' is .*give a tuple of lengthwise.engine.method.Stage"),
        ("observe=(1, 2, fails)", r"could not be made: AttributeError: .* \(mine.py, line 9\)"),
    ],
)
def test_a_part_that_is_none_is_refused(here: Path, changes: str, says: str) -> None:
    with pytest.raises(LengthwiseError, match=says):
        build_method(written(here, PARTS.format(changes=changes)), cap=6)


def test_an_error_of_ours_keeps_its_kind_and_gets_its_place(here: Path) -> None:
    text = "from lengthwise.objectives import constant_cap\ndef reward(r, s):\n    return constant_cap(0, cap=0)\n"
    with pytest.raises(ConfigError, match=r"cap is 0.* \(mine.py, line 3\)"):
        build_method(written(here, text), cap=6).reward(tiny.rollouts([2, 4]), {})


def test_a_guarded_method_is_the_method(here: Path) -> None:
    made = build_method(written(here, PARTS.format(changes="name='same'")), cap=6)
    plain = build_method("grpo", cap=6)
    assert isinstance(made, Method) and made.keep is None and made.shared is None
    rollouts = tiny.rollouts([2, 4], correct=[True, False])
    rewards = made.reward(rollouts, {})
    assert torch.equal(made.advantage(rewards, rollouts), plain.advantage(plain.reward(rollouts, {}), rollouts))
    assert made.loss(INPUTS)[0] == plain.loss(INPUTS)[0]


def test_an_own_reward_s_options_are_rehearsed(here: Path) -> None:
    name = written(here, "def reward(rollouts, state):\n    return rollouts.correct\n")
    with pytest.raises(ConfigError, match="aggregate is 'odd'"):
        build_method(name, cap=6, aggregate="odd")


def test_an_own_judge_says_where_it_failed(here: Path) -> None:
    written(here, "import torch\ndef judge(prompts, responses):\n    return torch.ones(2) @ torch.ones(3)\n")
    with pytest.raises(InputError, match=r"the judge 'mine:judge' raised RuntimeError: .* \(mine.py, line 3\)"):
        load_judge("mine:judge")(["a"], ["b"])
    written(here, "1 / 0\n", "broken_judge.py")
    with pytest.raises(ConfigError, match=r"judge 'broken_judge:judge': module .* \(broken_judge.py, line 1\)"):
        load_judge("broken_judge:judge")


# ------------------------------------------------------------------------------------------------ the command line


@pytest.mark.parametrize(
    ("text", "more", "says"),
    [
        ("1 / 0\n", (), "ZeroDivisionError: division by zero (mine.py, line 1)"),
        ("def method(*, cap):\n    return cap.gone\n", (), "'int' object has no attribute 'gone' (mine.py, line 2)"),
        ("def reward(r, s):\n    return r.gone\n", (), "object has no attribute 'gone' (mine.py, line 2)"),
        (DATACLASS, ("--option", "alpha=half"), "option alpha is 'half'; give a number"),
        (DATACLASS, (), "missing 1 required keyword-only argument: 'alpha'"),
    ],
)
def test_what_it_raises_in_a_run_is_one_line_and_exit_code_2(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], text: str, more: Any, says: str
) -> None:
    rows = [json.dumps(chain.row) for chain in chains.problems(30, split="train", seed=0)]
    (here / "rows.jsonl").write_text("\n".join(rows))
    words = ["shorten", str(shipped_reasoner()), "--data", "rows.jsonl", "--eval-data", "rows.jsonl", "--out", "run"]
    words += ["--preset", "lab", "--cap", "30", "--eval-cap", "30", "--steps", "1", "--prompts", "2", "--updates", "1"]
    words += ["--eval-limit", "2", "--method", written(here, text), *more]
    monkeypatch.setattr(sys, "argv", ["lengthwise", *words])
    with pytest.raises(SystemExit) as stopped:
        main()
    lines = capsys.readouterr().err.strip().splitlines()
    assert stopped.value.code == 2
    assert [line for line in lines if line.startswith("error:")] == lines[-1:] and says in lines[-1]
