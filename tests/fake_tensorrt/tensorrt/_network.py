"""Networks as the ONNX parser fills them."""

from pathlib import Path

from tensorrt._api import MAJOR, has
from tensorrt._onnx import Model, operations
from tensorrt._shared import ENUMS
from tensorrt._values import Dims, ILogger

_LAYERS = {"QuantizeLinear": "QUANTIZE", "DequantizeLinear": "DEQUANTIZE", "Conv": "CONVOLUTION", "Relu": "ACTIVATION"}


class ITensor:
    def __init__(self, name, dtype, shape):
        has(self, name=name, dtype=ENUMS["DataType"][dtype], shape=Dims(shape), is_network_input=True)
        has(self, is_shape_tensor=False, is_execution_tensor=True)


class ILayer:
    def __init__(self, name, operation):
        has(
            self,
            name=name,
            type=ENUMS["LayerType"][_LAYERS.get(operation, "ELEMENTWISE")],
            num_inputs=1,
            num_outputs=1,
        )


class INetworkDefinition:
    def __init__(self, flags):
        explicit = MAJOR >= 10 or flags & 1  # EXPLICIT_BATCH, which is bit 0 where it means something
        self._onnx, self._inputs, self._outputs, self._layers = b"", [], [], []
        has(self, name="Unnamed Network 0", flags=flags, has_implicit_batch_dimension=not explicit, error_recorder=None)
        self._explicit = bool(explicit)

    @property
    def num_inputs(self):
        return len(self._inputs)

    @property
    def num_outputs(self):
        return len(self._outputs)

    @property
    def num_layers(self):
        return len(self._layers)

    def get_input(self, index):
        return self._inputs[index]

    def get_output(self, index):
        return self._outputs[index]

    def get_layer(self, index):
        return self._layers[index]

    def __len__(self):
        return len(self._layers)

    def __getitem__(self, index):
        return self._layers[index]

    def _fill(self, content, model, nodes):
        def tensor(name):
            dtype = model.dtype(name)
            return ITensor(name, "INT32" if MAJOR < 10 and dtype == "INT64" else dtype, model.shape(name))

        self._onnx = content
        self._inputs = [tensor(name) for name in model.inputs]
        self._outputs = [tensor(name) for name in model.outputs]
        self._layers = [ILayer(*node) for node in nodes]


class ParserError:
    """Methods, not properties, tell of one error."""

    def __init__(self, code, words, node=-1, operation="", function="parseNode"):
        self._code, self._words, self._node, self._operation, self._function = code, words, node, operation, function

    def code(self):
        return ENUMS["ErrorCode"][self._code]

    def desc(self):
        return self._words

    def file(self):
        return "ModelImporter.cpp"

    def line(self):
        return 726

    def func(self):
        return self._function

    def node(self):
        return self._node

    def node_name(self):
        return self._operation.lower()

    def node_operator(self):
        return self._operation

    def __repr__(self):
        """As str() of the real one is made."""
        where = f"In node {self._node}"
        if MAJOR >= 10:
            where += f" with name: {self.node_name()} and operator: {self._operation}"
        return f"{where} ({self._function}): {self._code}: {self._words}"


class OnnxParser:
    def __init__(self, network, logger):
        self._network, self._sink, self._errors = network, logger, []

    @property
    def num_errors(self):
        return len(self._errors)

    def get_error(self, index):
        return self._errors[index]

    def clear_errors(self):
        self._errors.clear()

    def parse_from_file(self, model):
        path = Path(model)
        if not path.is_file():
            self._sink.log(ILogger.ERROR, f"Could not open file {model}")
            self._sink.log(ILogger.ERROR, f"Failed to parse ONNX model from file: {model}")
            return False
        return self.parse(path.read_bytes(), model)

    def parse(self, model, path=None):
        content = bytes(model)
        if not self._network._explicit:
            words = (
                'Assertion failed: !_importer_ctx.network()->hasImplicitBatchDimension() && "This version of the ONNX parser '
                "only supports TensorRT INetworkDefinitions with an explicit batch dimension. Please ensure the network was "
                'created using the EXPLICIT_BATCH NetworkDefinitionCreationFlag."'
            )
            return self._refuse("INVALID_NODE", words, function="importModel")
        try:
            nodes = operations(content)
        except (IndexError, ValueError):
            words = 'Assertion failed: (model->ParseFromCodedStream(&coded_input)) && "Failed to parse the ONNX model."'
            return self._refuse("MODEL_DESERIALIZE_FAILED", words, function="deserializeOnnxModel")
        try:
            self._network._fill(content, Model(content), nodes)
        except Exception:  # noqa: BLE001 - ONNX Runtime's own, of many kinds
            creator = 'creator && "Plugin not found, are the plugin name, version, and namespace correct?"'
            words = creator if MAJOR >= 10 else f"Assertion failed: {creator}"
            function = "checkFallbackPluginImporter" if MAJOR >= 10 else "importFallbackPluginImporter"
            return self._refuse("UNSUPPORTED_NODE", words, 0, nodes[0][1] if nodes else "", function)
        return True

    def _refuse(self, code, words, node=-1, operation="", function="parseNode"):
        self._errors.append(ParserError(code, words, node, operation, function))
        number = int(self._errors[-1].code())
        self._sink.log(
            ILogger.ERROR,
            f"ModelImporter.cpp:726: ERROR: ModelImporter.cpp:726 In function {function}:\n[{number}] {words}",
        )
        return False
