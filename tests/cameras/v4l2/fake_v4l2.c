/* A pretended V4L2 camera, for tests on machines that have none: LD_PRELOAD it, and open /dev/full.
 *
 * OpenCV, or whatever opens that path, then talks to this file in place of the kernel. /dev/full is a character device
 * that everybody may open and nobody does, so that stat() and access() need no pretence.
 *
 * It behaves as uvcvideo does: frames follow each other without a pause, each goes into the buffer that heads the
 * queue when the frame starts, is stamped then, and is lost when no buffer waits. Environment:
 *
 *   FAKE_V4L2_PICTURES   a printf pattern such as /tmp/x/%d.raw and FAKE_V4L2_COUNT, how many there are: frame k is
 *                        the content of file k % COUNT, whatever it is; its length is the bytes used
 *   FAKE_V4L2_FORMATS    "YUYV MJPG": what it has; asked for another, it gives the first
 *   FAKE_V4L2_SIZE       "640x480": gives this size whatever is asked
 *   FAKE_V4L2_FPS        gives this rate whatever is asked
 *   FAKE_V4L2_PAD        zero bytes counted as used behind each picture
 *   FAKE_V4L2_WITHOUT    "exposure gain focus": controls it does not have
 *   FAKE_V4L2_CLOCK      "realtime", "zero", "stuck" or "ahead" (of 1 s): stamps that cannot be used
 *   FAKE_V4L2_FREEZE     after so many frames no more come
 *   FAKE_V4L2_GONE       after so many frames it is unplugged: ENODEV
 *   FAKE_V4L2_HANG       after so many frames VIDIOC_DQBUF does not return
 *   FAKE_V4L2_BUSY       another program has it: EBUSY
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/videodev2.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

#define DEVICE "/dev/full"
#define BUFFERS 32
#define MENU_MANUAL 1
#define MENU_APERTURE_PRIORITY 3

struct fifo {
    int at[BUFFERS], count;
};

static struct {
    int fd, memory;
    uint32_t width, height, fourcc, size, fps;
    unsigned buffers;
    struct fifo queued, done;
    struct v4l2_buffer filled[BUFFERS];
    pthread_t thread;
    int streaming, gone;
    long frames; /* since it was opened, lost ones included */
    int auto_exposure, exposure, gain, auto_focus, focus;
} cam = {.fd = -1};
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static const char *text(const char *name, const char *otherwise) {
    const char *value = getenv(name);
    return value ? value : otherwise;
}
static long number(const char *name, long otherwise) {
    const char *value = getenv(name);
    return value ? atol(value) : otherwise;
}
static int has_happened(const char *name) {
    long after = number(name, -1);
    return after >= 0 && cam.frames >= after;
}

static void push(struct fifo *fifo, int index) { fifo->at[fifo->count++] = index; }
static int pop(struct fifo *fifo) {
    if (fifo->count == 0) return -1;
    int index = fifo->at[0];
    memmove(fifo->at, fifo->at + 1, sizeof(int) * (size_t)--fifo->count);
    return index;
}

static struct timeval stamp_of(struct timespec start) {
    const char *clock = text("FAKE_V4L2_CLOCK", "monotonic");
    if (!strcmp(clock, "realtime")) clock_gettime(CLOCK_REALTIME, &start);
    if (!strcmp(clock, "zero")) start = (struct timespec){0, 0};
    if (!strcmp(clock, "stuck")) start = (struct timespec){start.tv_sec - start.tv_sec % 1000, 0};
    if (!strcmp(clock, "ahead")) start.tv_sec += 1;
    return (struct timeval){start.tv_sec, start.tv_nsec / 1000};
}

/* Under the lock: the picture of frame k, into a buffer. */
static void fill(int index, long k, struct timespec start) {
    char path[512], *memory;
    snprintf(path, sizeof path, text("FAKE_V4L2_PICTURES", "/nowhere/%ld"), k % number("FAKE_V4L2_COUNT", 1));
    memory = REAL(mmap)(NULL, cam.size, PROT_WRITE, MAP_SHARED, cam.memory, (off_t)index * cam.size);
    memset(memory, 0, cam.size);
    int file = REAL(open)(path, O_RDONLY);
    ssize_t used = file < 0 ? 0 : read(file, memory, cam.size);
    if (file >= 0) close(file);
    munmap(memory, cam.size);
    cam.filled[index] = (struct v4l2_buffer){
        .index = (uint32_t)index,
        .type = V4L2_BUF_TYPE_VIDEO_CAPTURE,
        .memory = V4L2_MEMORY_MMAP,
        .bytesused = (uint32_t)(used + number("FAKE_V4L2_PAD", 0)),
        .flags = V4L2_BUF_FLAG_TIMESTAMP_MONOTONIC | V4L2_BUF_FLAG_TSTAMP_SRC_SOE,
        .timestamp = stamp_of(start),
        .sequence = (uint32_t)k,
        .length = cam.size,
        .m.offset = (uint32_t)index * cam.size,
    };
}

static void *make_frames(void *nothing) {
    (void)nothing;
    struct timespec start, end;
    clock_gettime(CLOCK_MONOTONIC, &start);
    for (;;) {
        pthread_mutex_lock(&lock);
        int index = pop(&cam.queued);
        pthread_mutex_unlock(&lock);
        end = start;
        end.tv_nsec += 1000000000L / cam.fps;
        end.tv_sec += end.tv_nsec / 1000000000L;
        end.tv_nsec %= 1000000000L;
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &end, NULL);
        pthread_mutex_lock(&lock);
        if (!cam.streaming) {
            pthread_mutex_unlock(&lock);
            return NULL;
        }
        if (has_happened("FAKE_V4L2_GONE")) cam.gone = 1;
        if (cam.gone || (index >= 0 && !has_happened("FAKE_V4L2_FREEZE"))) {
            if (!cam.gone) {
                fill(index, cam.frames, start);
                push(&cam.done, index);
            }
            eventfd_write(cam.fd, 1);
        }
        cam.frames++;
        pthread_mutex_unlock(&lock);
        start = end;
    }
}

static int stream(int on) {
    if (on == cam.streaming) return 0;
    cam.streaming = on;
    if (on) return pthread_create(&cam.thread, NULL, make_frames, NULL);
    pthread_mutex_unlock(&lock);
    pthread_join(cam.thread, NULL);
    pthread_mutex_lock(&lock);
    eventfd_t left;
    while (cam.done.count || cam.gone) {
        if (eventfd_read(cam.fd, &left)) break;
        pop(&cam.done);
    }
    cam.queued.count = cam.done.count = 0;
    return 0;
}

static int has_format(uint32_t fourcc) {
    char name[5] = {(char)fourcc, (char)(fourcc >> 8), (char)(fourcc >> 16), (char)(fourcc >> 24), 0};
    return strstr(text("FAKE_V4L2_FORMATS", "YUYV"), name) != NULL;
}

static int set_format(struct v4l2_pix_format *pix) {
    if (has_happened("FAKE_V4L2_BUSY") || cam.buffers) return errno = EBUSY, -1;
    const char *first = text("FAKE_V4L2_FORMATS", "YUYV");
    cam.fourcc = has_format(pix->pixelformat) ? pix->pixelformat : v4l2_fourcc(first[0], first[1], first[2], first[3]);
    cam.width = pix->width;
    cam.height = pix->height;
    sscanf(text("FAKE_V4L2_SIZE", ""), "%ux%u", &cam.width, &cam.height);
    cam.size = (cam.width * cam.height * 3 + 4095) & ~4095u;
    return 0;
}

static void get_format(struct v4l2_pix_format *pix) {
    uint32_t per_pixel = cam.fourcc == V4L2_PIX_FMT_YUYV || cam.fourcc == V4L2_PIX_FMT_UYVY ? 2 : 1;
    *pix = (struct v4l2_pix_format){
        .width = cam.width,
        .height = cam.height,
        .pixelformat = cam.fourcc,
        .field = V4L2_FIELD_NONE,
        .bytesperline = cam.width * per_pixel,
        .sizeimage = cam.size,
    };
}

struct control {
    uint32_t id;
    const char *name;
    int *value, minimum, maximum;
};
static const struct control controls[] = {
    {V4L2_CID_EXPOSURE_AUTO, "exposure", &cam.auto_exposure, 0, 3},
    {V4L2_CID_EXPOSURE_ABSOLUTE, "exposure", &cam.exposure, 1, 5000},
    {V4L2_CID_GAIN, "gain", &cam.gain, 0, 100},
    {V4L2_CID_FOCUS_AUTO, "focus", &cam.auto_focus, 0, 1},
    {V4L2_CID_FOCUS_ABSOLUTE, "focus", &cam.focus, 0, 250},
};

static const struct control *control_of(uint32_t id) {
    for (size_t i = 0; i < sizeof controls / sizeof *controls; i++)
        if (controls[i].id == id && !strstr(text("FAKE_V4L2_WITHOUT", ""), controls[i].name)) return &controls[i];
    errno = EINVAL;
    return NULL;
}

static int set_control(const struct v4l2_control *asked) {
    const struct control *control = control_of(asked->id);
    if (!control) return -1;
    int value = asked->value;
    if (asked->id == V4L2_CID_EXPOSURE_AUTO && value != MENU_MANUAL && value != MENU_APERTURE_PRIORITY)
        return errno = EINVAL, -1;
    if (asked->id == V4L2_CID_EXPOSURE_ABSOLUTE && cam.auto_exposure != MENU_MANUAL) return errno = EACCES, -1;
    if (asked->id == V4L2_CID_FOCUS_ABSOLUTE && cam.auto_focus) return errno = EACCES, -1;
    *control->value =
        value < control->minimum ? control->minimum : value > control->maximum ? control->maximum : value;
    return 0;
}

static int get_control(struct v4l2_control *asked) {
    const struct control *control = control_of(asked->id);
    if (control) asked->value = *control->value;
    return control ? 0 : -1;
}

static int query_control(struct v4l2_queryctrl *query) {
    const struct control *control = control_of(query->id);
    if (!control) return -1;
    query->minimum = control->minimum;
    query->maximum = control->maximum;
    query->step = 1;
    return 0;
}

static int request_buffers(struct v4l2_requestbuffers *request) {
    if (has_happened("FAKE_V4L2_BUSY")) return errno = EBUSY, -1;
    stream(0);
    if (request->count > BUFFERS) request->count = BUFFERS;
    cam.buffers = request->count;
    return cam.buffers ? ftruncate(cam.memory, (off_t)cam.buffers * cam.size) : 0;
}

static int dequeue(struct v4l2_buffer *buffer) {
    eventfd_t one;
    if (has_happened("FAKE_V4L2_HANG")) {
        pthread_mutex_unlock(&lock);
        for (;;) pause();
    }
    if (cam.done.count == 0 || eventfd_read(cam.fd, &one)) return errno = EAGAIN, -1;
    *buffer = cam.filled[pop(&cam.done)];
    return 0;
}

static int answer(unsigned long request, void *argument) {
    struct v4l2_buffer *buffer = argument;
    struct v4l2_fract *period = &((struct v4l2_streamparm *)argument)->parm.capture.timeperframe;
    if (cam.gone && request != VIDIOC_STREAMOFF && request != VIDIOC_REQBUFS) return errno = ENODEV, -1;
    switch (request) {
    case VIDIOC_QUERYCAP:
        *(struct v4l2_capability *)argument =
            (struct v4l2_capability){.driver = "fake", .capabilities = V4L2_CAP_VIDEO_CAPTURE | V4L2_CAP_STREAMING};
        return 0;
    case VIDIOC_S_FMT:
        if (set_format(&((struct v4l2_format *)argument)->fmt.pix)) return -1; /* fall through */
    case VIDIOC_G_FMT:
        get_format(&((struct v4l2_format *)argument)->fmt.pix);
        return 0;
    case VIDIOC_S_PARM:
        if (period->numerator) cam.fps = period->denominator / period->numerator;
        cam.fps = (uint32_t)number("FAKE_V4L2_FPS", cam.fps); /* fall through */
    case VIDIOC_G_PARM:
        *period = (struct v4l2_fract){1, cam.fps};
        return 0;
    case VIDIOC_REQBUFS:
        return request_buffers(argument);
    case VIDIOC_QUERYBUF:
        buffer->length = cam.size;
        buffer->m.offset = buffer->index * cam.size;
        return 0;
    case VIDIOC_QBUF:
        push(&cam.queued, (int)buffer->index);
        return 0;
    case VIDIOC_DQBUF:
        return dequeue(buffer);
    case VIDIOC_STREAMON:
    case VIDIOC_STREAMOFF:
        return stream(request == VIDIOC_STREAMON);
    case VIDIOC_QUERYCTRL:
        return query_control(argument);
    case VIDIOC_G_CTRL:
        return get_control(argument);
    case VIDIOC_S_CTRL:
        return set_control(argument);
    default:
        return errno = ENOTTY, -1;
    }
}

static int open_device(void) {
    cam.fd = eventfd(0, EFD_SEMAPHORE | EFD_NONBLOCK);
    cam.memory = memfd_create("fake_v4l2", 0);
    cam.frames = cam.gone = 0;
    cam.fps = 30;
    cam.auto_exposure = MENU_APERTURE_PRIORITY;
    cam.exposure = 157;
    cam.auto_focus = 1;
    return cam.fd;
}

int open(const char *path, int flags, ...) {
    va_list rest;
    va_start(rest, flags);
    mode_t mode = va_arg(rest, mode_t);
    va_end(rest);
    if (!strcmp(path, DEVICE) && cam.fd < 0) return open_device();
    return REAL(open)(path, flags, mode);
}
int open64(const char *path, int flags, ...) __attribute__((alias("open")));

int ioctl(int fd, unsigned long request, ...) {
    va_list rest;
    va_start(rest, request);
    void *argument = va_arg(rest, void *);
    va_end(rest);
    if (fd != cam.fd || fd < 0) return REAL(ioctl)(fd, request, argument);
    pthread_mutex_lock(&lock);
    int result = answer(request, argument);
    int error = errno;
    pthread_mutex_unlock(&lock);
    errno = error;
    return result;
}

void *mmap(void *address, size_t length, int protection, int flags, int fd, off_t offset) {
    return REAL(mmap)(address, length, protection, flags, fd == cam.fd && fd >= 0 ? cam.memory : fd, offset);
}
void *mmap64(void *address, size_t length, int protection, int flags, int fd, off_t offset)
    __attribute__((alias("mmap")));

/* The kernel says POLLERR of a device that is gone. */
int poll(struct pollfd *fds, nfds_t count, int timeout_ms) {
    int ready = REAL(poll)(fds, count, timeout_ms);
    for (nfds_t i = 0; ready > 0 && i < count; i++)
        if (fds[i].fd == cam.fd && cam.gone && fds[i].revents) fds[i].revents = POLLERR | POLLHUP;
    return ready;
}

int close(int fd) {
    if (fd == cam.fd && fd >= 0) {
        pthread_mutex_lock(&lock);
        stream(0);
        cam.buffers = 0;
        REAL(close)(cam.memory);
        cam.fd = -1;
        pthread_mutex_unlock(&lock);
    }
    return REAL(close)(fd);
}
