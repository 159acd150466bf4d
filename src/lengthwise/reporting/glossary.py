"""Words of the field that a reader of a page may not know, with what they mean."""

from __future__ import annotations

import re

from markupsafe import Markup, escape

MEANINGS = {
    "uniform groups": "Answers to one problem that are all right or all wrong: accuracy teaches nothing there",
    "nats": "Units of the natural logarithm; one nat is 1.44 bits",
    "entropy": "How undecided the model is about the next token; 0 is certain",
    "KL to the start": "How far the model's probabilities have moved from those before training; 0 is not at all",
    "tokens clipped": "Share of tokens whose probability had moved too far in one update to be pushed further",
    "bootstrap": "Computed again and again on problems drawn with replacement; the middle 95% of what comes out",
    "paired": "Both sides on the same problems, so that hard problems do not count as a difference",
    "greedy": "Always the likeliest next token",
    "removable": "Tokens beyond the shortest sound answer, which the lab knows",
    "accuracy-efficiency score": "Tokens saved plus accuracy gained, with a loss of accuracy weighed more",
    "front": "What no other has both fewer tokens and at least the accuracy of",
    "perplexity": "exp of the mean loss: as undecided as among so many equally likely tokens",
    "mean loss": "Mean negative log probability of the next token, in nats; lower is better",
    "cap": "Most tokens that a response may have",
    "scheme": "How positions are told to the model beyond the length that it was trained on",
    "pass@k": "One of k samples is right",
    "majority@k": "The most frequent answer of k samples is right",
}
"""By the word as pages write it; a word in the plural or with a capital letter is found too."""
WORDS = re.compile(rf"\b({'|'.join(sorted(map(re.escape, MEANINGS), key=len, reverse=True))})(?!\w)", re.IGNORECASE)
_LOWER = {word.lower(): meaning for word, meaning in MEANINGS.items()}


def gloss(text: str) -> Markup:
    """A text for a page, escaped, with the first use of each known word explained on hover and for screen readers."""
    told = set[str]()

    def explained(found: re.Match[str]) -> str:
        word = found[0].lower()
        if word in told:
            return found[0]
        told.add(word)
        return Markup('<abbr title="{}" tabindex="0">{}</abbr>').format(_LOWER[word], found[0])

    return Markup(WORDS.sub(explained, str(escape(text))))
