/* Where libraries find the calls that they do not link. A part of driver.c. */
static CUresult found(const char *symbol, void **address, int version) {
    static const struct { const char *symbol, *name; int since; } suffixed[] = {
        {"cuDeviceTotalMem", "cuDeviceTotalMem_v2", 3020}, {"cuMemGetInfo", "cuMemGetInfo_v2", 3020},
        {"cuMemAlloc", "cuMemAlloc_v2", 3020}, {"cuMemFree", "cuMemFree_v2", 3020},
        {"cuMemHostGetDevicePointer", "cuMemHostGetDevicePointer_v2", 3020},
        {"cuMemcpyHtoDAsync", "cuMemcpyHtoDAsync_v2", 3020}, {"cuMemcpyDtoHAsync", "cuMemcpyDtoHAsync_v2", 3020},
        {"cuCtxPushCurrent", "cuCtxPushCurrent_v2", 4000}, {"cuCtxPopCurrent", "cuCtxPopCurrent_v2", 4000},
        {"cuStreamDestroy", "cuStreamDestroy_v2", 4000}, {"cuEventDestroy", "cuEventDestroy_v2", 4000},
        {"cuDevicePrimaryCtxRelease", "cuDevicePrimaryCtxRelease_v2", 11000},
        {"cuStreamBeginCapture", "cuStreamBeginCapture_v2", 10010}, {"cuGetProcAddress", "cuGetProcAddress_v2", 12000},
    };
    const char *name = symbol;
    for (size_t i = 0; i < sizeof suffixed / sizeof *suffixed; i++)
        if (!strcmp(suffixed[i].symbol, symbol)) name = version >= suffixed[i].since ? suffixed[i].name : "";
    Dl_info self;
    dladdr((void *)found, &self);
    void *library = dlopen(self.dli_fname, RTLD_NOW | RTLD_NOLOAD);
    *address = *name && library ? dlsym(library, name) : NULL;
    if (library) dlclose(library);
    return *address ? CUDA_SUCCESS : CUDA_ERROR_NOT_FOUND;
}
#undef cuGetProcAddress
EXPORT CUresult cuGetProcAddress(const char *symbol, void **address, int version, cuuint64_t flags) {
    (void)flags;
    return found(symbol, address, version);
}
EXPORT CUresult cuGetProcAddress_v2(const char *symbol, void **address, int version, cuuint64_t flags, CUdriverProcAddressQueryResult *status) {
    (void)flags;
    CUresult code = found(symbol, address, version);
    if (status) *status = (CUdriverProcAddressQueryResult)(code ? 1 : 0); /* 1: not found */
    return code;
}
