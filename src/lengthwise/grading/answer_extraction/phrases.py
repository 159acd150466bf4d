r"""Readers of sentences that give an answer: "the answer (in dollars) is 18", "18 is the answer"."""

from __future__ import annotations

import re
from collections.abc import Iterator

from lengthwise.grading.answer_extraction.answer_text import LONGEST_STATEMENT, NUMBER_TEXT, tidy
from lengthwise.grading.answer_extraction.formulas import formulas
from lengthwise.grading.answer_extraction.stated_answer import PHRASE, Stated, final, holds, until_next
from lengthwise.grading.answer_extraction.values_in_text import LINK, are_alike, as_list, main_value

_WORD = r"[^\s.:=(]{1,30}+"
_FILLER = (
    r"(?:(?:therefore|thus|then|hence|so|simply|just|only|exactly|precisely|approximately|about|around|roughly|indeed"
    r"|clearly|probably|likely|actually|still|now|given by|equal to|that)\b[\s,]{1,3})*+"
)
_SUBJECT = r"(?:answers?|final[ _](?:results?|solutions?))(?![A-Za-z])"
# "(in dollars)", ", in dollars,", "to the question", "we get", each once.
_BETWEEN = (
    r"(?:\s{0,3}+\([^()\n]{0,80}+\))?(?:,\s[^,.\n:=]{1,60}+,)?"
    rf"(?:\s{{1,3}}+(?:to|of|for|in|from|on|that|which|I|we|you|here)\b(?:\s{{1,3}}+{_WORD}){{0,20}}?)?"
    r"(?:\s{0,3}+\([^()\n]{0,80}+\))?"
)
_VERB = (
    r"(?:(?<![A-Za-z])(?:is|are|equals?|becomes?|remains?|comes (?:out )?to|works out (?:to(?: be)?|as)|turns out to be"
    r"|amounts to|(?:would|should|must|will|can only|has to) be)\b(?!\s{1,9}not\b)|[:=])"
)
_AFTER = rf"(?:\n[ \t]{{0,9}}[-•][ \t]|\*\*|__|[\s:*_>])*+{_FILLER}"
_PLACE = re.compile(r"(?<![A-Za-z])(?:[Aa]nswer|ANSWER|[Ff]inal[ _]|FINAL[ _]|[Rr]esult|RESULT)")
_PHRASE = re.compile(
    rf"{_SUBJECT}(?:\*\*|[\"'`*_])?{_BETWEEN}\s{{0,3}}+(?:\*\*|__|[*_])?{_VERB}{_AFTER}", re.IGNORECASE
)
_HEADING = re.compile(r"(?:final )?(?:answer[ \t*_]{0,9}+\n\s*+|result[ \t*_]{0,9}+[:=][\s*_]*+)", re.IGNORECASE)
_LINE_BEGINS = re.compile(r"(?:\A|\n)[ \t#*_]{0,9}(?:[Tt]he )?$")
_ABROAD = re.compile(
    r"(?:答案|正解|答え|正답|정답)(?:\s?(?:是|为|為|は|은|는|이))?[\s:=]*+|(?:答|답)\s?[:是은][\s:]*+"
    r"|(?<!\w)(?:ответ|respuesta|réponse|risposta|resposta|antwort)(?:\s{1,3}final[ea]?)?(?:\*\*|__)?"
    r"\s?(?:(?:es|est|è|é|ist|lautet)\b|[:=—-])(?:\*\*|__|[\s:])*+",
    re.IGNORECASE,
)
_HINTS = ("nswer", "NSWER", "inal", "INAL", "esult", "ESULT", "espuesta", "isposta", "esposta", "ntwort")
_FOREIGN = ("答", "正解", "답", "твет", "éponse", *_HINTS[-4:])


def phrase_marks(text: str) -> Iterator[re.Match[str]]:
    """What stands before an answer, up to where it begins: "The final answer is", "**Answer:**"."""
    if holds(text, _FOREIGN):
        yield from sorted([*_english_marks(text), *_ABROAD.finditer(text)], key=lambda mark: mark.start())
    else:
        yield from _english_marks(text)


def _english_marks(text: str) -> Iterator[re.Match[str]]:
    end = 0
    for place in _PLACE.finditer(text):
        start = place.start()
        if start < end:
            continue
        mark = _PHRASE.match(text, start)
        if mark is None and _LINE_BEGINS.search(text, max(0, start - 14), start):
            mark = _HEADING.match(text, start)
        if mark is not None:
            end = mark.end()
            yield mark


_SENTENCE_END = re.compile(r"\.(?=\s|$|[^\x00-\x7f])|\n|(?<!\\);")
_IS_ANSWER = re.compile(
    r"\s(?:is|are)\s(?:(?:indeed|therefore|thus)\s)?(?:the|our|my|your)\s(?:(?:final|correct|right|required)\s){0,2}\Z"
)
_NUMBER_AT_END = re.compile(rf"(?<![\w.]){NUMBER_TEXT}(?:\s?\\?%)?$")
_BEFORE = 200


def phrases(text: str) -> Iterator[Stated]:
    """ "The answer is 18", "Answer: 18" and the like, to the end of the sentence, or the formula that stands there."""
    return _phrases(text, lists=True)


def single_phrases(text: str) -> Iterator[Stated]:
    """The same, of several formulas the first: for answers that are one number."""
    return _phrases(text, lists=False)


def _phrases(text: str, *, lists: bool) -> Iterator[Stated]:
    if text.isascii() and not holds(text, _HINTS):
        return
    inverse = iter(_inverse(text))
    waiting = next(inverse, None)
    for mark, until in until_next(phrase_marks(text), len(text)):
        while waiting is not None and waiting.start < mark.start():
            yield waiting
            waiting = next(inverse, None)
        found = _said(text[mark.end() : min(until, mark.end() + LONGEST_STATEMENT)], mark[0], lists)
        if found is not None:
            yield Stated(mark.start(), mark.end() + found.end, found.text, PHRASE)
    if waiting is not None:
        yield waiting
        yield from inverse


def _inverse(text: str) -> Iterator[Stated]:
    for place in re.finditer(r"answers?\b", text):
        words = _IS_ANSWER.search(text, max(0, place.start() - 50), place.start())
        if words is None:
            continue
        before = max(0, words.start() - _BEFORE)
        piece = text[before : words.start()].rstrip("*_ ")
        formula = final(formulas(piece))
        if formula is not None and formula.end == len(piece):
            yield Stated(before + formula.start, place.end(), formula.text, PHRASE)
        elif (number := _NUMBER_AT_END.search(piece)) is not None:
            yield Stated(before + number.start(), place.end(), number[0], PHRASE)


def _said(rest: str, mark: str, lists: bool) -> Stated | None:
    """What is said behind a mark, placed from there on."""
    first = next(formulas(rest), None)
    if first is not None and first.start == 0:
        return _with_others(rest, first) if lists else first
    quoted = re.match(r"([\"'`])([^\"'`\n]{1,200}+)\1", rest)
    if quoted is not None:
        return Stated(0, quoted.end(), tidy(quoted[2]), PHRASE)
    # To the end of the sentence; a full stop inside a number ends nothing.
    stop = _SENTENCE_END.search(rest)
    end = len(rest) if stop is None else stop.start()
    sentence = _without_emphasis(rest[:end])
    if first is not None and first.end <= end and not re.match(r"\s*[-+$]?\d", sentence):
        value = main_value(rest[:end])
        return None if value is None else Stated(0, value.end, value.text, PHRASE)
    if '"' in mark:  # {"answer": 18, "steps": 2}
        sentence = re.split(r"[,}]\s*(?:[\"}]|$)", sentence, maxsplit=1)[0]
    said = _without_afterthought(tidy(sentence))
    return Stated(0, end, said, PHRASE) if said and not _PROSE.match(said) else None


def _with_others(rest: str, first: Stated) -> Stated:
    group = [first]  # "$2$ and $9$" are one list
    for formula in formulas(rest):
        if formula.start >= group[-1].end:
            if LINK.fullmatch(rest, group[-1].end, formula.start) is None:
                break
            group.append(formula)
    return as_list(group) if are_alike(group) else first


def _without_emphasis(sentence: str) -> str:
    # "**Answer: 18** of 20" ends with its bold, "**18** or **20**" does not
    bold = re.match(r"([^*\n]*\S)\*\*\s+(?!and\b|or\b)[A-Za-z(]", sentence)
    return (sentence if bold is None else bold[1]).replace("**", "").replace("__", "")


_AFTERTHOUGHT = re.compile(
    r"(?:,\s|\s)(?:because|since|not|rather than|instead of|as opposed to)\b.*"
    r"|,\s(?:which|where|so|but|as|when|if|and not|after|with|given|assuming|i\.e)\b.*"
    r"|(?<=[\w)}\]%$])\s\([A-Za-z][^()]*[a-z]{2}[^()]*\)$",
    re.DOTALL,
)
_COUNTED_OUT = re.compile(rf"({NUMBER_TEXT}(?:\s[A-Za-z]+)?),?\s(?:of|for|from|after|in|with|at|on)\s.*", re.DOTALL)
_PROSE = re.compile(
    r"(?:not|helpful|correct|incorrect|right|wrong|clear|unclear|below|above|shown|as follows|the following|provided"
    r"|given|obvious|reasonable|consistent|found|in|let|what)\b[^\d\\$]*$"
    r"|[^\d\\$^=+*/<>()\[\]{}]*(?:\s[^\d\\$^=+*/<>()\[\]{}]*){6}$",
    re.IGNORECASE,
)


def _without_afterthought(said: str) -> str:
    if " " not in said and not said.endswith("!"):
        return said
    found = _AFTERTHOUGHT.search(said)
    said = said if found is None or found.start() == 0 else tidy(said[: found.start()])
    counted = _COUNTED_OUT.fullmatch(said)
    said = said if counted is None else counted[1]
    return said[:-1] if re.fullmatch(rf"{NUMBER_TEXT}!", said) else said
