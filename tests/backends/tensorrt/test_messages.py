import threading

import pytest
from structlog.testing import capture_logs

from edge_agent.backends.tensorrt import messages
from edge_agent.backends.tensorrt.messages import Build, Messages, refusal
from edge_agent.errors import DeviceMemoryError, EngineUnfitError, ModelError

HERE, UNKNOWN = Build("10.3.0", "8.7"), Build()
LIBRARY = "The engine plan file is not compatible with this version of TensorRT, expecting library version"
DEVICE = "The engine plan file is generated on an incompatible device, expecting compute"
TAG = "Serialization assertion plan->header.magicTag == rt::kPLAN_MAGIC_TAG failed."


def why(said, made=UNKNOWN):
    return refusal("m.engine", HERE, made, [said] if isinstance(said, str) else said, "3 of 7620 MB are free")


@pytest.mark.parametrize(
    ("said", "made", "built"),
    [
        (f"6: {LIBRARY} 10.3.0.30 got 10.3.0.26, please rebuild.", UNKNOWN, "by TensorRT 10.3.0.26"),
        (f"6: {LIBRARY} 10.3.0 got 8.6.1, please rebuild.", Build(None, "8.7"), "by TensorRT 8.6.1 for sm_87"),
        (f"Error Code 6: API Usage Error ({DEVICE} 8.7 got compute 8.9, please rebuild.)", UNKNOWN, "for sm_89"),
        (f"{DEVICE} 8.7 got compute 7.5. please rebuild.", Build("8.5.2"), "by TensorRT 8.5.2 for sm_75"),
        ("Version tag does not match. Note: Current Version: 239", UNKNOWN, "by another version of TensorRT"),
        ("Version tag does not match. Note: Current Version: 239", Build("8.6.1.6"), "by TensorRT 8.6.1.6"),
        ("The current device is not compatible with this hardware-compatible engine.", UNKNOWN, "for another GPU"),
        (TAG, Build("8.5.2", "8.7"), "by TensorRT 8.5.2 for sm_87"),
        ("something new", Build("11.4.0", "11.0"), "by TensorRT 11.4.0 for sm_110"),
    ],
)
def test_a_plan_from_elsewhere_is_refused_with_what_built_it_and_what_is_here(said, made, built):
    error = why(said, made)
    assert isinstance(error, EngineUnfitError)
    assert str(error) == (
        f"m.engine: built {built}; this is TensorRT 10.3.0 on sm_87; "
        "rebuild it: edge-agent model build MODEL.onnx --force --out FILE.engine"
    )


@pytest.mark.parametrize(
    ("said", "kind", "words"),
    [
        (
            TAG,
            EngineUnfitError,
            "is no engine that TensorRT 10.3.0 can read, or is damaged; copy it again, or rebuild it",
        ),
        ("Size specified in header does not match archive size: Serialization", EngineUnfitError, "or is damaged"),
        ("since IRuntime::getEngineHostCodeAllowed() is false.", EngineUnfitError, "allow_host_code = true"),
        ("getPluginCreator could not find plugin: Foo version: 1", ModelError, "a TensorRT plugin that is not here"),
        ("Error Code 1: Cuda Runtime (out of memory)", DeviceMemoryError, "too little memory for it (3 of 7620 MB"),
        ("Error Code 2: OutOfMemory (no further information)", DeviceMemoryError, "stop other programs that use it"),
        ("what nobody has ever seen", EngineUnfitError, "cannot be loaded; rebuild it: edge-agent model build"),
        ([], EngineUnfitError, "(TensorRT 10.3.0 says: nothing)"),
    ],
)
def test_other_reasons_are_told_in_a_sentence_that_says_what_to_do(said, kind, words):
    error = why(said)
    assert type(error) is kind
    assert words in str(error)
    assert "\n" not in str(error)


def test_what_is_not_understood_is_carried_along():
    assert "(TensorRT 10.3.0 says: first reason / second reason)" in str(
        why(["first reason", "second reason", "third"])
    )


def test_the_build_number_makes_no_difference_but_the_patch_level_does():
    assert not Build("10.3.0.30").differs(Build("10.3.0"))
    assert Build("10.3.1").differs(Build("10.3.0"))
    assert not Build(None, "8.7").differs(Build("10.3.0", None))


def test_errors_are_kept_for_the_thread_they_were_said_in():
    heard = Messages()
    other = threading.Thread(target=heard.hear, args=("ERROR", "theirs"))
    other.start()
    other.join()
    heard.hear("INTERNAL_ERROR", "mine\n  too")
    assert heard.last_words() == ["mine too"]
    assert heard.last_words() == ["theirs"]  # said in a thread that TensorRT may have made for us
    assert heard.last_words() == []


def test_warnings_and_errors_go_into_our_log_and_what_is_verbose_does_not():
    heard = Messages()
    with capture_logs() as logs:
        for severity in ("VERBOSE", "INFO", "WARNING", "ERROR", "INTERNAL_ERROR"):
            heard.hear(severity, f"{severity} text")
    assert [(entry["log_level"], entry["severity"]) for entry in logs] == [
        ("debug", "info"), ("warning", "warning"), ("warning", "error"), ("warning", "internal_error"),
    ]  # fmt: skip
    assert logs[1]["event"] == "tensorrt_says"
    assert logs[1]["text"] == "WARNING text"


def test_what_is_said_with_every_frame_fills_no_log():
    heard = Messages()
    with capture_logs() as logs:
        for number in range(1000):
            heard.hear("WARNING", f"again {number} " + "x" * 1000)
    assert len(logs) == 20
    assert max(len(entry["text"]) for entry in logs) == 300


def test_a_logger_raises_nothing_into_tensorrt():
    Messages().hear("ERROR", None)


def test_there_is_one_logger_for_a_process(tensorrt):
    logger = messages.logger_for(tensorrt)
    assert logger is messages.logger_for(tensorrt)
    assert isinstance(logger, tensorrt.ILogger)
    logger.log(tensorrt.ILogger.Severity.ERROR, "by its real way")
    assert messages.MESSAGES.last_words() == ["by its real way"]
