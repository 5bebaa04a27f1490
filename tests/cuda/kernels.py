"""A small kernel, as PTX for the driver and as C for the pretended one."""

import ctypes
from pathlib import Path

from tests import pretended_cuda

PTX = b"""
.version 7.0
.target sm_72
.address_size 64
.visible .entry add(
    .param .align 8 .b8 add_param_0[16]
)
{
    ret;
}
"""


class Add(ctypes.Structure):
    _fields_ = (("to", ctypes.c_uint64), ("nbytes", ctypes.c_uint32), ("term", ctypes.c_uint8))


def put_in_place(driver):
    library = pretended_cuda.compiled("kernels.so", Path(__file__).with_name("kernels.c"))
    driver.pretended_kernels(str(library).encode())
