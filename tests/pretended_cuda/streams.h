/* Streams, each with a thread that does its work in order, and events. A part of driver.c. */
static void append(Queue *queue, const Operation *operation) {
    Operation *copy = malloc(sizeof *copy);
    *copy = *operation;
    copy->next = NULL;
    if (queue->last) queue->last->next = copy; else queue->first = copy;
    queue->last = copy;
    queue->count++;
}
static void append_all(Queue *queue, const Queue *from) { for (Operation *o = from->first; o; o = o->next) append(queue, o); }
static void clear(Queue *queue) {
    for (Operation *o = queue->first, *next; o; o = next) { next = o->next; free(o); }
    memset(queue, 0, sizeof *queue);
}
static void perform(const Operation *o, int slow_ms) {
    if (slow_ms && (o->kind == KERNEL || o->kind == CALL)) nanosleep(&(struct timespec){slow_ms / 1000, slow_ms % 1000 * 1000000L}, NULL);
    if (o->kind == COPY) memcpy(o->to, o->from, o->nbytes);
    if (o->kind == KERNEL) o->code(o->arguments, o->grid, o->block);
    if (o->kind == CALL) o->work(o->data);
}
static void *serve(void *argument) {
    struct CUstream_st *stream = argument;
    pthread_mutex_lock(&lock);
    for (;;) {
        while (!stream->queue.first && !stream->ends) pthread_cond_wait(&changed, &lock);
        Operation *o = stream->queue.first;
        if (!o) break;
        stream->queue.first = o->next;
        if (!o->next) stream->queue.last = NULL;
        stream->queue.count--;
        stream->busy = 1;
        int slow_ms = settings.slow_ms;
        pthread_mutex_unlock(&lock);
        perform(o, slow_ms);
        pthread_mutex_lock(&lock);
        if (o->kind == RECORD) o->event->reached++;
        stream->busy = 0;
        free(o);
        pthread_cond_broadcast(&changed);
    }
    pthread_mutex_unlock(&lock);
    return NULL;
}
static CUresult enqueue(struct CUstream_st *stream, const Operation *operation) {
    CUresult code = CUDA_SUCCESS;
    pthread_mutex_lock(&lock);
    struct CUstream_st *s = streams;
    while (s && s != stream) s = s->next;
    if (!s) code = CUDA_ERROR_INVALID_HANDLE; /* the default stream is not pretended: this project does not use it */
    else if (s->capture && s->invalid) code = CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
    else append(s->capture ? &s->capture->queue : &s->queue, operation);
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
    return code;
}
static void drain(struct CUstream_st *stream) { while (stream->queue.first || stream->busy) pthread_cond_wait(&changed, &lock); }
static void drain_all(void) { LOCKED(for (struct CUstream_st *s = streams; s; s = s->next) drain(s)); }

EXPORT CUresult pretended_enqueue(CUstream stream, Work work, void *data) {
    ENTER("pretended_enqueue", 1);
    return enqueue(stream, &(Operation){.kind = CALL, .work = work, .data = data});
}

EXPORT CUresult cuStreamCreate(CUstream *stream, unsigned int flags) {
    ENTER("cuStreamCreate", 1);
    (void)flags;
    struct CUstream_st *made = calloc(1, sizeof *made);
    LOCKED(made->next = streams; streams = made; live_streams++);
    pthread_create(&made->thread, NULL, serve, made);
    *stream = made;
    return CUDA_SUCCESS;
}
EXPORT CUresult cuStreamDestroy_v2(CUstream stream) {
    ENTER("cuStreamDestroy", 1);
    pthread_mutex_lock(&lock);
    struct CUstream_st **at = &streams;
    while (*at && *at != stream) at = &(*at)->next;
    if (!*at) { pthread_mutex_unlock(&lock); return CUDA_ERROR_INVALID_HANDLE; }
    drain(stream);
    *at = stream->next;
    stream->ends = 1;
    live_streams--;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
    pthread_join(stream->thread, NULL);
    free(stream);
    return CUDA_SUCCESS;
}
EXPORT CUresult cuStreamSynchronize(CUstream stream) {
    ENTER("cuStreamSynchronize", 1);
    FORBIDDEN_IN_CAPTURE();
    LOCKED(drain(stream));
    return CUDA_SUCCESS;
}
EXPORT CUresult cuStreamQuery(CUstream stream) {
    ENTER("cuStreamQuery", 1);
    FORBIDDEN_IN_CAPTURE();
    int busy;
    LOCKED(busy = stream->queue.first || stream->busy);
    return busy ? CUDA_ERROR_NOT_READY : CUDA_SUCCESS;
}
EXPORT CUresult cuEventCreate(CUevent *event, unsigned int flags) {
    ENTER("cuEventCreate", 1);
    (void)flags;
    *event = calloc(1, sizeof **event);
    LOCKED(live_events++);
    return CUDA_SUCCESS;
}
EXPORT CUresult cuEventDestroy_v2(CUevent event) {
    ENTER("cuEventDestroy", 1);
    LOCKED(while (event->reached < event->recorded) pthread_cond_wait(&changed, &lock); live_events--);
    free(event);
    return CUDA_SUCCESS;
}
EXPORT CUresult cuEventRecord(CUevent event, CUstream stream) {
    ENTER("cuEventRecord", 1);
    int captured;
    LOCKED(captured = event->captured = stream->capture != NULL; if (!captured) event->recorded++);
    return captured ? CUDA_SUCCESS : enqueue(stream, &(Operation){.kind = RECORD, .event = event});
}
EXPORT CUresult cuEventSynchronize(CUevent event) {
    ENTER("cuEventSynchronize", 1);
    if (event->captured && spoils_capture()) return CUDA_ERROR_CAPTURED_EVENT;
    LOCKED(unsigned long target = event->recorded; while (event->reached < target) pthread_cond_wait(&changed, &lock));
    return CUDA_SUCCESS;
}
EXPORT CUresult cuEventQuery(CUevent event) {
    ENTER("cuEventQuery", 1);
    int busy;
    LOCKED(busy = event->reached < event->recorded);
    return busy ? CUDA_ERROR_NOT_READY : CUDA_SUCCESS;
}
