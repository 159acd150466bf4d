"""Words that every world of the lab shares."""

PAD, EOS, ANSWER = "<pad>", "<eos>", "A:"
ASK_LONG, ASK_SHORT = "[Please answer with Long CoT]", "[Please answer with Short CoT]"
"""What stands before a problem to ask a reasoner with two modes for one of them; a word each."""
OPEN_LONG, OPEN_SHORT = "think:", "direct:"
"""The first word of an answer in either mode."""
MODES = (ASK_LONG, ASK_SHORT, OPEN_LONG, OPEN_SHORT)
