/* Failing and slow syncs, for LD_PRELOAD. The test arms them by files in the
 * directory $FAULTS:
 *
 *   fail.NAME  the next sync of the file called NAME fails with EIO; the
 *              armed file is removed, so that it fails once
 *   hold       syncs of the journal wait as long as this is there
 *   slow       each sync of the journal takes 20 ms longer
 *
 * "The journal" is the database and its write-ahead log; other files are
 * synced as usual.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SLOW 20000

static int called(int fd, char *name, size_t size) {
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0)
        return 0;
    path[length] = 0;
    const char *last = strrchr(path, '/');
    last = last ? last + 1 : path;
    if (strlen(last) >= size)
        return 0;
    strcpy(name, last);
    return strncmp(name, "journal.db", 10) == 0;
}

static int armed(const char *what, const char *of, char *path, size_t size) {
    const char *folder = getenv("FAULTS");
    snprintf(path, size, "%s/%s%s", folder ? folder : "/nowhere", what, of);
    return access(path, F_OK) == 0;
}

static int faulty(int fd) {
    char name[256], path[4096];
    if (!called(fd, name, sizeof name))
        return 0;
    /* Whoever removes the file fails: exactly one. */
    if (armed("fail.", name, path, sizeof path) && unlink(path) == 0)
        return 1;
    while (armed("hold", "", path, sizeof path))
        usleep(2000);
    if (armed("slow", "", path, sizeof path))
        usleep(SLOW);
    return 0;
}

typedef int sync_call(int);

static int sync_or_fail(int fd, const char *call) {
    sync_call *real = (sync_call *)dlsym(RTLD_NEXT, call);
    if (faulty(fd)) {
        errno = EIO;
        return -1;
    }
    return real(fd);
}

int fsync(int fd) { return sync_or_fail(fd, "fsync"); }

int fdatasync(int fd) { return sync_or_fail(fd, "fdatasync"); }
