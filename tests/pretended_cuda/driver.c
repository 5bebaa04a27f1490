/* A pretended NVIDIA driver: libcuda.so.1 as far as this project uses it, on host memory, for machines without a GPU.
 *
 * It is asynchronous as the real one: every stream has a thread that does its work in order, so that a forgotten wait
 * shows. Mapped host memory has two addresses for the same bytes, so that a mistaken one shows. It is strict where the
 * real one is: a context must be current in the calling thread, addresses must lie in live memory, a capture forbids
 * allocating and waiting. With -DWITH_CUDA_H the signatures are compared with those of NVIDIA's header.
 *
 * Settings are functions, or environment variables of the same name in capitals, for child processes:
 * pretended_compute(87), pretended_integrated(1), pretended_memory_mb(4096), pretended_driver(12060),
 * pretended_name("Orin"), pretended_slow_ms(0), pretended_kernels("/path/lib.so"); PRETENDED_FAIL="cuMemAlloc=2".
 *
 * A kernel NAME is run by `void NAME(const void *arguments, const unsigned grid[3], const unsigned block[3])` of the
 * library of pretended_kernels: once per launch, with the bytes of its parameters as the PTX declares them.
 */
#include "calls.h"
#include "streams.h"
#include "memory.h"
#include "kernels.h"
#include "graphs.h"
#include "errors.h"
#include "symbols.h"
#ifndef WITH_CUDA_H
#include "not_pretended.h"
#endif

EXPORT CUresult cuInit(unsigned int flags) { ENTER("cuInit", -1); (void)flags; LOCKED(is_ready = 1); return CUDA_SUCCESS; }
EXPORT CUresult cuDriverGetVersion(int *version) { ENTER("cuDriverGetVersion", -1); *version = settings.driver; return CUDA_SUCCESS; }
EXPORT CUresult cuDeviceGetCount(int *count) { ENTER("cuDeviceGetCount", 0); *count = 1; return CUDA_SUCCESS; }
EXPORT CUresult cuDeviceGet(CUdevice *device, int ordinal) {
    ENTER("cuDeviceGet", 0);
    if (ordinal != 0) return CUDA_ERROR_INVALID_DEVICE;
    *device = 0;
    return CUDA_SUCCESS;
}
EXPORT CUresult cuDeviceGetName(char *name, int len, CUdevice dev) {
    ENTER("cuDeviceGetName", 0);
    (void)dev;
    snprintf(name, (size_t)len, "%s", settings.name);
    return CUDA_SUCCESS;
}
EXPORT CUresult cuDeviceTotalMem_v2(size_t *bytes, CUdevice dev) {
    ENTER("cuDeviceTotalMem", 0);
    (void)dev;
    *bytes = (size_t)settings.memory_mb << 20;
    return CUDA_SUCCESS;
}
EXPORT CUresult cuDeviceComputeCapability(int *major, int *minor, CUdevice dev) {
    ENTER("cuDeviceComputeCapability", 0);
    (void)dev;
    *major = settings.compute / 10;
    *minor = settings.compute % 10;
    return CUDA_SUCCESS;
}
EXPORT CUresult cuDeviceGetAttribute(int *value, CUdevice_attribute attribute, CUdevice dev) {
    ENTER("cuDeviceGetAttribute", 0);
    (void)dev;
    switch ((int)attribute) {
        case 16: *value = settings.multiprocessors; return CUDA_SUCCESS;
        case 18: *value = settings.integrated; return CUDA_SUCCESS;
        case 19: *value = 1; return CUDA_SUCCESS; /* can map host memory */
        case 75: *value = settings.compute / 10; return CUDA_SUCCESS; /* the compute capability */
        case 76: *value = settings.compute % 10; return CUDA_SUCCESS;
        default: return CUDA_ERROR_INVALID_VALUE;
    }
}
EXPORT CUresult cuDevicePrimaryCtxRetain(CUcontext *context, CUdevice dev) {
    ENTER("cuDevicePrimaryCtxRetain", 0);
    (void)dev;
    LOCKED(primary.retained++; live_contexts++);
    *context = &primary;
    return CUDA_SUCCESS;
}
EXPORT CUresult cuDevicePrimaryCtxRelease_v2(CUdevice dev) {
    ENTER("cuDevicePrimaryCtxRelease", 0);
    (void)dev;
    CUresult code = CUDA_SUCCESS;
    LOCKED(if (primary.retained) { primary.retained--; live_contexts--; } else code = CUDA_ERROR_INVALID_CONTEXT);
    return code;
}
EXPORT CUresult cuCtxPushCurrent_v2(CUcontext context) {
    ENTER("cuCtxPushCurrent", 0);
    if (!context || depth == DEEPEST_STACK) return CUDA_ERROR_INVALID_VALUE;
    if (!primary.retained) return CUDA_ERROR_INVALID_CONTEXT;
    stack[depth++] = context;
    return CUDA_SUCCESS;
}
EXPORT CUresult cuCtxPopCurrent_v2(CUcontext *context) {
    ENTER("cuCtxPopCurrent", 0);
    if (!depth) return CUDA_ERROR_INVALID_CONTEXT;
    depth--;
    if (context) *context = stack[depth];
    return CUDA_SUCCESS;
}
EXPORT CUresult cuCtxGetCurrent(CUcontext *context) { ENTER("cuCtxGetCurrent", 0); *context = depth ? stack[depth - 1] : NULL; return CUDA_SUCCESS; }
EXPORT CUresult cuCtxGetDevice(CUdevice *device) { ENTER("cuCtxGetDevice", 1); *device = 0; return CUDA_SUCCESS; }
EXPORT CUresult cuCtxSynchronize(void) { ENTER("cuCtxSynchronize", 1); FORBIDDEN_IN_CAPTURE(); drain_all(); return CUDA_SUCCESS; }
