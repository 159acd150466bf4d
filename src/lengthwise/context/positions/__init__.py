"""Position schemes: frequencies, what they write into a config, extended folders and fine-tuning under them."""
