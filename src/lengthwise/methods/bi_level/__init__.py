"""Ada-R1's stages: the merge, the samples, the pairs and DPO on them."""
