"""Many methods under one protocol, in processes of their own, and the page that says what may be claimed."""
