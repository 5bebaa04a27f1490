import platform
import subprocess
import sys

import pytest

COUNT = """
import ctypes, sys, threading
from edge_agent.runtime import heap
if sys.argv[1] == "one":
    assert heap.share_one()
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
held = threading.Barrier(4)
def hold():
    libc.malloc(10_000)
    held.wait()
threads = [threading.Thread(target=hold) for _ in range(3)]
for thread in threads: thread.start()
held.wait()
libc.malloc_info(0, ctypes.c_void_p.in_dll(libc, "stdout"))
libc.fflush(None)
"""


def heaps(word):
    ended = subprocess.run([sys.executable, "-c", COUNT, word], capture_output=True, text=True, check=True)
    return ended.stdout.count("<heap nr=")


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc gives threads heaps of their own")
def test_threads_that_start_later_have_no_heap_of_their_own():
    assert heaps("many") > 1
    assert heaps("one") == 1
