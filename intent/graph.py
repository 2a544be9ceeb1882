"""The trained network as an ONNX graph, for ONNX Runtime to serve without torch.

The graph begins at word vectors, which NumPy looks up (`intent.engine`), and holds no weights:
it names them, and whoever opens it hands them over.

Shapes: T tokens of the longest utterance, B utterances, D embedding, F features, I intents.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from intent.shape import NetworkShape

if TYPE_CHECKING:  # whoever only serves needs no onnx
    from onnx import NodeProto

OPSET = 20
IR_VERSION = 10
ABSENT = -1e30
"""Added to the states of a token that is not there, so that it is never the largest."""

Array = NDArray[np.float32]


def build(shape: NetworkShape) -> bytes:
    """Inputs: `vectors` (T, B, D), `lengths` (B,) int32, `shares` (B, 1), one over the lengths,
    and `padding` (T, B, 1), 0 or `ABSENT`. Outputs: `logits` (B, I) and `features` (B, F).

    With a tagger, `token_features` (T, B, K) come in too, and `tags` (T, B, L) go out, the
    scores of each token's labels; absent tokens must have vectors of zeros."""
    from onnx import TensorProto, ValueInfoProto, helper

    nodes = []
    states = "vectors"
    for layer in range(shape.layers):
        weights = [f"layer{layer}.{part}" for part in ("input", "recurrent", "bias")]
        kind = {"linear_before_reset": 1} if shape.cell == "gru" else {}
        recurrent = helper.make_node(
            shape.cell.upper(),
            [states, *weights, "lengths"],
            [f"layer{layer}"],
            hidden_size=shape.hidden,
            direction="bidirectional" if shape.directions == 2 else "forward",
        )
        recurrent.attribute.extend(helper.make_attribute(*pair) for pair in kind.items())
        nodes.append(recurrent)
        # (T, directions, B, H) to (T, B, directions * H)
        nodes.append(
            helper.make_node(
                "Transpose", [f"layer{layer}"], [f"layer{layer}.turned"], perm=[0, 2, 1, 3]
            )
        )
        states = f"layer{layer}.states"
        nodes.append(helper.make_node("Reshape", [f"layer{layer}.turned", "joined"], [states]))
    if shape.layer_norm:
        nodes += [
            helper.make_node(
                "LayerNormalization",
                [states, "norm.weight", "norm.bias"],
                ["normed"],
                axis=-1,
                epsilon=1e-5,
            ),
            helper.make_node("Equal", ["padding", "zero"], ["present"]),
            helper.make_node("Where", ["present", "normed", "zero"], ["normed.present"]),
        ]
        states = "normed.present"
    nodes += [
        helper.make_node("ReduceSum", [states, "time"], ["sum"], keepdims=0),
        helper.make_node("Mul", ["sum", "shares"], ["mean"]),
        helper.make_node("Add", [states, "padding"], ["padded"]),
        helper.make_node("ReduceMax", ["padded", "time"], ["largest"], keepdims=0),
        helper.make_node("Concat", ["mean", "largest"], ["pooled"], axis=1),
        helper.make_node(
            "Gemm", ["pooled", "projection.weight", "projection.bias"], ["features"], transB=1
        ),
        helper.make_node("Gemm", ["features", "head.weight", "head.bias"], ["logits"], transB=1),
    ]
    if shape.tags:
        nodes += _tagger_nodes(states)
    constants = [
        helper.make_tensor("joined", TensorProto.INT64, [3], [0, 0, -1]),
        helper.make_tensor("time", TensorProto.INT64, [1], [0]),
    ]
    if shape.layer_norm:
        constants.append(helper.make_tensor("zero", TensorProto.FLOAT, [1], [0.0]))
    if shape.tags:
        for name, pads in (("later", [1, 0, 0, -1, 0, 0]), ("earlier", [-1, 0, 0, 1, 0, 0])):
            constants.append(helper.make_tensor(name, TensorProto.INT64, [6], pads))
    for name, size in _sizes(shape).items():
        weight = TensorProto(
            name=name,
            dims=size,
            data_type=TensorProto.FLOAT,
            data_location=TensorProto.EXTERNAL,
        )
        weight.external_data.add(key="location", value="handed over")
        constants.append(weight)

    def value(name: str, kind: int, *size: str | int) -> ValueInfoProto:
        return helper.make_tensor_value_info(name, kind, list(size))

    inputs = [
        value("vectors", TensorProto.FLOAT, "T", "B", shape.embedding),
        value("lengths", TensorProto.INT32, "B"),
        value("shares", TensorProto.FLOAT, "B", 1),
        value("padding", TensorProto.FLOAT, "T", "B", 1),
    ]
    outputs = [
        value("logits", TensorProto.FLOAT, "B", shape.intents),
        value("features", TensorProto.FLOAT, "B", shape.features),
    ]
    if shape.tags:
        inputs.append(value("token_features", TensorProto.FLOAT, "T", "B", shape.token_features))
        outputs.append(value("tags", TensorProto.FLOAT, "T", "B", shape.tags))
    graph = helper.make_graph(nodes, "intent", inputs, outputs, constants)
    opsets = [helper.make_opsetid("", OPSET)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)
    content: bytes = model.SerializeToString(deterministic=True)
    return content


def _tagger_nodes(states: str) -> "list[NodeProto]":
    """`intent.tagging.TagHead`: its convolution over three tokens as one product, whose first
    third goes to the next token and whose last third to the one before."""
    from onnx import helper

    parts = ["for_next", "for_itself", "for_previous"]
    return [
        helper.make_node("Concat", [states, "vectors", "token_features"], ["seen"], axis=2),
        helper.make_node("MatMul", ["seen", "tagger.mix"], ["mixed"]),
        helper.make_node("Split", ["mixed"], parts, axis=2, num_outputs=3),
        helper.make_node("Pad", ["for_next", "later"], ["from_before"]),
        helper.make_node("Pad", ["for_previous", "earlier"], ["from_after"]),
        helper.make_node(
            "Gemm",
            ["features", "tagger.sentence.weight", "tagger.sentence.bias"],
            ["said"],
            transB=1,
        ),
        helper.make_node("Sum", ["for_itself", "from_before", "from_after", "said"], ["summed"]),
        helper.make_node("Relu", ["summed"], ["hidden"]),
        helper.make_node("MatMul", ["hidden", "tagger.output"], ["scores"]),
        helper.make_node("Add", ["scores", "tagger.output.bias"], ["tags"]),
    ]


def weights_for(shape: NetworkShape, weights: Mapping[str, Array]) -> dict[str, Array]:
    """What `build`'s graph wants, from weights by PyTorch's names: directions are stacked, and
    gates stand in ONNX's order. PyTorch: reset, update, new; input, forget, cell, output.
    ONNX: update, reset, hidden; input, output, forget, cell."""
    order = {"rnn": [0], "gru": [1, 0, 2], "lstm": [0, 3, 1, 2]}[shape.cell]

    def stacked(part: str, layer: int) -> Array:
        found = []
        for direction in ("", "_reverse")[: shape.directions]:
            weight = weights[f"encoder.recurrent.{part}_l{layer}{direction}"]
            gates = weight.reshape(len(order), shape.hidden, *weight.shape[1:])
            found.append(gates[order].reshape(weight.shape))
        return np.stack(found)

    named: dict[str, Array] = {}
    for layer in range(shape.layers):
        named[f"layer{layer}.input"] = stacked("weight_ih", layer)
        named[f"layer{layer}.recurrent"] = stacked("weight_hh", layer)
        biases = [stacked("bias_ih", layer), stacked("bias_hh", layer)]
        named[f"layer{layer}.bias"] = np.concatenate(biases, axis=1)
    parts = ("encoder.projection", "head", *(("encoder.norm",) if shape.layer_norm else ()))
    for part in parts:
        for kind in ("weight", "bias"):
            named[f"{part.removeprefix('encoder.')}.{kind}"] = weights[f"{part}.{kind}"]
    if shape.tags:
        for name in ("tagger.sentence.weight", "tagger.sentence.bias", "tagger.output.bias"):
            named[name] = weights[name]
        for name in ("tagger.mix", "tagger.output"):
            named[name] = weights[f"{name}.weight"].T
    return {name: np.ascontiguousarray(weight, np.float32) for name, weight in named.items()}


def _sizes(shape: NetworkShape) -> dict[str, tuple[int, ...]]:
    none = {name: np.empty(size, np.float32) for name, size in shape.weights().items()}
    return {name: weight.shape for name, weight in weights_for(shape, none).items()}
