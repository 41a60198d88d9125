// What the small programs here share: the clock, reports to the driver, and failing.
//
// A report is one line, written at once to the FIFO that the driver reads (an append shorter than
// PIPE_BUF is atomic, pipe(7)): KIND NAME PID NANOSECONDS VALUE, the time by CLOCK_MONOTONIC.
#pragma once
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static inline int64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static inline void report(const char *fifo, char kind, const char *name, int64_t at, long value) {
    char line[160];
    int fd = open(fifo, O_WRONLY | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0) return;
    int n = snprintf(line, sizeof line, "%c %s %d %lld %ld\n", kind, name, (int)getpid(), (long long)at, value);
    if (write(fd, line, n) < 0) _exit(111);
    close(fd);
}

static inline void die(const char *what) {
    fprintf(stderr, "%s: %s (%d)\n", what, strerror(errno), errno);
    exit(111);
}

static inline long number(const char *text) {
    char *end;
    long n = strtol(text, &end, 10);
    if (end == text || *end || n < 0) {
        fprintf(stderr, "not a number: %s\n", text);
        exit(100);
    }
    return n;
}
