"""Words that every world of the lab shares."""

PAD, EOS, ANSWER = "<pad>", "<eos>", "A:"
