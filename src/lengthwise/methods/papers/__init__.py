"""One file per paper. A file that declares a method here is found by `lengthwise.methods`; nothing else lists it."""
