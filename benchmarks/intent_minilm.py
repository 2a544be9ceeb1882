"""MiniLM as people serve it: ONNX Runtime, eight-bit weights, a linear head on the embedding.

Serving imports no torch, so that its memory is not counted.
"""

import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from tokenizers import Tokenizer

from intent.calibration import softmax
from intent.interface import Prediction, RankedIntent

Array = NDArray[np.float32]
MOST_TOKENS = 128
BATCH = 64
ENCODER, TOKENIZER, HEAD = "encoder.onnx", "tokenizer.json", "head.npz"


class MiniLMEmbedder:
    """One thread. The folder is one that `export_encoder` wrote."""

    def __init__(self, folder: Path) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = ort.InferenceSession(
            folder / ENCODER, options, providers=["CPUExecutionProvider"]
        )
        self._tokenizer = Tokenizer.from_file(str(folder / TOKENIZER))
        self._tokenizer.enable_truncation(MOST_TOKENS)
        self._tokenizer.enable_padding()

    def embed(self, texts: Sequence[str]) -> Array:
        """(N, E), of length 1. Texts of like length share a batch."""
        order = sorted(range(len(texts)), key=lambda place: len(texts[place]))
        parts = []
        for start in range(0, len(order), BATCH):
            chosen = [texts[place] for place in order[start : start + BATCH]]
            encoded = self._tokenizer.encode_batch_fast(chosen)
            ids = np.array([one.ids for one in encoded], np.int64)
            mask = np.array([one.attention_mask for one in encoded], np.int64)
            parts.append(self._session.run(None, {"ids": ids, "mask": mask})[0])
        found: Array = np.concatenate(parts)[np.argsort(order)]
        return found


class MiniLMClassifier:
    def __init__(self, folder: Path) -> None:
        self._embedder = MiniLMEmbedder(folder)
        head = np.load(folder / HEAD)
        self._weights: Array = head["weights"]  # (E, I)
        self._biases: Array = head["biases"]
        self._temperature = float(head["temperature"])
        self._threshold = float(head["threshold"])
        self._intents: list[str] = head["intents"].tolist()

    def logits(self, texts: Sequence[str]) -> Array:
        """(N, I)"""
        return self._embedder.embed(texts) @ self._weights + self._biases

    def classify_batch(self, texts: Sequence[str]) -> list[Prediction]:
        if not texts:
            return []
        confidences = softmax(self.logits(texts), self._temperature)
        return predictions(confidences, confidences.max(axis=1), self._threshold, self._intents)


def predictions(
    confidences: Array, scores: Array, threshold: float, intents: Sequence[str]
) -> list[Prediction]:
    """The likeliest intent alone is ranked. confidences: (N, I); scores: (N,)."""
    best = confidences.argmax(axis=1).tolist()
    return [
        Prediction(intents[place], sure, (RankedIntent(intents[place], sure),), score >= 0, score)
        for place, sure, score in zip(
            best, confidences.max(axis=1).tolist(), (scores - threshold).tolist(), strict=True
        )
    ]


def save_head(
    folder: Path,
    weights: Array,
    biases: Array,
    intents: Sequence[str],
    *,
    temperature: float = 1.0,
    threshold: float = 0.0,
) -> None:
    np.savez(
        folder / HEAD,
        weights=weights.astype(np.float32),
        biases=biases.astype(np.float32),
        intents=np.array(intents),
        temperature=temperature,
        threshold=threshold,
    )


def export_encoder(teacher: Path, folder: Path) -> None:
    """From Hugging Face's format, mean pooling included, to ONNX with eight-bit weights.

    Raises OSError or ValueError where `teacher` holds no such encoder.
    """
    import torch
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from onnxruntime.quantization.shape_inference import quant_pre_process
    from transformers import AutoModel
    from transformers.utils import logging

    logging.disable_progress_bar()
    Tokenizer.from_file(str(_existing(teacher / TOKENIZER))).save(str(folder / TOKENIZER))
    network = AutoModel.from_pretrained(
        teacher, local_files_only=True, use_safetensors=True, attn_implementation="eager"
    )

    class Pooled(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network: Any = network

        def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
            states = self.network(input_ids=ids, attention_mask=mask).last_hidden_state
            weights = mask[:, :, None].to(states.dtype)
            return torch.nn.functional.normalize((states * weights).sum(1) / weights.sum(1), dim=1)

    ids = torch.randint(1000, 2000, (2, 9))
    mask = torch.ones_like(ids)
    mask[1, 6:] = 0
    with tempfile.TemporaryDirectory() as scratch, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        plain, prepared = Path(scratch, "plain.onnx"), Path(scratch, "prepared.onnx")
        # The other exporter needs onnxscript.
        torch.onnx.export(
            Pooled().eval(),
            (ids, mask),
            plain,
            input_names=["ids", "mask"],
            output_names=["embedding"],
            dynamic_axes={"ids": [0, 1], "mask": [0, 1], "embedding": [0]},
            opset_version=17,
            dynamo=False,
        )
        quant_pre_process(plain, prepared, skip_symbolic_shape=True)
        quantize_dynamic(prepared, folder / ENCODER, weight_type=QuantType.QInt8)


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise OSError(f"{path} is missing")
    return path
