"""Does what `python -m intent train --progress json` does for those who watch it, in 20 ms."""

import json
import sys
from pathlib import Path


def main(data: str, artifact: str) -> None:
    lines = Path(data).read_text().splitlines()
    for number in (1, 2):
        tell({"event": "epoch", "number": number, "of": 2, "train_loss": 1.0 / number})
    Path(artifact).write_bytes(f"learnt from {len(lines)} lines".encode() * 100)
    tell(
        {
            "event": "saved",
            "data_hash": "0" * 64,
            "intents": {"greet": len(lines)},
            "evaluation": {"accuracy": 1.0},
        }
    )


def tell(report: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(report) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
