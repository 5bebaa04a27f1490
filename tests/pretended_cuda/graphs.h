/* What a stream is given while it is captured, kept and replayed. A part of driver.c. */
EXPORT CUresult cuStreamBeginCapture_v2(CUstream stream, CUstreamCaptureMode mode) {
    ENTER("cuStreamBeginCapture", 1);
    (void)mode;
    CUresult code = CUDA_SUCCESS;
    LOCKED(if (stream->capture) code = CUDA_ERROR_ILLEGAL_STATE;
        else { stream->capture = calloc(1, sizeof *stream->capture); stream->invalid = 0; stream->capturer = pthread_self(); live_graphs++; });
    return code;
}
EXPORT CUresult cuGraphDestroy(CUgraph graph) {
    ENTER("cuGraphDestroy", 0);
    LOCKED(clear(&graph->queue); live_graphs--);
    free(graph);
    return CUDA_SUCCESS;
}
EXPORT CUresult cuStreamEndCapture(CUstream stream, CUgraph *graph) {
    CUresult failure = entered("cuStreamEndCapture", 1); /* which ends the capture all the same */
    *graph = NULL;
    if (!stream->capture) return failure ? failure : CUDA_ERROR_ILLEGAL_STATE;
    if (!pthread_equal(stream->capturer, pthread_self())) return CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD;
    struct CUgraph_st *made = stream->capture;
    LOCKED(stream->capture = NULL);
    if (stream->invalid || failure) {
        LOCKED(clear(&made->queue); live_graphs--);
        free(made);
        return failure ? failure : CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
    }
    *graph = made;
    return CUDA_SUCCESS;
}
EXPORT CUresult cuStreamIsCapturing(CUstream stream, CUstreamCaptureStatus *status) {
    ENTER("cuStreamIsCapturing", 1);
    LOCKED(*status = (CUstreamCaptureStatus)(!stream->capture ? 0 : stream->invalid ? 2 : 1));
    return CUDA_SUCCESS;
}
EXPORT CUresult cuGraphGetNodes(CUgraph graph, CUgraphNode *nodes, size_t *count) {
    ENTER("cuGraphGetNodes", 0);
    if (nodes) return CUDA_ERROR_NOT_SUPPORTED;
    *count = graph->queue.count;
    return CUDA_SUCCESS;
}
EXPORT CUresult cuGraphInstantiateWithFlags(CUgraphExec *exec, CUgraph graph, unsigned long long flags) {
    ENTER("cuGraphInstantiateWithFlags", 1);
    (void)flags;
    *exec = calloc(1, sizeof **exec);
    LOCKED(append_all(&(*exec)->queue, &graph->queue); live_execs++);
    return CUDA_SUCCESS;
}
EXPORT CUresult cuGraphLaunch(CUgraphExec exec, CUstream stream) {
    ENTER("cuGraphLaunch", 1);
    CUresult code = CUDA_SUCCESS;
    for (Operation *o = exec->queue.first; o && !code; o = o->next) code = enqueue(stream, o);
    return code;
}
EXPORT CUresult cuGraphExecDestroy(CUgraphExec exec) {
    ENTER("cuGraphExecDestroy", 0);
    LOCKED(clear(&exec->queue); live_execs--);
    free(exec);
    return CUDA_SUCCESS;
}
