"""Who writes the tokens. ``transformers_sampler`` is the reference."""
