"""The reader's layers as ONNX graphs, for ONNX Runtime to serve without torch.

A graph begins at word vectors, which NumPy looks up (`generator.reader`), and holds no weights:
it names them, and whoever opens it hands them over. Matrices multiply in eight bits: weights
are so stored, activations are quantized as they come (Jacob et al. 2018).

Shapes: B texts, T tokens of the longest, D width, H heads, d = D / H, L tokens of a passage.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from onnx import NodeProto, TensorProto, ValueInfoProto

OPSET = 20
IR_VERSION = 10
ABSENT = -1e4
"""Added to what is paid to a token that is not there, so that it gets no attention."""

NARROW = 96


@dataclass(frozen=True, slots=True)
class ReaderShape:
    vocabulary: int
    width: int = 384
    heads: int = 12
    inner: int = 1536
    layers: int = 6
    alone: int = 2
    """The first so many layers read a question by itself; the others read it beside a passage."""
    positions: int = 512
    narrow: int = NARROW
    """Width of the vectors that single words are compared by."""

    @property
    def together(self) -> range:
        return range(self.alone, self.layers)

    def matrices(self) -> dict[str, tuple[int, int]]:
        """(inputs, outputs) of each."""
        sizes: dict[str, tuple[int, int]] = {}
        for layer in range(self.layers):
            for name in ("query", "key", "value", "output"):
                sizes[f"layer{layer}.{name}"] = (self.width, self.width)
            sizes[f"layer{layer}.up"] = (self.width, self.inner)
            sizes[f"layer{layer}.down"] = (self.inner, self.width)
        return sizes


def encoder(shape: ReaderShape) -> bytes:
    """Each text by itself. Inputs: `vectors` (B, T, D) and `padding` (B, 1, 1, T), 0 or `ABSENT`.
    Outputs: `states` (B, T, D), `low` (B, T, D), which the first layer after `shape.alone` takes,
    and `key{n}`, `value{n}` (B, H, T, d) of the layers that read together."""
    graph = _Graph(shape)
    states = graph.normed("vectors", "embedding")
    outputs = ["states", "low"]
    for layer in range(shape.layers):
        if layer == shape.alone:
            graph.add("Identity", [states], "low")
        query, key, value = graph.projected(states, layer)
        if layer in shape.together:
            outputs += [
                graph.add("Identity", [key], f"key{layer}"),
                graph.add("Identity", [value], f"value{layer}"),
            ]
        attention = graph.attention(query, key, "padding", layer)
        states = graph.rest_of_layer(states, graph.add("MatMul", [attention, value]), layer)
    graph.add("Identity", [states], "states")
    inputs = {"vectors": ("B", "T", shape.width), "padding": ("B", 1, 1, "T")}
    return graph.serialized(inputs, outputs)


def reader(shape: ReaderShape) -> bytes:
    """A question beside each of B passages. Inputs: `low` (B, T, D) of the question, `padding`
    (B, 1, 1, L + T) of passage and question, and `key{n}`, `value{n}` (B, H, L, d) of the
    passages. Outputs: `states` (B, T, D) of the question and `attention` (B, H, T, L + T) of
    the last layer."""
    graph = _Graph(shape)
    states = "low"
    inputs: dict[str, tuple[str | int, ...]] = {
        "low": ("B", "T", shape.width),
        "padding": ("B", 1, 1, "LT"),
    }
    attention = ""
    for layer in shape.together:
        for kind in ("key", "value"):
            inputs[f"{kind}{layer}"] = ("B", shape.heads, "L", shape.width // shape.heads)
        query, key, value = graph.projected(states, layer)
        told = graph.add("Add", [f"key{layer}", graph.vector(f"layer{layer}.of_passage")])
        key = graph.add("Concat", [told, key], axis=2)
        value = graph.add("Concat", [f"value{layer}", value], axis=2)
        attention = graph.attention(query, key, "padding", layer)
        states = graph.rest_of_layer(states, graph.add("MatMul", [attention, value]), layer)
    graph.add("Identity", [states], "states")
    graph.add("Identity", [attention], "attention")
    return graph.serialized(inputs, ["states", "attention"])


class _Graph:
    """Nodes as they are added; weights as they are first named."""

    def __init__(self, shape: ReaderShape) -> None:
        self._shape = shape
        self._nodes: list[NodeProto] = []
        self._weights: dict[str, TensorProto] = {}
        self._constants: dict[str, TensorProto] = {}

    def add(self, kind: str, inputs: list[str], output: str = "", **attributes: Any) -> str:
        from onnx import helper

        output = output or f"{kind}.{len(self._nodes)}"
        self._nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    def vector(self, name: str) -> str:
        from onnx import TensorProto

        width = self._shape.inner if name.endswith(".up.bias") else self._shape.width
        size = [width]
        if name.endswith(".of_passage"):
            size = [1, self._shape.heads, 1, width // self._shape.heads]
        elif name.endswith(".scale"):
            size = [self._shape.matrices()[name.removesuffix(".scale")][1]]
        return self._weight(name, TensorProto.FLOAT, size)

    def normed(self, states: str, name: str) -> str:
        gain, bias = self.vector(f"{name}.norm.weight"), self.vector(f"{name}.norm.bias")
        return self.add("LayerNormalization", [states, gain, bias], axis=-1, epsilon=1e-12)

    def projected(self, states: str, layer: int) -> tuple[str, str, str]:
        """Query, key and value, (B, H, T, d); the query is scaled."""
        shape = self._shape
        quantized = self._quantized(states)
        heads = self._constant("heads", [0, 0, shape.heads, shape.width // shape.heads])
        found = []
        for name in ("query", "key", "value"):
            flat = self._linear(quantized, f"layer{layer}.{name}")
            split = self.add("Reshape", [flat, heads])
            found.append(self.add("Transpose", [split], perm=[0, 2, 1, 3]))
        scale = self._constant("scale", [(shape.width // shape.heads) ** -0.5])
        return self.add("Mul", [found[0], scale]), found[1], found[2]

    def attention(self, query: str, key: str, padding: str, layer: int) -> str:
        turned = self.add("Transpose", [key], perm=[0, 1, 3, 2])
        paid = self.add("Add", [self.add("MatMul", [query, turned]), padding])
        return self.add("Softmax", [paid], axis=-1)

    def rest_of_layer(self, states: str, heads: str, layer: int) -> str:
        turned = self.add("Transpose", [heads], perm=[0, 2, 1, 3])
        joined = self.add("Reshape", [turned, self._constant("joined", [0, 0, -1])])
        attended = self._linear(self._quantized(joined), f"layer{layer}.output")
        states = self.normed(self.add("Add", [states, attended]), f"layer{layer}.attention")
        inner = self.add("Gelu", [self._linear(self._quantized(states), f"layer{layer}.up")])
        outer = self._linear(self._quantized(inner), f"layer{layer}.down")
        return self.normed(self.add("Add", [states, outer]), f"layer{layer}.inner")

    def _quantized(self, states: str) -> tuple[str, str, str]:
        """Values, scale and zero point."""
        from onnx import helper

        number = len(self._nodes)
        parts = (f"values.{number}", f"scale.{number}", f"zero.{number}")
        self._nodes.append(helper.make_node("DynamicQuantizeLinear", [states], list(parts)))
        return parts

    def _linear(self, states: tuple[str, str, str], name: str) -> str:
        from onnx import TensorProto

        values, scale, zero = states
        matrix = self._weight(name, TensorProto.INT8, list(self._shape.matrices()[name]))
        summed = self.add("MatMulInteger", [values, matrix, zero])
        scales = self.add("Mul", [scale, self.vector(f"{name}.scale")])
        real = self.add("Cast", [summed], to=TensorProto.FLOAT)
        product = self.add("Mul", [real, scales])
        return self.add("Add", [product, self.vector(f"{name}.bias")])

    def _weight(self, name: str, kind: int, size: list[int]) -> str:
        from onnx import TensorProto

        if name not in self._weights:
            weight = TensorProto(
                name=name, dims=size, data_type=kind, data_location=TensorProto.EXTERNAL
            )
            weight.external_data.add(key="location", value="handed over")
            self._weights[name] = weight
        return name

    def _constant(self, name: str, values: list[int] | list[float]) -> str:
        from onnx import TensorProto, helper

        kind = TensorProto.FLOAT if isinstance(values[0], float) else TensorProto.INT64
        self._constants[name] = helper.make_tensor(name, kind, [len(values)], values)
        return name

    def serialized(self, inputs: dict[str, tuple[str | int, ...]], outputs: Iterable[str]) -> bytes:
        from onnx import TensorProto, helper

        def value(name: str, size: tuple[str | int, ...] | None) -> "ValueInfoProto":
            return helper.make_tensor_value_info(
                name, TensorProto.FLOAT, None if size is None else list(size)
            )

        graph = helper.make_graph(
            self._nodes,
            "reader",
            [value(name, size) for name, size in inputs.items()],
            [value(name, None) for name in outputs],
            [*self._weights.values(), *self._constants.values()],
        )
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION
        )
        content: bytes = model.SerializeToString(deterministic=True)
        return content
