// Loaded before libc: kills this process at its n-th change of a folder, half way through a write.
//
// `kill_switch(folder, n, log)` arms it; every change below the folder is written to the file
// descriptor `log` before it happens, one line each: what, path, other path or size.

#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static char folder[PATH_MAX];
static size_t length = 0;
static int log_to = -1;
static atomic_int left = -1;

void kill_switch(const char *watched, int at, int log) {
    length = strlen(watched);
    memcpy(folder, watched, length + 1);
    left = at;
    log_to = log;
}

static int is_below(const char *path) {
    return length && strncmp(path, folder, length) == 0;
}

static int name_of(int file, char *path) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t size = readlink(link, path, PATH_MAX - 1);
    path[size < 0 ? 0 : size] = 0;
    return is_below(path);
}

// Whether this is the last thing that the process does.
static int ends(const char *what, const char *path, const char *more) {
    char line[2 * PATH_MAX + 64];
    int size = snprintf(line, sizeof line, "%s\t%s\t%s\n", what, path, more);
    if (log_to >= 0) REAL(write)(log_to, line, size);
    return atomic_fetch_sub(&left, 1) == 1;
}

static void die(void) {
    kill(getpid(), SIGKILL);
    for (;;) pause();
}

static void step(const char *what, const char *path, const char *more) {
    if (is_below(path) && ends(what, path, more)) die();
}

ssize_t write(int file, const void *data, size_t size) {
    char path[PATH_MAX], many[32];
    if (length && file > 2 && file != log_to && name_of(file, path)) {
        snprintf(many, sizeof many, "%zu", size);
        if (ends("write", path, many)) {
            REAL(write)(file, data, size / 2);
            die();
        }
    }
    return REAL(write)(file, data, size);
}

int fsync(int file) {
    char path[PATH_MAX];
    if (length && name_of(file, path)) step("fsync", path, "");
    return REAL(fsync)(file);
}

int rename(const char *from, const char *to) {
    step("rename", from, to);
    return REAL(rename)(from, to);
}

int unlink(const char *path) {
    step("unlink", path, "");
    return REAL(unlink)(path);
}

int mkdir(const char *path, mode_t mode) {
    step("mkdir", path, "");
    return REAL(mkdir)(path, mode);
}

#define OPEN(name)                                              \
    int name(const char *path, int flags, ...) {                \
        va_list more;                                           \
        va_start(more, flags);                                  \
        mode_t mode = flags & O_CREAT ? va_arg(more, mode_t) : 0; \
        va_end(more);                                           \
        if (flags & O_CREAT) step("create", path, "");          \
        return REAL(name)(path, flags, mode);                   \
    }
OPEN(open)
OPEN(open64)
