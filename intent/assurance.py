"""One number for how well an instant answer is backed, from 0 to 1.

The mean of two log-odds: those of the confidence, which tell intents from one another, and the
scope score, which tells known from unknown. Above `ENOUGH` confidence says nothing more: what is
out of scope is often given some intent with next to certainty. On CLINC150's validation data, nine
of ten messages in scope, it is about the chance that the answer is right (docs/decisions/0023).
It ranks utterances; what a threshold of it is worth is counted, not assumed.
"""

import math

ENOUGH = 4.0
"""Log-odds of a confidence of 98.2 %."""
LEAST = -30.0


def assurance(confidence: float, scope_score: float) -> float:
    capped = min(1 - 1e-9, max(1e-9, confidence))
    log_odds = min(ENOUGH, math.log(capped / (1 - capped)))
    return 1 / (1 + math.exp(-max(LEAST, (log_odds + scope_score) / 2)))
