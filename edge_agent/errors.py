"""Every error of the project picks a side.

EdgeAgentError
├── TransientError            try again: the runtime closes, waits and reopens
│   ├── CameraLostError       the device is gone, or could not be opened
│   │   └── FrameTimeoutError no frame came in time
│   ├── SensorLostError       the input of an external trigger is gone, or could not be opened
│   └── PublisherLostError    the broker is gone, or could not be reached
├── BadFrameError             what a camera gave is no picture: the next may be
├── EndOfStreamError          a finite source has no more frames: not a fault
└── FatalError                stop with `exit_code`; the message says what, where and what to do
    ├── UsageError            1, a command was called wrongly
    └── ConfigError           78 (EX_CONFIG), an operator must act; systemd does not restart
        ├── ModelError        the model file cannot be used as it is
        │   ├── LabelsError        the names of its classes
        │   ├── EngineUnfitError   it was built for another machine, or is damaged: building it anew helps
        │   └── DeviceMemoryError  1, it does not fit into the GPU's memory now: systemd tries again
        └── UnavailableError  a library or device that the configuration asks for is not installed
            └── GpuError           1, the GPU cannot be used now: systemd tries again
"""

EX_USAGE = 1
EX_AGAIN = 1
"""Of what may be well the next time: systemd starts the agent again."""
EX_CONFIG = 78


class EdgeAgentError(Exception):
    """The base of all errors raised on purpose."""


class TransientError(EdgeAgentError):
    """It may work the next time."""


class CameraLostError(TransientError, ConnectionError):
    """The camera is gone: unplugged, unreachable, or refused to open."""


class FrameTimeoutError(CameraLostError, TimeoutError):
    """The camera is open, but no frame came within the time given."""


class SensorLostError(TransientError, OSError):
    """The input of an external trigger is gone, or could not be opened."""


class PublisherLostError(TransientError, ConnectionError):
    """There is no connection to the broker, or it broke."""


class BadFrameError(EdgeAgentError, ValueError):
    """What the camera gave as a picture cannot be decoded. The camera itself is well."""


class EndOfStreamError(EdgeAgentError, EOFError):
    """A finite source (a video, a folder) has no more frames."""


class FatalError(EdgeAgentError):
    """Trying again would not help."""

    exit_code: int = EX_USAGE


class UsageError(FatalError, ValueError):
    """A command was called with something it cannot use."""


class ConfigError(FatalError, ValueError):
    """The configuration, or a file it names, is wrong."""

    exit_code = EX_CONFIG


class ModelError(ConfigError):
    """The model file is missing, broken, not supported, or ambiguous."""


class LabelsError(ModelError):
    """The names of its classes cannot be read, or are not those of the model."""


class EngineUnfitError(ModelError):
    """An engine was built for another TensorRT or GPU, or is damaged; building it anew from the ONNX model helps."""


class DeviceMemoryError(ModelError, MemoryError):
    """The GPU has too little memory left for the model. Others may free some: a restart may help."""

    exit_code = EX_AGAIN


class UnavailableError(ConfigError, ImportError):
    """A library or device that was asked for is not there; the message says how to get it."""


class GpuError(UnavailableError):
    """The driver does not give the GPU. Soon after power-on it may not be ready yet: a restart may help."""

    exit_code = EX_AGAIN
