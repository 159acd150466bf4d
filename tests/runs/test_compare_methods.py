"""Methods under one protocol: knobs, the choice on validation, what may be said, against numbers worked by hand."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tiny
import torch

from lengthwise.config.commands import CompareSettings
from lengthwise.engine.method import Recipe
from lengthwise.errors import ConfigError, InputError, TrainingError
from lengthwise.lab import chains, witnesses
from lengthwise.methods import METHODS, options_of
from lengthwise.methods.declaration import Value
from lengthwise.runs.compare import processes
from lengthwise.runs.compare.arenas import open_arena
from lengthwise.runs.compare.arms import (
    Arm,
    Facts,
    arm_of,
    built,
    read_arms,
    read_value,
    resolved,
    settings_of,
)
from lengthwise.runs.compare.comparison import Comparison
from lengthwise.runs.compare.comparison_result import (
    ArmResult,
    ComparisonResult,
    FailedRun,
    PairResult,
    Point,
    SettingResult,
)
from lengthwise.runs.compare.findings import claim, conclusion, findings, verdict
from lengthwise.runs.compare.paired_differences import matched, paired
from lengthwise.runs.compare.plan import check_arms, dry_run, dry_run_lines, make_plan
from lengthwise.runs.compare.plan_values import Plan
from lengthwise.runs.compare.random_control import coin, control_arms
from lengthwise.runs.compare.result import choose
from lengthwise.runs.compare_records import ComparedSide, RecordsComparison
from lengthwise.statistics.bootstrap import Interval
from lengthwise.statistics.seed_runs import Side
from lengthwise.statistics.tradeoff_scores import matched_accuracy_difference

FACTS = Facts(right_lengths=range(1, 101), mean_tokens=80.0, accuracy=0.75, steps=40)


def asked(tmp_path: Path, **changes: Any) -> Comparison:
    given = {
        "model": "lab:chains", "methods": "dler,drpo", "out": tmp_path / "out", "steps": 2, "prompts": 2,
        "group_size": 2, "test_limit": 6, "validation_limit": 6,
    }  # fmt: skip
    arms = changes.pop("arms", ())
    return Comparison(CompareSettings.from_dict(given | changes), arms)


def test_values_follow_from_the_untouched_model() -> None:
    # Lengths 1..100: the .4 quantile is 1 + .4 * 99 = 40.6; .6 * 80 = 48; .1 / 80 = .00125; half of 40 steps.
    found = [resolved(v, FACTS) for v in ("p40", "0.6L", "0.1/L", "0.5*steps", "accuracy", 7, 0.2, "none", "stair")]
    assert found == [40, 48, 0.00125, 20, 0.75, 7, 0.2, None, "stair"]
    assert [read_value(text) for text in ("7", "0.2", "0.6L")] == [7, 0.2, "0.6L"]


def test_every_methods_default_settings_are_its_own_options_and_differ() -> None:
    for name in (name for name, declared in METHODS.items() if declared.knob is not None):
        arm = arm_of(name, settings=4)
        assert arm.knob in options_of(name)
        settings = settings_of(arm, cap=100, facts=FACTS)
        assert len({json.dumps(one) for one in settings}) == 4, name


def test_sweeps_and_options_are_read() -> None:
    dler, drpo = read_arms(["dler", "drpo"], ["dler:cap=30,0.5L", "drpo:lam=0.1,1"], ["drpo:tau=5"])
    assert dler == Arm("dler", "dler", "cap", (30, "0.5L"))
    assert drpo == Arm("drpo", "drpo", "lam", (0.1, 1), {"tau": 5})
    assert [one["cap"] for one in settings_of(dler, cap=100, facts=FACTS)] == [30, 40]
    # Without --sweep as many settings as the others name; another knob than the method's own is one too.
    assert [len(arm.values) for arm in read_arms(["siri", "grpo"], ["siri:shape=cosine,stair"])] == [2, 2]


def test_a_file_of_ones_own_is_compared_under_its_stem(tmp_path: Path) -> None:
    path = tmp_path / "short.py"
    path.write_text("def reward(rollouts, state):\n    return rollouts.correct.float()\n")
    (arm,) = read_arms([str(path)], [f"{path}:cap=30,40"])
    assert (arm.name, arm.method, arm.knob, arm.values) == ("short", str(path), "cap", (30, 40))
    assert [one["cap"] for one in settings_of(arm, cap=90, facts=FACTS)] == [30, 40]
    with pytest.raises(ConfigError, match="no knob that compare knows; name one"):
        read_arms([str(path)])


@pytest.mark.parametrize(
    ("methods", "sweeps", "options", "settings", "says"),
    [
        (["dlre"], [], [], None, "did you mean dler"),
        ([], [], [], None, "methods is empty"),
        (["dler", "dler"], [], [], None, "names 'dler' twice"),
        (["dler", "drpo"], ["dler:cap=1,2", "drpo:lam=1,2,3"], [], None, r"unequal sizes \(dler 2, drpo 3\)"),
        (["dler"], ["dler:cap=1,2"], [], 3, "--settings asks for 3"),
        (["dler"], ["dler:cpa=1,2"], [], None, "did you mean cap"),
        (["dler"], ["drpo:lam=1,2"], [], None, "'drpo' is not compared"),
        (["dler"], ["dler:cap"], [], None, "write METHOD:KNOB=V1,V2"),
        (["dler"], [], ["dler"], None, "write METHOD:OPTION=VALUE"),
        (["dler"], ["dler:cap=5,5"], [], None, "each once"),
        (["dler"], [], [], 9, "9 are wanted"),
        (["dler"], ["dler:cap=5,6", "dler:clip_high=0.2,0.3"], [], None, "sweep names dler twice"),
        (["dler"], [], [], 0, "settings is 0"),
        (["dler drpo"], [], [], None, "put commas between names: dler,drpo"),
        (["dler"], ["dler:cap=5,,6"], [], None, "nothing between two commas"),
    ],
)
def test_wrong_words_are_refused(
    methods: list[str], sweeps: list[str], options: list[str], settings: int | None, says: str
) -> None:
    with pytest.raises(ConfigError, match=says):
        read_arms(methods, sweeps, options, settings)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"seeds": 0}, "seeds is 0"),
        ({"arms": [Arm("a", "dler", "cap", (9,)), Arm("b", "dler", "cap", (9, 8))]}, "unequal sizes"),
        ({"arms": [Arm("a", "dler", "cap", (9,)), Arm("a", "drpo", "lam", (1,))]}, "two arms are called 'a'"),
        ({"model": "folder"}, "data is not given"),
        ({"margin": 1.5}, "margin is 1.5"),
        ({"cap": "lots"}, "cap is .lots.; give a whole number"),
        ({"cap": 400}, "drpo: cap is 400, above the evaluation cap 260"),
        ({"arms": [Arm("a", "dler", "cap", (30.5,))]}, "a: cap is 30.5; give a whole number"),
        ({"arms": [Arm("a", "drpo", "lam", ("lots",))]}, "a: lam is .lots.; give a number"),
        ({"arms": [Arm("a", "dler", "dynamic_sampling", (1,))]}, "give true or false"),
        ({"choose": "best"}, "choose is 'best'"),
        ({"controls": ["coin"]}, "controls names 'coin'; choose random"),
        ({"controls": ["random", "random"]}, "controls names 'random' twice"),
        ({"controls": ["random"], "arms": [Arm("random-reward", "dler", "cap", (9,))]}, "two arms are called"),
        ({"test_limit": 0}, "test_limit is 0"),
        ({"arms": [Arm("a", "dler", "cap", (9, -5))]}, "a: cap is -5; a response has at least 1 token"),
        ({"arms": [Arm("a", "dler", "cap", ("0.5L", "0L"))]}, "'0L' is no length"),
        ({"arms": [Arm("a", "drpo", "lam", (-1,))]}, "a: lam is -1"),
        ({"eval_cap": 5000}, "eval_cap is 5000, but behind a problem of lab:chains the model has room for"),
        ({"out": Path(__file__)}, "is a file; name an empty or new folder"),
        ({"out": Path(__file__) / "out"}, "test_compare_methods.py is a file; name an empty or new folder"),
        ({"data": "rows.jsonl"}, "preset is 'math', but lab:chains answers as the lab asks; give --preset lab"),
        ({"test_data": "x.jsonl"}, "has its own test problems"),
        ({"arms": [Arm("a", "dler", "cap", (400,))]}, "above the evaluation cap 260"),
        ({"arms": [Arm("a", "drpo", "lam", (1,), {"tua": 3})]}, "did you mean"),
        ({"truncate_importance": 2.0}, "the loss of method 'drpo' takes no advantages"),
    ],
)  # fmt: skip
def test_impossible_comparisons_are_refused_before_any_work(tmp_path: Path, changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        dry_run(asked(tmp_path, **changes))
    assert not (tmp_path / "out").exists()


def test_a_method_without_a_training_loop_cannot_be_held_to_the_budget(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lengthwise.runs.compare.plan.built", lambda arm, options: Recipe())
    with pytest.raises(ConfigError, match="no training loop, so a budget of sampled tokens does not hold it"):
        check_arms(asked(tmp_path), open_arena(asked(tmp_path)))


def test_data_is_split_by_a_hash_and_its_columns_are_checked(tmp_path: Path) -> None:
    rows = [chain.row for chain in chains.problems(120, split="train", seed=0, levels=(2, 3))]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    given = {"data": str(path), "preset": "lab", "test_limit": 99, "validation_limit": 99}
    arena = open_arena(asked(tmp_path, **given))
    parts = [arena.train(0), arena.validation, arena.test]
    assert sorted(text for part in parts for text in part.questions) == sorted(str(row["problem"]) for row in rows)
    assert all(len(part) > 3 for part in parts)
    # A problem keeps its part whatever else is in the file.
    path.write_text("".join(json.dumps(row) + "\n" for row in rows[:80]))
    assert set(open_arena(asked(tmp_path, **given)).test.questions) <= set(arena.test.questions)
    path.write_text('{"question": "1+1?", "answer": "2"}\n')
    with pytest.raises(InputError, match="no column 'problem'; it has question, answer"):
        open_arena(asked(tmp_path, **given))
    path.write_text(json.dumps(rows[0]) + "\n")
    with pytest.raises(InputError, match="too few to hold a tenth out"):
        open_arena(asked(tmp_path, **given))


def test_the_plan_shares_one_budget_and_says_what_it_takes(tmp_path: Path) -> None:
    given = asked(tmp_path, steps=10, prompts=4, group_size=8, cap="1L")
    plan = make_plan(given, open_arena(given), FACTS)
    assert plan.token_budget == 10 * 4 * 8 * 80
    assert plan.cap == 80
    assert [one["cap"] for one in plan.settings["dler"]] == [48, 32, 64]
    assert [one["lam"] for one in plan.settings["drpo"]] == [0.1, 0.2, 0.5]
    shown = dry_run(given)
    # Nothing is measured yet: answers as long as evaluation allows are the bound. 2 methods, 3 settings, 3 seeds.
    assert (shown.runs, shown.token_budget, shown.tokens) == (18, 320 * 260, 18 * 320 * 260)
    assert any("18 runs (3 seeds) of at most 83,200 sampled tokens" in line for line in dry_run_lines(shown, 2))
    with pytest.raises(ConfigError, match="48 and 0.6L of cap both come out as 48"):
        settings_of(Arm("dler", "dler", "cap", (48, "0.6L")), cap=90, facts=FACTS)
    with pytest.raises(InputError, match="only 3 answers"):
        Facts([1, 2, 3], 2.0, 0.5, 1)


def test_a_control_is_one_setting_under_the_shared_cap_and_counted(tmp_path: Path) -> None:
    given = asked(tmp_path, controls=["random"], cap="2L")
    assert make_plan(given, open_arena(given), FACTS).settings["random-reward"] == [{"cap": 160}]
    # 2 methods with 3 settings, and the control with one, 3 seeds.
    shown = dry_run(given)
    assert (shown.runs, shown.controls) == (21, ["random-reward"])
    assert any(
        line.startswith("controls: random-reward; free baselines: first pass") for line in dry_run_lines(shown, 2)
    )
    assert Comparison.from_dict(json.loads(json.dumps(given.to_dict()))).all_arms == given.all_arms
    assert given.shared() == asked(tmp_path, cap="2L").shared()


def test_the_coin_says_nothing_and_falls_alike_for_the_same_batch() -> None:
    right, lengths = [True] * 200 + [False] * 200, [3, 9] * 200
    thrown = coin(tiny.rollouts(lengths, correct=right), {})
    assert torch.equal(thrown, coin(tiny.rollouts(lengths, correct=right), {}))
    assert not torch.equal(thrown, coin(tiny.rollouts(lengths, correct=right, seed=1), {}))
    assert set(thrown.tolist()) == {0.0, 1.0}
    # 200 fair coins: the mean is within three standard errors, .106, of one half, for any verdict and length.
    assert all(
        abs(float(half.mean()) - 0.5) < 0.106 for half in (thrown[:200], thrown[200:], thrown[::2], thrown[1::2])
    )
    # On top of GRPO; no group is drawn again for its verdicts, which would let them in by another door.
    method = built(control_arms(["random"], "p95")[0], {"cap": 9})
    assert method.keep is None
    assert torch.equal(method.reward(tiny.rollouts(lengths, correct=right), {}), thrown)


def test_settings_are_chosen_by_validation_numbers() -> None:
    # Against (.5, 1000), weights (1, 3, 5), metrics.md section 8: .5, .8, 0 and -.7.
    rows = [Point(0.5, 500), Point(0.55, 500), Point(0.45, 500), Point(0.45, 1200), None]
    assert choose(rows, Point(0.5, 1000.0), rule="aes", margin=0.01) == 1
    assert choose([rows[2], rows[0]], Point(0.5, 1000.0), rule="aes", margin=0.01) == 1
    # Shortest that loses at most a point; where all lose more, the most accurate.
    near = [Point(0.60, 900), Point(0.49, 400), Point(0.489, 100)]
    assert choose(near, Point(0.5, 1000.0), rule="shortest", margin=0.01) == 1
    assert choose([Point(0.1, 5), Point(0.3, 900)], Point(0.5, 1000.0), rule="shortest", margin=0.01) == 1
    assert choose([None, None], Point(0.5, 1000.0), rule="aes", margin=0.01) is None
    # An untouched model that is never right has no score: the most accurate.
    assert choose([Point(0.0, 5), Point(0.2, 900)], Point(0.0, 1000.0), rule="aes", margin=0.01) == 1


def interval(low: float | None, high: float | None, estimate: float = 0.0) -> Interval:
    return Interval(estimate, low, high, level=0.95, draws=2000, dropped=0)


@pytest.mark.parametrize(
    ("low", "high", "says"),
    [(-0.009, 0.2, "not inferior"), (-0.01, 0.2, "not shown"), (-0.2, 0.3, "not shown"),
     (-0.2, -0.02, "inferior"), (-0.2, -0.01, "not shown"), (None, None, "not shown")],
)  # fmt: skip
def test_non_inferiority_needs_the_whole_interval(low: float | None, high: float | None, says: str) -> None:
    assert verdict(interval(low, high), 0.01) == says


def test_a_difference_is_noise_if_its_interval_holds_none() -> None:
    assert claim(interval(0.01, 0.1), 0.0, "more", "less") == "more"
    assert claim(interval(0.5, 0.9), 1.0, "longer", "shorter") == "shorter"
    assert claim(interval(0.0, 0.1), 0.0, "more", "less") == "noise"
    assert claim(interval(None, None), 0.0, "more", "less") == "no interval"


def side(rng: np.random.Generator, accuracy: float, tokens: int, *, seeds: int = 2, problems: int = 40) -> Side:
    correct = [[rng.random(3) < accuracy for _ in range(problems)] for _ in range(seeds)]
    lengths = [[rng.integers(1, 2 * tokens, size=3) for _ in range(problems)] for _ in range(seeds)]
    return Side(correct, [[np.ones(3, bool)] * problems] * seeds, lengths)


def test_pairs_are_differences_of_means_on_the_same_draws() -> None:
    rng = np.random.default_rng(0)
    sides = {"a": side(rng, 0.5, 50), "b": side(rng, 0.9, 20), "c": side(rng, 0.5, 50, seeds=1)}
    rows = paired(sides, seed=0)
    assert [(row.a, row.b) for row in rows] == [("a", "b"), ("a", "c"), ("b", "c")]
    for row in rows:
        a, b = (sides[getattr(row, name)].means.mean(axis=(0, 1)) for name in ("a", "b"))
        assert row.accuracy_difference.estimate == pytest.approx(b[0] - a[0])
        assert row.tokens_ratio.estimate == pytest.approx(b[1] / a[1])
        assert row.accuracy_difference.low < b[0] - a[0] < row.accuracy_difference.high
    same = paired({"a": sides["a"], "b": sides["a"]}, seed=0)[0].tokens_ratio
    assert same.estimate == 1.0
    assert paired({"a": sides["a"]}, seed=0) == []
    assert paired(sides, seed=3) == paired(sides, seed=3)


def test_equal_length_is_the_slow_interpolation_of_the_settings_and_the_base() -> None:
    rng = np.random.default_rng(1)
    base, settings = side(rng, 0.6, 60), [side(rng, 0.5, 15), side(rng, 0.8, 30)]
    points = [(float(s.means[..., 1].mean()), float(s.means[..., 0].mean())) for s in (base, *settings)]
    tokens = [20.0, 40.0, 5.0, 300.0]
    found = matched({"m": settings}, base, tokens, seed=0)["m"]
    for at, one in zip(tokens, found, strict=True):
        gap = matched_accuracy_difference(at, 0.0, baseline=points)
        assert one.estimate == (None if gap is None else pytest.approx(-gap))
    assert found[2].low is None


def arm_result(name: str, knob: str, value: Value, failed: Mapping[str, FailedRun] | None = None) -> ArmResult:
    setting = SettingResult(
        value=value, options={}, validation=None, test=None, failed=failed or {}, sampled_tokens=0.0, seconds=0.0
    )
    return ArmResult(
        name=name, method=name, knob=knob, settings=[setting], chosen=None if failed else 0, sampled_tokens=0.0,
        seconds=0.0,
    )  # fmt: skip


def table_of(numbers: Mapping[str, tuple[float, float, tuple[float, float]]]) -> RecordsComparison:
    """Sides by name from accuracy, tokens and the ends of the difference from the first one, (.8, 100)."""

    def side_of(name: str, accuracy: float, tokens: float, gain: tuple[float, float]) -> ComparedSide:
        summary = SimpleNamespace(accuracy=accuracy, mean_tokens=tokens)
        change = SimpleNamespace(
            accuracy_difference=interval(*gain, accuracy - 0.8), tokens_ratio=interval(0.1, 2.0, tokens / 100)
        )
        return ComparedSide(
            name=name, label=name, summary=summary, seeds=[], curve=[], context={}, recut_from=None,
            against=None if name == "base" else change,
        )  # fmt: skip

    return RecordsComparison(
        weights=(1, 3, 5), cap=9, allowed=(), seed=0, context={}, front=[], forced_cuts={},
        sides=[side_of(name, *these) for name, these in numbers.items()],
    )  # fmt: skip


def compared(**changes: Any) -> ComparisonResult:
    given = {
        "model": "m", "source": "s", "lab": False, "seeds": [0], "margin": 0.01, "choose": "aes", "train": {},
        "plan": Plan(cap=9, mean_tokens=100.0, accuracy=0.8, token_budget=1, settings={}), "controls": [],
        "baselines": [], "oracle_tokens": None, "frontier": None, "table": None, "pairs": [], "control_pairs": [],
        "matched": None,
    }  # fmt: skip
    return ComparisonResult(**given | changes)


def test_the_sentences_name_what_is_real_what_is_noise_and_what_failed() -> None:
    pairs = [
        PairResult("dler", "drpo", interval(-0.05, -0.01, -0.03), interval(1.1, 1.5, 1.25)),
        PairResult("dler", "siri", interval(-0.02, 0.03, 0.01), interval(0.9, 1.2, 1.0)),
    ]
    against = [
        PairResult("random-reward", "dler", interval(0.05, 0.15, 0.1), interval(0.3, 0.5, 0.44)),
        PairResult("random-reward", "drpo", interval(-0.02, 0.1, 0.07), interval(0.5, 1.1, 0.56)),
        PairResult("random-reward", "siri", interval(-0.4, -0.2, -0.3), interval(1.1, 1.5, 1.33)),
    ]
    numbers = {
        "base": (0.8, 100.0, (0, 0)),
        "random-reward": (0.8, 90.0, (-0.1, 0.1)),
        "dler": (0.9, 40.0, (0.05, 0.15)),
        "drpo": (0.87, 50.0, (-0.02, 0.1)),
        "siri": (0.5, 120.0, (-0.4, -0.2)),
        "greedy": (0.9, 80.0, (0.1, 0.2)),
    }
    failed = {"0": FailedRun("kept 0 of 9 prompts", {"step": 7})}
    arms = [arm_result(name, "cap", 9) for name in ("dler", "drpo", "siri")]
    result = compared(
        arms=[*arms, arm_result("kimi", "weight", 2.0, failed)], controls=[arm_result("random-reward", "cap", 9)],
        table=table_of(numbers), pairs=pairs, control_pairs=against, baselines=["greedy"], lab=True,
    )  # fmt: skip
    told = "1 of 3 methods is shown to lose at most 1 point of accuracy: dler answers in 0.40 of the untouched model's"
    assert conclusion(result).startswith(f"{told} tokens (") and conclusion(result).endswith(
        "at +10.0 points, +5.0 to +15.0."
    )
    alike = [PairResult("dler", "drpo", interval(-0.05, 0.01, -0.03), interval(0.9, 1.5, 1.25))]
    assert conclusion(replace(result, pairs=alike)).endswith("; no method differs from another beyond noise.")
    none = conclusion(replace(result, arms=arms[1:]))
    assert none == "None of 2 methods is shown to lose at most 1 point of accuracy."
    assert findings(result) == [
        "In accuracy 1 of 2 pairs of methods differ beyond noise: dler over drpo (3.0 points). Noise: dler and siri.",
        "In length 1 of 2 pairs of methods differ beyond noise: dler under drpo (0.80 of its tokens). Noise: dler and "
        "siri.",
        "Against the untouched model (80.0% at 100.0 tokens), at most 1 point less accurate: dler (+10.0 points, +5.0 "
        "to +15.0, 0.40 of the tokens); open, more problems or seeds are needed: drpo (+7.0 points, −2.0 to +10.0, "
        "0.50 of the tokens); more than 1 point less accurate: siri (−30.0 points, −40.0 to −20.0, 1.20 of the "
        "tokens).",
        "The control random-reward, which learned from coin flips (80.0% at 90.0 tokens), is beaten by dler (+10.0 "
        "points, 0.44 of its tokens); no different beyond noise: drpo (+7.0 points, 0.56 of its tokens); worse than "
        "it: siri (−30.0 points, 1.33 of its tokens).",
        "On the front (nothing has fewer tokens and no less accuracy): dler.",
        "Dominated by what needs no training: siri by base and greedy.",
        "Runs that ended early, with nothing left to learn from: kimi at weight 2.0, seed 0 (step 7).",
        "One seed: intervals are over problems alone, and seeds often differ more than problems do.",
        "The lab is a teaching and regression instrument, not evidence about large models.",
    ]


def jobs_of(monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Let every piece be a shell script that gets the piece's words."""

    def start(folder: Path, piece: processes.Piece) -> subprocess.Popen[bytes]:
        with (folder / "logs" / f"{piece.name}.log").open("wb") as log:
            return subprocess.Popen(["sh", "-c", script, *piece.words], stdin=subprocess.PIPE, stderr=log, cwd=folder)

    monkeypatch.setattr(processes, "_start", start)


def test_pieces_run_side_by_side_and_no_more_than_wanted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs_of(monkeypatch, "touch on-$0; ls on-* | wc -l >> counts; sleep 0.2; rm on-$0")
    pieces, done = [processes.Piece(name, (name,)) for name in "abcde"], []
    processes.run_pieces(tmp_path, pieces, jobs=2, done=lambda piece: done.append(piece.name), tick=lambda: None)
    assert sorted(done) == list("abcde")
    counts = (tmp_path / "counts").read_text().split()
    assert len(counts) == 5
    assert max(map(int, counts)) == 2


@pytest.mark.parametrize(
    ("script", "error", "says"),
    [
        ("kill -9 $$", TrainingError, "a was killed by signal SIGKILL; see .*The same command continues"),
        ("echo trace >&2; echo Boom >&2; exit 1", TrainingError, "a ended with code 1: Boom"),
        ("echo 'error: cap is 0' >&2; exit 2", ConfigError, "^a: cap is 0$"),
    ],
)
def test_a_piece_that_fails_is_said_and_nothing_new_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, error: type[Exception], says: str
) -> None:
    jobs_of(monkeypatch, f"touch began-$0; [ $0 = a ] && {{ {script}; }}; sleep 0.3; touch ended-$0")
    pieces = [processes.Piece(name, (name,)) for name in "abc"]
    with pytest.raises(error, match=says):
        processes.run_pieces(tmp_path, pieces, jobs=2, done=lambda piece: None, tick=lambda: None)
    # The one at work may finish; the third has not begun.
    assert (tmp_path / "ended-b").is_file()
    assert not (tmp_path / "began-c").is_file()


def test_without_a_single_finished_setting_nothing_is_claimed() -> None:
    failed = {"0": FailedRun("kept 0 of 9 prompts", {})}
    assert findings(compared(arms=[arm_result("dler", "cap", 1, failed)])) == [
        "No method has a setting whose runs all finished, so nothing can be compared.",
        "Runs that ended early, with nothing left to learn from: dler at cap 1, seed 0 (step 0).",
    ]


def test_the_witnesses_arena_writes_readings_and_knows_its_frontier(tmp_path: Path) -> None:
    from lengthwise.config.groups.sampling import Sampling
    from lengthwise.engine import load_policy
    from lengthwise.generation.sampling import evaluate

    arena = open_arena(asked(tmp_path, model="lab:witnesses", test_limit=12))
    assert arena.train(0).answers != arena.train(1).answers
    policy = load_policy(arena.folder, device="cpu")
    before, rollouts = evaluate(policy, arena.test, Sampling(cap=arena.eval_cap), name="before", data="d")
    ask = arena.test.tokenizer.convert_tokens_to_ids(witnesses.ASK)
    tokens = [rollouts.response(row) for row in range(12)]
    # Every reading follows an ask, most are right, and the asker asks for many.
    assert before.accuracies.mean() > 0.7
    assert before.tokens.mean() > 50
    assert all(rollouts.num_tokens[row] <= arena.eval_cap for row in range(12))
    assert sum(row.count(ask) for row in tokens) / 12 == pytest.approx(
        witnesses.readings_of(before.tokens.mean()), abs=0.5
    )
    few = arena.baselines["at most 3 readings"](policy, arena.test, before, tmp_path / "log.jsonl")
    assert max(max(row) for row in few.num_tokens) <= 3 * 3 + 3
    assert arena.frontier is not None
    assert arena.frontier[0][1] == 0.5


def test_the_search_arena_keeps_its_splits_apart_and_stops_after_so_many_tries(tmp_path: Path) -> None:
    from lengthwise.config.groups.sampling import Sampling
    from lengthwise.engine import load_policy
    from lengthwise.generation.sampling import evaluate

    arena = open_arena(asked(tmp_path, model="lab:search", test_limit=60, validation_limit=60))
    parts = [set(part.questions) for part in (arena.train(0), arena.validation, arena.test)]
    assert not (parts[0] & parts[1] or parts[1] & parts[2] or parts[0] & parts[2])
    assert set(arena.test.categories or ()) == {"3", "4"}
    # 6 tokens for each number of the answer, joined by +.
    counts = [answer.count("+") + 1 for answer in arena.test.answers]
    assert arena.oracle_tokens == pytest.approx(6 * sum(counts) / 60)
    # 24 tries of 4 numbers with 4 words each, less the last separator; A:, 4 numbers, 3 signs and EOS.
    assert arena.eval_cap == 24 * 16 - 1 + 1 + 7 + 1
    assert "stopped once it agrees" not in arena.baselines
    policy = load_policy(arena.folder, device="cpu")
    before, rollouts = evaluate(policy, arena.test, Sampling(cap=arena.eval_cap), name="before", data="d")
    few = arena.baselines["at most 3 tries"](policy, arena.test, before, tmp_path / "log.jsonl")
    assert before.accuracies.mean() > few.accuracies.mean() > 0.1
    # Whoever hits in time is left alone: 3 tries of at most 16 words, A: and an answer.
    assert max(max(row) for row in few.num_tokens) <= 3 * 16 + 9 < rollouts.num_tokens.max()


def test_more_problems_than_there_are_is_said_by_the_flags_name(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="test_limit is 50000: .*more than the distinct test problems of level 3"):
        open_arena(asked(tmp_path, model="lab:search", test_limit=50_000))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"model": "lab:search", "data": "lab:chains"}, r"does not know the words of lab:chains \(-, check:, 0"),
        ({"model": "lab:chess"}, "no world of the lab; choose lab:chains or lab:witnesses or lab:search"),
        ({"model": "lab:chess", "data": "lab:chains"}, "the lab ships lab:chains, "),
        ({"model": "lab:witnesses", "data": "rows.jsonl"}, "only `lengthwise compare lab:witnesses` has that world"),
    ],
)
def test_a_lab_model_is_compared_in_its_own_world(tmp_path: Path, changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        dry_run(asked(tmp_path, **changes))
