"""Which intent an utterance has, and how sure that is. Synchronous, usable alone."""
