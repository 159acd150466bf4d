"""What lengthwise does under kills, faults, load and hostile input: harnesses that anyone can run."""
