/* LD_PRELOAD: the operation number `target` of those below fails, ends the process, or does half of its work. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <sys/uio.h>
#include <unistd.h>

enum { END = -1, HALF = -2 };
static int target, seen, how;
static const char* failed = "";

void shim_arm(int number, int mode) { target = number; how = mode; seen = 0; failed = ""; }
const char* shim_failed(void) { target = 0; return failed; }

static int hit(const char* name) {
    if (target == 0 || ++seen != target) return 0;
    failed = name;
    if (how == END) _exit(9);
    if (how > 0) errno = how;
    return 1;
}

#define NEXT(name) static __typeof__(&name) next; if (!next) next = (__typeof__(&name))dlsym(RTLD_NEXT, #name)
#define SIMPLE(type, name, parameters, arguments) \
    type name parameters { NEXT(name); if (hit(#name) && how > 0) return -1; return next arguments; }
#define OPEN(name, first, pass) \
    int name(first const char* path, int flags, ...) { \
        va_list list; va_start(list, flags); int mode = va_arg(list, int); va_end(list); \
        NEXT(name); if (hit("open") && how > 0) return -1; return next(pass path, flags, mode); }
#define COMMA ,

OPEN(open, , )
OPEN(open64, , )
OPEN(openat, int folder COMMA, folder COMMA)
OPEN(openat64, int folder COMMA, folder COMMA)
ssize_t write(int fd, const void* data, size_t size) {
    NEXT(write);
    if (hit("write")) { if (how > 0) return -1; size = size > 1 ? size / 2 : size; }
    return next(fd, data, size);
}
SIMPLE(ssize_t, pwrite, (int fd, const void* data, size_t size, off_t at), (fd, data, size, at))
SIMPLE(ssize_t, writev, (int fd, const struct iovec* parts, int count), (fd, parts, count))
SIMPLE(int, fsync, (int fd), (fd))
SIMPLE(int, fdatasync, (int fd), (fd))
SIMPLE(int, ftruncate, (int fd, off_t size), (fd, size))
SIMPLE(int, fchmod, (int fd, mode_t mode), (fd, mode))
int rename(const char* from, const char* to) { NEXT(rename); if (hit("rename") && how > 0) return -1; return next(from, to); }
int unlink(const char* path) { NEXT(unlink); if (hit("unlink") && how > 0) return -1; return next(path); }
int close(int fd) { NEXT(close); int bad = hit("close") && how > 0, code = errno, result = next(fd); if (bad) errno = code; return bad ? -1 : result; }
