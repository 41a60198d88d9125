// times COUNT PROGRAM ARGUMENT...: runs a command COUNT times, its output thrown away, and prints
// the median and the 99th percentile of the time from spawn to end in ns.
#include "common.h"
#include <spawn.h>
#include <sys/wait.h>

static int ascending(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return x < y ? -1 : x > y;
}

int main(int argc, char **argv) {
    if (argc < 3) return fprintf(stderr, "usage: times COUNT PROGRAM ARGUMENT...\n"), 100;
    extern char **environ;
    long count = number(argv[1]);
    int64_t *times = calloc(count, sizeof *times);
    posix_spawn_file_actions_t quiet;
    posix_spawn_file_actions_init(&quiet);
    posix_spawn_file_actions_addopen(&quiet, 1, "/dev/null", O_WRONLY, 0);
    for (long n = 0; n < count; n++) {
        pid_t pid;
        int status;
        int64_t from = now_ns();
        if ((errno = posix_spawn(&pid, argv[2], &quiet, NULL, argv + 2, environ))) die(argv[2]);
        if (waitpid(pid, &status, 0) < 0) die("waitpid");
        times[n] = now_ns() - from;
        if (status) return fprintf(stderr, "times: %s: wait status %d\n", argv[2], status), 1;
    }
    qsort(times, count, sizeof *times, ascending);
    printf("%lld %lld\n", (long long)times[count / 2], (long long)times[count * 99 / 100]);
}
