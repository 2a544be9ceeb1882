"""Whether as much of the traffic is in scope as a certificate takes for granted."""

import math

from intent.interface import Certificate

MEMORY = 1_000
"""Messages after which one counts for 1/e of what it did."""
FEWEST = 200
DEVIATIONS = 3.0


class Traffic:
    """What the network called in scope of late, in this process; recent messages count most."""

    def __init__(self) -> None:
        self._messages = 0.0
        self._in_scope = 0.0

    def note(self, *, in_scope: bool) -> None:
        kept = 1 - 1 / MEMORY
        self._messages = self._messages * kept + 1
        self._in_scope = self._in_scope * kept + in_scope

    def is_within(self, certificate: Certificate | None) -> bool:
        """False where clearly fewer messages are called in scope than would be if the share in
        scope were the promised one and they resembled those it was calibrated on."""
        usual = certificate and certificate.usual_in_scope
        if not certificate or not usual or self._messages < FEWEST:
            return True
        share = certificate.promise.least_in_scope
        expected = share * usual[0] + (1 - share) * usual[1]
        spread = math.sqrt(expected * (1 - expected) / self._messages)
        return self._in_scope / self._messages >= expected - DEVIATIONS * spread
