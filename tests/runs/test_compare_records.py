"""`compare-records`: what stands in the table, what is noise, what is refused, and that the page holds it all."""

from __future__ import annotations

import json
import re
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from lengthwise.cli import app, main
from lengthwise.errors import InputError
from lengthwise.runs.compare_records import Named, claims, compare_records, read_sides
from lengthwise.runs.records_page import build_page, conclusion
from lengthwise.statistics.records import Record, compare

CONTEXT = {
    "model": "tiny",
    "data": "chains",
    "template": "0123",
    "cap": 400,
    "temperature": 1.0,
    "top_p": 1.0,
    "samples": 2,
    "seed": 0,
    "grader": "g/1",
    "tokenizer": "words/9",
}
PROBLEMS = 60


def make(name: str, *, share: float = 0.6, most: int = 300, seed: int = 0, **context: object) -> Record:
    dice = np.random.default_rng([seed, *map(ord, name)])
    hard = np.random.default_rng(7).random((PROBLEMS, 1))
    tokens = dice.integers(20, most, (PROBLEMS, 2))
    return Record(
        name=name,
        context={**CONTEXT, "seed": seed, **context},
        problem_ids=[f"p{i}" for i in range(PROBLEMS)],
        categories=None,
        answer_correct=hard + dice.random((PROBLEMS, 2)) < 2 * share,
        finished=np.ones((PROBLEMS, 2), dtype=bool),
        num_tokens=tokens,
    )


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Records of a base, a twin of equal worth, and a shorter and better model at two seeds."""
    for name, record in {
        "base": make("base"),
        "twin": make("twin"),
        "short-0": make("after", share=0.8, most=120),
        "short-1": make("after", share=0.8, most=120, seed=1),
        "long": make("long", most=700, cap=800),
        "greedy": make("greedy", temperature=0.0),
        "budget": make("budget", share=0.5, most=100, intervention={"budget": 100}),
    }.items():
        record.save(tmp_path / f"{name}.json")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments: object, columns: int = 80) -> str:
    result = CliRunner().invoke(app, ["compare-records", *map(str, arguments)], env={"COLUMNS": str(columns)})
    assert result.exit_code == 0, (result.output, result.exception)
    return result.stdout


def refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    monkeypatch.setattr(sys, "argv", ["lengthwise", "compare-records", *map(str, arguments)])
    with pytest.raises(SystemExit) as stopped:
        main()
    shown = capsys.readouterr()
    assert stopped.value.code == 2, shown.err
    assert len(shown.err.strip().splitlines()) == 1, shown.err
    assert shown.out == ""
    return shown.err


# ---- table and JSON -----------------------------------------------------------------------------------------


def test_metrics_6_one_json_object_with_all_of_a_comparison(folder: Path) -> None:
    found = json.loads(run("base.json", "short=short-0.json,short-1.json", "--json"))
    base, short = found["records"]
    record = Record.load("base.json")
    for name in ("accuracy", "mean_tokens", "truncation_rate", "tokens_finished", "tokens_correct", "tokens_wrong",
                 "token_efficiency"):  # fmt: skip
        assert base["summary"][name] == pytest.approx(getattr(record.summary(), name))
        assert {"low", "high"} <= base["summary"][f"{name}_interval"].keys()
    assert [point["budget"] for point in base["curve"]] == [25, 50, 100, 200, 400]
    expected = compare(record, [Record.load(f"short-{i}.json") for i in (0, 1)])
    for name in ("accuracy_difference", "tokens_ratio", "accuracy_efficiency_score", "matched"):
        assert short["against_reference"][name] == getattr(expected, name).to_dict()
    assert base["against_reference"] is None
    assert (found["reference"], found["weights"], found["cap"]) == ("base", [1, 3, 5], 400)
    # the record fields beside the numbers: what all share, and what each has of its own
    assert {"data", "template", "cap", "temperature", "top_p", "samples", "grader", "tokenizer"} <= found[
        "context"
    ].keys()
    assert short["context"] == {"seed": [0, 1]}
    assert [one["seed"] for one in short["seeds"]] == [0, 1]
    assert found["front"] == ["short"]


def test_the_table_fits_80_columns_and_says_what_is_noise(folder: Path) -> None:
    shown = run("base.json", "twin.json", "short=short-0.json,short-1.json")
    tables = shown.split("\nNoise")[0]
    assert max(map(len, tables.splitlines())) <= 80
    for text in ("more accurate", "shorter", "noise: includes 0", "noise: includes 1"):
        assert text in tables
    assert "Noise, the 95 % interval includes no difference: accuracy of twin; tokens of twin; AES of twin" in shown
    assert "of short" not in re.search(r"Noise.*", shown)[0]  # type: ignore[index]
    assert "On the front: short. Dominated, another has no more tokens and no less accuracy: base, twin." in shown
    assert re.search(r"AES: weights \(1, 3, 5\), reference base with accuracy [\d.]+% and [\d.]+ tokens\.", shown)


def test_weights_move_the_score_and_are_printed(folder: Path) -> None:
    one = json.loads(run("base.json", "budget.json", "--json"))
    two = json.loads(run("base.json", "budget.json", "--json", "--score-weights", "1,5,10"))
    scores = [found["records"][1]["against_reference"]["accuracy_efficiency_score"] for found in (one, two)]
    assert [score["weights"] for score in scores] == [[1, 3, 5], [1, 5, 10]]
    assert scores[1]["estimate"] < scores[0]["estimate"]
    assert "weights (1, 5, 10)" in run("base.json", "budget.json", "--score-weights", "1,5,10")


def test_an_intervention_is_shown_with_the_name(folder: Path) -> None:
    found = json.loads(run("base.json", "budget.json", "--json"))
    assert found["records"][1]["label"] == "budget, budget 100"
    assert found["records"][1]["context"]["intervention"] == [{"budget": 100}]
    assert "budget, budget 100" in run("base.json", "budget.json", columns=100)


def test_metrics_7_no_number_depends_on_another_row(folder: Path) -> None:
    few = json.loads(run("base.json", "twin.json", "--json"))
    more = json.loads(run("base.json", "short-0.json", "twin.json", "budget.json", "--json"))
    for name in ("summary", "against_reference", "curve", "seeds"):
        assert few["records"][0][name] == more["records"][0][name]
        assert few["records"][1][name] == more["records"][2][name]


def test_metrics_9_a_dominated_record_changes_nothing_of_the_front(folder: Path) -> None:
    few = json.loads(run("twin.json", "short-0.json", "--json"))
    more = json.loads(run("twin.json", "short-0.json", "base.json", "--json"))
    assert few["front"] == more["front"] == ["after"]


def test_the_same_seed_gives_the_same_output_and_another_another(folder: Path) -> None:
    command = ("base.json", "twin.json", "--json")
    assert run(*command) == run(*command) == run(*command, "--seed", 0)
    first, other = (json.loads(run(*command, "--seed", seed)) for seed in (0, 1))
    differences = [found["records"][1]["against_reference"]["accuracy_difference"] for found in (first, other)]
    assert differences[0]["estimate"] == differences[1]["estimate"]
    assert differences[0] != differences[1]


def test_names_come_from_the_argument_the_record_or_the_file(folder: Path) -> None:
    assert [side.name for side in read_sides(["x=base.json", "short-0.json"])] == ["x", "after"]
    assert [side.name for side in read_sides(["short-0.json", "short-1.json"])] == ["short-0.json", "short-1.json"]
    named = folder / "lr=1e-4"
    make("inside").save(named / "a,b.json")
    assert [side.name for side in read_sides(["lr=1e-4/a,b.json", "base.json"])] == [
        "inside",
        "base",
    ]
    assert read_sides(["y=lr=1e-4/a,b.json", "base.json"])[0].name == "y"


# ---- caps ---------------------------------------------------------------------------------------------------


def test_metrics_5_recut_lowers_all_to_the_common_cap_and_says_so(folder: Path) -> None:
    found = json.loads(run("base.json", "long.json", "--recut", "--json"))
    assert found["cap"] == 400
    assert found["recut_from"] == {"long": 800}
    base, long = found["records"]
    assert (base["label"], long["label"]) == ("base", "long, cut at 400")
    assert long["summary"]["accuracy"] == pytest.approx(Record.load("long.json").recut(400).summary().accuracy)
    assert base["summary"]["accuracy"] == Record.load("base.json").summary().accuracy
    assert "Cut at 400 tokens after they were drawn (long under 800): a forced cut, not a new run." in found["findings"]
    assert "long, cut at 400" in run("base.json", "long.json", "--recut", columns=100)
    named = [Named(name, (Record.load(f"{name}.json"),)) for name in ("base", "long")]
    build_page(compare_records(named, recut=True), folder / "page.html")
    page = (folder / "page.html").read_text()
    assert "cut at 400 tokens" in page and "drawn under 800" in page


def test_metrics_5_over_five_percent_cut_is_warned_of(folder: Path) -> None:
    result = CliRunner().invoke(app, ["compare-records", "base.json", "long.json", "--recut"])
    assert re.search(r"warning: long: \d+\.\d% of the responses were cut at 400 tokens", result.stderr)
    assert "finished responses have" in result.stderr
    assert "warning" not in CliRunner().invoke(app, ["compare-records", "base.json", "twin.json"]).stderr


def test_recut_of_equal_caps_changes_nothing(folder: Path) -> None:
    assert run("base.json", "twin.json", "--recut", "--json") == run("base.json", "twin.json", "--json")


@pytest.mark.parametrize("field", ["data", "grader", "tokenizer", "template", "temperature", "top_p", "samples", "cap"])
def test_unlike_records_are_refused_naming_field_and_values(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], field: str
) -> None:
    value = 0.5 if field in ("temperature", "top_p") else 500 if field in ("samples", "cap") else "other"
    make("odd", **{field: value}).save("odd.json")
    complaint = refused(monkeypatch, capsys, "first=base.json", "odd.json")
    assert f"records 'first' and 'odd' cannot be compared; {field}: {CONTEXT[field]!r} and {value!r}." in complaint
    way = {"cap": "--recut", "temperature": "--allow", "top_p": "--allow", "samples": "--allow"}.get(field, "alike")
    assert way in complaint
    if way == "--allow":
        assert json.loads(run("base.json", "odd.json", "--allow", field, "--json"))["allowed"] == [field]


# ---- bad input ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["base.json"], "1 record is given; name at least two"),
        (["base.json", "none.json"], "no such file: none.json"),
        (["base.json", "x=none.json"], "no such file: none.json"),
        (["base.json", "x="], "'x=' is no record; give FILE, NAME=FILE"),
        (["base.json", "=twin.json"], "'=twin.json' is no record"),
        (["base.json", "x=twin.json,"], "'x=twin.json,' is no record"),
        (["base.json", "base.json"], "base.json is named twice"),
        (["base.json", "x=./base.json"], "./base.json is named twice"),
        (["base.json", "x=twin.json,twin.json"], "twin.json is named twice"),
        (["base.json", "link.json"], "link.json is named twice"),
        (["x=base.json", "x=twin.json"], "the name 'x' is given twice"),
        (["base.json", "empty.json"], "empty.json is damaged"),
        (["base.json", "half.json"], "half.json is damaged"),
        (["base.json", "binary.json"], "binary.json is damaged"),
        (["base.json", "list.json"], "list.json is no record of lengthwise; wanted the fields answer_correct"),
        (["base.json", "deep.json"], "deep.json is damaged"),
        (["base.json", "types.json"], "types.json is no record of lengthwise: num_tokens"),
        (["base.json", "capless.json"], "capless.json is no record of lengthwise: context has no 'cap'"),
        (["base.json", "folder"], "folder is a folder; name a record in it"),
        (["base.json", "twin.json", "--score-weights", "1,3"], "score_weights is [1.0, 3.0]"),
        (
            ["base.json", "twin.json", "--score-weights", "a,b,c"],
            "score_weights is ['a', 'b', 'c']; give",
        ),
        (["base.json", "twin.json", "--score-weights", "1,nan,1"], "score_weights is"),
        (["base.json", "twin.json", "--allow", "cap"], "allow names 'cap', which must agree"),
        (["base.json", "twin.json", "--out", "page.txt"], "ends in .html"),
        (["base.json", "twin.json", "--seed", "-1"], "seed is -1"),
        (["base.json", "few.json"], "problem_ids: 60 and 1 problems, not the same ones (59 only in the first"),
    ],
    ids=lambda value: str(value)[:50],
)
def test_bad_input_is_one_line_and_exit_code_2(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    says: str,
) -> None:
    whole = (folder / "base.json").read_text()
    fields = json.loads(whole)
    (folder / "folder").mkdir()
    (folder / "link.json").symlink_to("base.json")
    (folder / "empty.json").write_text("")
    (folder / "half.json").write_text(whole[: len(whole) // 2])
    (folder / "binary.json").write_bytes(bytes(range(256)))
    (folder / "list.json").write_text("[]")
    (folder / "deep.json").write_text("[" * 100_000)
    (folder / "types.json").write_text(json.dumps({**fields, "num_tokens": [["many"] * 2] * PROBLEMS}))
    (folder / "capless.json").write_text(json.dumps({**fields, "context": {}}))
    few = {name: fields[name][:1] for name in ("problem_ids", "answer_correct", "finished", "num_tokens")}
    (folder / "few.json").write_text(json.dumps({**fields, **few}))
    assert says in refused(monkeypatch, capsys, *arguments)
    assert not (folder / "page.txt").exists()


@pytest.mark.parametrize("field", ["name", "context", "problem_ids", "answer_correct", "finished", "num_tokens"])
@pytest.mark.parametrize(
    "garbage", [None, 3, "text", [], {}, [None], [[]], [[None]], [["a"]], {"cap": "x"}, 1e308, True]
)
def test_any_garbage_in_a_record_is_named(folder: Path, field: str, garbage: object) -> None:
    fields = json.loads((folder / "base.json").read_text())
    (folder / "bad.json").write_text(json.dumps({**fields, field: garbage}))
    if field == "name" and garbage == "text":
        return
    with pytest.raises(InputError, match=r"bad\.json"):
        read_sides(["base.json", "bad.json"])


# ---- edge cases ---------------------------------------------------------------------------------------------


def sides(*records: Record) -> list[Named]:
    return [Named(record.name, (record,)) for record in records]


def tiny(name: str, right: bool, tokens: int, **context: object) -> Record:
    return Record(name, {**CONTEXT, **context}, ["p"], None, [[right, right]], [[True, True]], [[tokens, tokens]])


def test_metrics_4_one_problem_has_no_interval_and_the_table_says_so() -> None:
    found = compare_records(sides(tiny("a", True, 200), tiny("b", True, 100)))
    assert {row.claim for row in claims(found) if row.quantity != "at equal tokens, points"} == {
        "no interval: one problem"
    }
    assert found.findings[0].startswith("No difference here has an interval")


def test_metrics_7_a_reference_without_right_answers_has_no_score_and_the_table_says_so() -> None:
    found = compare_records(sides(make("zero", share=0.0), make("some")))
    score = next(row for row in claims(found) if row.quantity == "AES")
    assert (score.value, score.claim) == ("–", "undefined: no right answer")


def test_outside_the_reference_lengths_nothing_is_matched_and_the_table_says_why() -> None:
    found = compare_records(sides(make("a", most=100), make("longer"), tiny_like("shorter", 3)))
    said = [row.claim for row in claims(found) if row.quantity == "at equal tokens, points"]
    assert said == ["none: longer than the reference", "none: shorter than any cut"]


def tiny_like(name: str, tokens: int) -> Record:
    made = make(name)
    return Record(
        name, made.context, made.problem_ids, None, made.answer_correct, made.finished, [[tokens] * 2] * PROBLEMS
    )


def test_equal_points_are_all_on_the_front() -> None:
    found = compare_records(sides(make("a"), tiny_like("b", 15), tiny_like("c", 15)))
    one = compare_records([Named("b", (tiny_like("b", 15),)), Named("c", (tiny_like("b", 15),))])
    assert one.front == ["b", "c"]
    assert "a" not in found.front or found.sides[0].summary["accuracy"] > 0


def test_fields_that_no_record_carries_are_warned_of() -> None:
    bare = [Record(**{**fields_of(make(name)), "context": {"cap": 400}}) for name in ("a", "b")]
    found = compare_records(sides(*bare))
    assert found.warnings == ["no record says its data, grader, tokenizer, template: whether these agree is not known"]


def fields_of(record: Record) -> dict[str, object]:
    return {name: getattr(record, name) for name in Record.__dataclass_fields__}


# ---- page and picture ---------------------------------------------------------------------------------------


class Checker(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.outside: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.outside += [value or "" for name, value in attrs if name in ("src", "href")]


def test_the_page_is_self_contained_escaped_and_whole(folder: Path) -> None:
    hostile = "<script>alert('x')</script>[red]"
    make("twin", model=hostile).save("twin.json")
    shown = run("base.json", f"{hostile}=twin.json", "short=short-0.json,short-1.json", "--out", "deep/page.html")
    assert "page: deep/page.html" in shown
    assert hostile in shown.replace("\n", "")
    text = (folder / "deep" / "page.html").read_text()
    page = Checker()
    page.feed(text)
    assert page.outside == []
    assert "script" not in page.tags
    assert page.tags.count("svg") == 1
    assert "&lt;script&gt;" in text
    for part in (
        "Measured",
        "Against base",
        "Under a smaller budget",
        "By seed",
        "What the records say",
        "On the front",
    ):
        assert part in re.sub("</?abbr[^>]*>", "", text), part
    assert (folder / "deep" / "page.png").read_bytes().startswith(b"\x89PNG")


def test_the_page_shows_the_numbers_of_the_json(folder: Path) -> None:
    found = json.loads(run("base.json", "twin.json", "--json", "--out", "page.html"))
    assert found["page"] == "page.html"
    text = (folder / "page.html").read_text()
    given = [Record.load(f"{name}.json") for name in ("base", "twin")]
    for row in claims(compare_records([Named(one.name, (one,)) for one in given])):
        assert row.value in text and row.span in text
    for row in found["records"]:
        assert f"{100 * row['summary']['accuracy']:.1f}%" in text
    assert "seeds" not in text.split("Bars are")[1].split("</p>")[0]


def test_many_records_have_a_place_each(folder: Path) -> None:
    many = [make(f"r{i}", share=0.3 + 0.05 * i, most=100 + 30 * i) for i in range(9)]
    found = compare_records(sides(*many))
    build_page(found, folder / "many.html")
    text = (folder / "many.html").read_text()
    assert all(f'data-record="r{i}"' in text for i in range(9))


def test_the_conclusion_names_the_shortest_that_is_shown_to_be_shorter_and_not_shown_to_be_worse() -> None:
    base, short = make("base"), make("after", share=0.8, most=120)
    said = conclusion(compare_records(sides(base, short)))
    assert re.match(
        r"after takes 0\.\d\d of base's tokens \(0\.\d\d to 0\.\d\d\) at \+\d+\.\d points of accuracy \(", said
    )
    of_two = conclusion(compare_records(sides(base, make("twin"), short)))
    assert of_two.startswith("Of 2 records 1 is shorter beyond noise and not less accurate beyond it: after takes 0.")
    worse = make("worse", share=0.1, most=60)
    assert conclusion(compare_records(sides(base, make("twin"), worse))) == (
        "Of 2 records none is shorter than base beyond noise without being less accurate beyond it."
    )
