/* PTX, judged as the real driver does, and kernels, run by a library. A part of driver.c. */
static int newest_ptx(int driver) { /* the PTX version a driver knows, times ten: table of "PTX ISA", release notes */
    int major = driver / 1000, minor = driver % 1000 / 10;
    if (major >= 13) return 90 + minor;
    if (major <= 11) return 70 + minor;
    return 80 + (minor <= 5 ? minor : minor <= 6 ? 5 : minor - 1);
}
static CUresult judged(const char *ptx) {
    const char *version = strstr(ptx, ".version "), *target = strstr(ptx, ".target sm_");
    int major, minor;
    if (!version || !target || sscanf(version, ".version %d.%d", &major, &minor) != 2) return CUDA_ERROR_INVALID_PTX;
    if (major * 10 + minor > newest_ptx(settings.driver)) return CUDA_ERROR_UNSUPPORTED_PTX_VERSION;
    return atoi(target + strlen(".target sm_")) > settings.compute ? CUDA_ERROR_NO_BINARY_FOR_GPU : CUDA_SUCCESS;
}
EXPORT CUresult cuModuleLoadDataEx(CUmodule *module, const void *image, unsigned int count, CUjit_option *options, void **values) {
    ENTER("cuModuleLoadData", 1);
    (void)options; (void)values; (void)count;
    CUresult code = judged(image);
    if (code) return code;
    *module = calloc(1, sizeof **module);
    (*module)->ptx = strdup(image);
    LOCKED(live_modules++);
    return CUDA_SUCCESS;
}
EXPORT CUresult cuModuleLoadData(CUmodule *module, const void *image) { return cuModuleLoadDataEx(module, image, 0, NULL, NULL); }
EXPORT CUresult cuModuleUnload(CUmodule module) {
    ENTER("cuModuleUnload", 1);
    drain_all();
    pthread_mutex_lock(&lock);
    for (struct CUfunc_st **at = &functions, *f; (f = *at);) if (f->module == module) { *at = f->next; free(f); } else at = &f->next;
    live_modules--;
    pthread_mutex_unlock(&lock);
    free(module->ptx);
    free(module);
    return CUDA_SUCCESS;
}
static void read_parameters(struct CUfunc_st *function, const char *from) { /* ".param .align 8 .b8 name[72]" or ".param .u64 name" */
    const char *end = strchr(from, ')');
    for (const char *at = from; (at = strstr(at, ".param ")) && at < end && function->count < 32; at++) {
        size_t size = 1, align, stop = strcspn(at, ",)");
        for (const char *c = at + 6; c < at + stop; c++) if (c[0] == '.' && strchr("busf", c[1]) && c[2] >= '1' && c[2] <= '9') size = (size_t)atoi(c + 2) / 8;
        const char *aligned = memmem(at, stop, ".align ", 7), *array = memchr(at, '[', stop);
        align = aligned ? (size_t)atoi(aligned + 7) : size;
        if (array) size *= (size_t)atoi(array + 1);
        function->offsets[function->count] = (function->total + align - 1) / align * align;
        function->sizes[function->count] = size;
        function->total = function->offsets[function->count++] + size;
    }
}
EXPORT CUresult cuModuleGetFunction(CUfunction *function, CUmodule module, const char *name) {
    ENTER("cuModuleGetFunction", 1);
    char entry[256];
    snprintf(entry, sizeof entry, ".entry %s(", name);
    const char *found = strstr(module->ptx, entry);
    void *library = found && *settings.kernels ? dlopen(settings.kernels, RTLD_NOW | RTLD_LOCAL) : NULL;
    KernelCode code = library ? (KernelCode)dlsym(library, name) : NULL;
    if (found && !code) fprintf(stderr, "pretended driver: no kernel %s in \"%s\" (PRETENDED_KERNELS)\n", name, settings.kernels);
    if (!code) return CUDA_ERROR_NOT_FOUND;
    struct CUfunc_st *made = calloc(1, sizeof *made);
    made->code = code;
    made->module = module;
    read_parameters(made, found);
    LOCKED(made->next = functions; functions = made);
    *function = made;
    return CUDA_SUCCESS;
}
EXPORT CUresult cuLaunchKernel(CUfunction f, unsigned int gx, unsigned int gy, unsigned int gz, unsigned int bx, unsigned int by,
                               unsigned int bz, unsigned int shared, CUstream stream, void **parameters, void **extra) {
    ENTER("cuLaunchKernel", 1);
    (void)shared;
    if (!gx || !gy || !gz || !bx || !by || !bz || bx * by * bz > 1024) return CUDA_ERROR_INVALID_VALUE;
    if (f->total > LONGEST_ARGUMENTS) return CUDA_ERROR_INVALID_VALUE;
    Operation o = {.kind = KERNEL, .code = f->code, .grid = {gx, gy, gz}, .block = {bx, by, bz}};
    if (parameters) for (size_t i = 0; i < f->count; i++) memcpy(o.arguments + f->offsets[i], parameters[i], f->sizes[i]);
    else if (extra) { /* 1: pointer to the bytes, 2: pointer to their number, 0: end */
        const void *bytes = NULL;
        size_t nbytes = 0;
        for (; extra[0]; extra += 2) if (extra[0] == (void *)1) bytes = extra[1]; else nbytes = *(size_t *)extra[1];
        if (!bytes || nbytes < f->total || nbytes > LONGEST_ARGUMENTS) return CUDA_ERROR_INVALID_VALUE;
        memcpy(o.arguments, bytes, nbytes);
    }
    return enqueue(stream, &o);
}
