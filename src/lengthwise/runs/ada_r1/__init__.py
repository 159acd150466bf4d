"""Ada-R1's stages: merge, sample, pairs, DPO."""
