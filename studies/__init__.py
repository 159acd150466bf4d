"""The lab's studies: what was registered, how runs are made, what is kept of them, and their pages."""
