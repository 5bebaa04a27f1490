/* Preloaded into a process: notes every write, truncation, sync and removal of files under $WRITE_LOG_FOLDER in $WRITE_LOG, in
 * order, so that a test can say what a disk would hold if the power had gone at any moment.
 *
 * One record: op (1 byte: W, T, B, S, U), time (8, CLOCK_MONOTONIC ns), offset (8), bytes of data (4), bytes of path (2), path,
 * data; all little endian. A write is noted before it is made, a sync before (B) and after (S) it. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int out = -1;

static void note_path(char op, const char *path, const void *data, uint32_t bytes, int64_t offset)
{
    const char *folder = getenv("WRITE_LOG_FOLDER"), *file = getenv("WRITE_LOG");
    struct timespec now;

    if (!folder || !file || strncmp(path, folder, strlen(folder)) != 0 || strstr(path, "-shm"))
        return;
    pthread_mutex_lock(&lock);
    if (out < 0)
        out = open(file, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    clock_gettime(CLOCK_MONOTONIC, &now);
    uint64_t at = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
    uint16_t path_bytes = (uint16_t)strlen(path);
    struct iovec parts[] = {
        {&op, 1}, {&at, 8}, {&offset, 8}, {&bytes, 4}, {&path_bytes, 2}, {(void *)path, path_bytes}, {(void *)data, bytes},
    };
    if (writev(out, parts, 7) < 0)
        abort();
    pthread_mutex_unlock(&lock);
}

static void note(char op, int fd, const void *data, uint32_t bytes, int64_t offset)
{
    char link[64], path[PATH_MAX];
    ssize_t length;

    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    length = readlink(link, path, sizeof path - 1);
    if (length < 0)
        return;
    path[length] = 0;
    note_path(op, path, data, bytes, offset);
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

ssize_t pwrite(int fd, const void *data, size_t bytes, off_t offset)
{
    note('W', fd, data, (uint32_t)bytes, offset);
    return REAL(pwrite)(fd, data, bytes, offset);
}

ssize_t pwrite64(int fd, const void *data, size_t bytes, off64_t offset)
{
    note('W', fd, data, (uint32_t)bytes, offset);
    return REAL(pwrite64)(fd, data, bytes, offset);
}

int ftruncate(int fd, off_t length)
{
    note('T', fd, NULL, 0, length);
    return REAL(ftruncate)(fd, length);
}

int ftruncate64(int fd, off64_t length)
{
    note('T', fd, NULL, 0, length);
    return REAL(ftruncate64)(fd, length);
}

int fsync(int fd)
{
    note('B', fd, NULL, 0, 0);
    int result = REAL(fsync)(fd);
    note('S', fd, NULL, 0, 0);
    return result;
}

int fdatasync(int fd)
{
    note('B', fd, NULL, 0, 0);
    int result = REAL(fdatasync)(fd);
    note('S', fd, NULL, 0, 0);
    return result;
}

int unlink(const char *path)
{
    note_path('U', path, NULL, 0, 0);
    return REAL(unlink)(path);
}
