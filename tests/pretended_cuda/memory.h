/* Memory of the host, with an address for the CPU and one for the GPU, and of the device. A part of driver.c. */
static CUresult kept(Memory memory, Memory **result) { /* the lock is held */
    if (memory.nbytes == 0) return CUDA_ERROR_INVALID_VALUE;
    if (used + memory.nbytes > (size_t)settings.memory_mb << 20) return CUDA_ERROR_OUT_OF_MEMORY;
    if (memory.mapped_nbytes) {
        int file = memfd_create("pretended", 0);
        if (file < 0 || ftruncate(file, (off_t)memory.mapped_nbytes)) return CUDA_ERROR_OUT_OF_MEMORY;
        memory.host = mmap(NULL, memory.mapped_nbytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
        memory.device = mmap(NULL, memory.mapped_nbytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
        close(file);
    } else memory.device = aligned_alloc(256, (memory.nbytes + 255) / 256 * 256);
    used += memory.nbytes;
    memory.next = memories;
    *result = memories = malloc(sizeof memory);
    **result = memory;
    return CUDA_SUCCESS;
}
static CUresult forget(const char *host, const char *device) { /* the lock is held */
    for (Memory **at = &memories, *m; (m = *at); at = &m->next) {
        if (host ? m->host != host : m->host || m->device != device) continue;
        *at = m->next;
        used -= m->nbytes;
        if (m->host) { munmap(m->host, m->mapped_nbytes); munmap(m->device, m->mapped_nbytes); live_host--; }
        else { free(m->device); live_device--; }
        free(m);
        return CUDA_SUCCESS;
    }
    return CUDA_ERROR_INVALID_VALUE;
}
static int is_live(CUdeviceptr address, size_t nbytes) {
    int found = 0;
    LOCKED(for (Memory *m = memories; m; m = m->next)
        found |= address >= (CUdeviceptr)m->device && address + nbytes <= (CUdeviceptr)m->device + m->nbytes);
    return found;
}
EXPORT CUresult cuMemHostAlloc(void **address, size_t nbytes, unsigned int flags) {
    ENTER("cuMemHostAlloc", 1);
    FORBIDDEN_IN_CAPTURE();
    Memory *memory = NULL;
    CUresult code;
    (void)flags;
    LOCKED(code = kept((Memory){.nbytes = nbytes, .mapped_nbytes = (nbytes + 4095) / 4096 * 4096}, &memory); if (!code) live_host++);
    if (!code) *address = memory->host;
    return code;
}
EXPORT CUresult cuMemHostGetDevicePointer_v2(CUdeviceptr *result, void *address, unsigned int flags) {
    ENTER("cuMemHostGetDevicePointer", 1);
    CUresult code = CUDA_ERROR_INVALID_VALUE;
    (void)flags;
    LOCKED(for (Memory *m = memories; m; m = m->next) if (m->host && m->host == address) { *result = (CUdeviceptr)m->device; code = CUDA_SUCCESS; });
    return code;
}
EXPORT CUresult cuMemFreeHost(void *address) {
    ENTER("cuMemFreeHost", 1);
    FORBIDDEN_IN_CAPTURE();
    drain_all();
    CUresult code;
    LOCKED(code = forget(address, NULL));
    return code;
}
EXPORT CUresult cuMemAlloc_v2(CUdeviceptr *address, size_t nbytes) {
    ENTER("cuMemAlloc", 1);
    FORBIDDEN_IN_CAPTURE();
    Memory *memory = NULL;
    CUresult code;
    LOCKED(code = kept((Memory){.nbytes = nbytes}, &memory); if (!code) live_device++);
    if (!code) *address = (CUdeviceptr)memory->device;
    return code;
}
EXPORT CUresult cuMemFree_v2(CUdeviceptr address) {
    ENTER("cuMemFree", 1);
    FORBIDDEN_IN_CAPTURE();
    drain_all();
    CUresult code;
    LOCKED(code = forget(NULL, (const char *)address));
    return code;
}
EXPORT CUresult cuMemGetInfo_v2(size_t *free_bytes, size_t *total) {
    ENTER("cuMemGetInfo", 1);
    LOCKED(*total = (size_t)settings.memory_mb << 20; *free_bytes = *total - used);
    return CUDA_SUCCESS;
}
EXPORT CUresult cuMemcpyHtoDAsync_v2(CUdeviceptr to, const void *from, size_t nbytes, CUstream stream) {
    ENTER("cuMemcpyHtoDAsync", 1);
    if (!is_live(to, nbytes)) return CUDA_ERROR_INVALID_VALUE;
    return enqueue(stream, &(Operation){.kind = COPY, .to = (void *)to, .from = from, .nbytes = nbytes});
}
EXPORT CUresult cuMemcpyDtoHAsync_v2(void *to, CUdeviceptr from, size_t nbytes, CUstream stream) {
    ENTER("cuMemcpyDtoHAsync", 1);
    if (!is_live(from, nbytes)) return CUDA_ERROR_INVALID_VALUE;
    return enqueue(stream, &(Operation){.kind = COPY, .to = to, .from = (void *)from, .nbytes = nbytes});
}
