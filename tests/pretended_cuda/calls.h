/* What all parts share: types, settings, and what every call does first. A part of driver.c. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>
#ifdef WITH_CUDA_H
#include <cuda.h>
#else
#include "cuda_types.h"
#endif

#define EXPORT __attribute__((visibility("default")))
#define LOCKED(code) do { pthread_mutex_lock(&lock); code; pthread_mutex_unlock(&lock); } while (0)
enum { LONGEST_ARGUMENTS = 1024, DEEPEST_STACK = 16, MOST_NAMES = 128, LONGEST_TRACE = 1 << 16 };

typedef void (*Work)(void *);
typedef void (*KernelCode)(const void *, const unsigned *, const unsigned *);
typedef enum { COPY, KERNEL, CALL, RECORD } Kind;
typedef struct Operation {
    Kind kind;
    void *to; const void *from; size_t nbytes;                                          /* COPY */
    KernelCode code; unsigned grid[3], block[3]; unsigned char arguments[LONGEST_ARGUMENTS];     /* KERNEL */
    Work work; void *data;                                                              /* CALL */
    struct CUevent_st *event;                                                           /* RECORD */
    struct Operation *next;
} Operation;
typedef struct { Operation *first, *last; size_t count; } Queue;
struct CUctx_st { int retained; };
struct CUstream_st { pthread_t thread; Queue queue; int busy, ends; struct CUgraph_st *capture; int invalid; pthread_t capturer; struct CUstream_st *next; };
struct CUevent_st { unsigned long recorded, reached; int captured; };
struct CUgraph_st { Queue queue; };
struct CUgraphExec_st { Queue queue; };
struct CUmod_st { char *ptx; };
struct CUfunc_st { KernelCode code; size_t offsets[32], sizes[32], count, total; struct CUmod_st *module; struct CUfunc_st *next; };
typedef struct Memory { char *host, *device; size_t nbytes, mapped_nbytes; struct Memory *next; } Memory;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static struct CUctx_st primary;
static __thread CUcontext stack[DEEPEST_STACK];
static __thread int depth;
static struct CUstream_st *streams;
static struct CUfunc_st *functions;
static Memory *memories;
static size_t used;
static int is_ready;
static long live_contexts, live_streams, live_events, live_modules, live_graphs, live_execs, live_host, live_device;
static struct { char name[64]; long calls; int failure, after, times; } names[MOST_NAMES];
static char trace[LONGEST_TRACE];
static size_t trace_length;
static struct { int compute, multiprocessors, integrated, memory_mb, driver, slow_ms; char name[128], kernels[4096]; } settings = {87, 8, 1, 4096, 12060, 0, "Orin", ""};

#define NUMBER(field) EXPORT void pretended_##field(int value) { LOCKED(settings.field = value); }
NUMBER(compute)
NUMBER(multiprocessors)
NUMBER(integrated)
NUMBER(memory_mb)
NUMBER(driver)
NUMBER(slow_ms)
EXPORT void pretended_name(const char *text) { LOCKED(snprintf(settings.name, sizeof settings.name, "%s", text)); }
EXPORT void pretended_kernels(const char *text) { LOCKED(snprintf(settings.kernels, sizeof settings.kernels, "%s", text)); }

static int known(const char *name) { /* the lock is held */
    for (int i = 0; i < MOST_NAMES; i++) {
        if (!names[i].name[0]) snprintf(names[i].name, sizeof names[i].name, "%s", name);
        if (!strcmp(names[i].name, name)) return i;
    }
    abort();
}

EXPORT void pretended_fail_times(const char *name, int code, int after, int times) { /* the calls after `after` good ones fail */
    LOCKED(int i = known(name); names[i].failure = code; names[i].after = after; names[i].times = times);
}
EXPORT void pretended_fail_after(const char *name, int code, int after) { /* the call after `after` good ones fails, once */
    pretended_fail_times(name, code, after, 1);
}
EXPORT void pretended_fail_next(const char *name, int code) { pretended_fail_after(name, code, 0); }
EXPORT long pretended_calls(const char *name) { long n; LOCKED(n = names[known(name)].calls); return n; }
EXPORT long pretended_live_of(const char *kind) {
    struct { const char *kind; long n; } all[] = {{"context", live_contexts}, {"stream", live_streams}, {"event", live_events},
        {"module", live_modules}, {"graph", live_graphs}, {"exec", live_execs}, {"host", live_host}, {"device", live_device}};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) if (!strcmp(all[i].kind, kind)) return all[i].n;
    return -1;
}
EXPORT long pretended_live(void) {
    return live_contexts + live_streams + live_events + live_modules + live_graphs + live_execs + live_host + live_device;
}
EXPORT int pretended_stack_depth(void) { return depth; } /* contexts pushed in this thread */
EXPORT void pretended_trace(char *to, size_t n) { LOCKED(snprintf(to, n, "%s", trace)); } /* the calls, one a line */

EXPORT void pretended_reset(void) { /* the settings of the environment; counts, failures and the trace forgotten */
    pthread_mutex_lock(&lock);
    memset(names, 0, sizeof names);
    trace_length = 0; trace[0] = 0;
    settings.compute = getenv("PRETENDED_COMPUTE") ? atoi(getenv("PRETENDED_COMPUTE")) : 87;
    settings.integrated = getenv("PRETENDED_INTEGRATED") ? atoi(getenv("PRETENDED_INTEGRATED")) : 1;
    settings.multiprocessors = getenv("PRETENDED_MULTIPROCESSORS") ? atoi(getenv("PRETENDED_MULTIPROCESSORS")) : 8;
    settings.memory_mb = getenv("PRETENDED_MEMORY_MB") ? atoi(getenv("PRETENDED_MEMORY_MB")) : 4096;
    settings.driver = getenv("PRETENDED_DRIVER") ? atoi(getenv("PRETENDED_DRIVER")) : 12060;
    settings.slow_ms = getenv("PRETENDED_SLOW_MS") ? atoi(getenv("PRETENDED_SLOW_MS")) : 0;
    snprintf(settings.name, sizeof settings.name, "%s", getenv("PRETENDED_NAME") ? getenv("PRETENDED_NAME") : "Orin");
    snprintf(settings.kernels, sizeof settings.kernels, "%s", getenv("PRETENDED_KERNELS") ? getenv("PRETENDED_KERNELS") : "");
    char *fail = getenv("PRETENDED_FAIL") ? strdup(getenv("PRETENDED_FAIL")) : NULL, *rest = fail;
    for (char *one; rest && (one = strsep(&rest, ","));) {
        char *code = strchr(one, '=');
        if (!code) continue;
        *code++ = 0;
        names[known(one)].failure = atoi(code), names[known(one)].times = 1;
    }
    free(fail);
    pthread_mutex_unlock(&lock);
}
__attribute__((constructor)) static void at_load(void) { pretended_reset(); }

static CUresult entered(const char *name, int needs_context) {
    pthread_mutex_lock(&lock);
    int i = known(name), code = 0;
    names[i].calls++;
    if (trace_length + strlen(name) + 2 < LONGEST_TRACE) trace_length += (size_t)sprintf(trace + trace_length, "%s\n", name);
    if (names[i].failure && names[i].after-- <= 0) { code = names[i].failure; if (--names[i].times <= 0) names[i].failure = 0; }
    else if (needs_context >= 0 && !is_ready) code = CUDA_ERROR_NOT_INITIALIZED;
    else if (needs_context > 0 && (depth == 0 || !primary.retained)) code = CUDA_ERROR_INVALID_CONTEXT;
    pthread_mutex_unlock(&lock);
    return (CUresult)code;
}
#define ENTER(name, needs_context) do { CUresult code_ = entered(name, needs_context); if (code_) return code_; } while (0)

/* True where this thread captures on a stream with a mode that forbids `name`; the capture is then spoilt. */
static int spoils_capture(void) {
    int found = 0;
    LOCKED(for (struct CUstream_st *s = streams; s; s = s->next)
        if (s->capture && pthread_equal(s->capturer, pthread_self())) s->invalid = found = 1);
    return found;
}
#define FORBIDDEN_IN_CAPTURE() do { if (spoils_capture()) return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED; } while (0)
