"""The k nearest training examples by MiniLM's embedding, behind the same certificate and route.

    python -m benchmarks.hybrid.neighbours FOLDER --port N --promise SHARE SHARE SHARE

serves what `fit` wrote to the folder: POST /v1/route, without keys, limits and a database.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import astuple
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.intent_minilm import MiniLMEmbedder
from intent.certificate import Calibration
from intent.data import TrainingSet
from intent.interface import Prediction, Promise, RankedIntent
from intent.thresholds import Judged, ThresholdPlan, unseen

NEIGHBOURS = 10
EXAMPLES, CALIBRATION = "examples.npz", "calibration.json"


class NeighbourClassifier:
    def __init__(self, folder: Path) -> None:
        self._embedder = MiniLMEmbedder(folder)
        stored = np.load(folder / EXAMPLES)
        self._embeddings: NDArray[np.float32] = stored["embeddings"]  # (N, E), of length 1
        self._labels: NDArray[np.int64] = stored["labels"]
        self._intents: list[str] = stored["intents"].tolist()

    def classify_batch(self, texts: Sequence[str]) -> list[Prediction]:
        return [self._of(each) for each in self._embedder.embed(texts)] if texts else []

    def _of(self, embedding: NDArray[np.float32]) -> Prediction:
        """The assurance is what the neighbours of the intent are alike, as a mean over all."""
        cosines = self._embeddings @ embedding
        nearest = np.argpartition(-cosines, NEIGHBOURS)[:NEIGHBOURS]
        votes = np.bincount(self._labels[nearest], cosines[nearest], len(self._intents))
        intent = self._intents[votes.argmax()]
        assurance = float(np.clip(votes.max() / NEIGHBOURS, 0, 1))
        return Prediction(
            intent,
            assurance,
            (RankedIntent(intent, assurance),),
            in_scope=True,
            assurance=assurance,
        )


def fit(
    folder: Path, data: TrainingSet, valid: TrainingSet, calibration: TrainingSet
) -> NeighbourClassifier:
    """`folder` holds what `export_encoder` wrote. `valid` chooses the thresholds that are tried
    on `calibration`, as for the served network."""
    embeddings = MiniLMEmbedder(folder).embed([example.text for example in data.examples])
    place = {intent: number for number, intent in enumerate(data.intents)}
    np.savez(
        folder / EXAMPLES,
        embeddings=embeddings,
        labels=np.array([place[example.intent] for example in data.examples]),
        intents=np.array(data.intents),
    )
    classifier = NeighbourClassifier(folder)
    plan = ThresholdPlan.of(_judge(classifier, valid))
    counted = plan.count([_judge(classifier, unseen(calibration, data, valid))], basis="given")
    (folder / CALIBRATION).write_text(json.dumps(counted.to_json()))
    return classifier


def _judge(classifier: NeighbourClassifier, data: TrainingSet) -> Judged:
    inside, outside = (
        classifier.classify_batch([example.text for example in examples])
        for examples in (data.examples, data.out_of_scope)
    )
    return data, inside, outside


def command(folder: Path, port: int, promise: Promise) -> list[str]:
    shares = map(str, astuple(promise))
    return ["benchmarks.hybrid.neighbours", str(folder), "--port", str(port), "--promise", *shares]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.hybrid.neighbours")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--promise", type=float, nargs=3, required=True)
    options = parser.parse_args()
    _serve(options.folder, options.port, Promise(*options.promise))


def _serve(folder: Path, port: int, promise: Promise) -> None:
    import uvicorn
    from fastapi import FastAPI
    from pydantic import BaseModel

    from app.dialogue.routing import Grounds, RoutingPolicy
    from app.dialogue.state import DialogueState
    from intent.certificate import certify

    classifier = NeighbourClassifier(folder)
    counted = Calibration.from_json(json.loads((folder / CALIBRATION).read_text()))
    policy, grounds = RoutingPolicy(), Grounds(certify(counted, promise))
    app = FastAPI()

    class Question(BaseModel):
        text: str

    @app.get("/readyz")
    async def ready() -> dict[str, Any]:
        return {}

    @app.post("/v1/route")
    async def route(question: Question) -> dict[str, Any]:
        prediction = classifier.classify_batch([question.text])[0]
        decision = policy.choose(prediction, DialogueState(), grounds)
        return {
            "decision": decision.to_json(),
            "prediction": {"intent": prediction.intent, "assurance": prediction.assurance},
            "certificate": {"certified": bool(grounds.certificate and grounds.certificate.point)},
        }

    uvicorn.run(app, port=port, log_level="warning", access_log=False)


if __name__ == "__main__":
    main()
