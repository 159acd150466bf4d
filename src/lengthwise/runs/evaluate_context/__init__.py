"""How long a model can read: tasks over lengths and places, and the page of their results."""
