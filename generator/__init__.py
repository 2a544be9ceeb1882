"""Free-text replies for open-ended turns. Asynchronous, usable alone."""
