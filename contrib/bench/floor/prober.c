// prober PORT COUNT INTERVAL_MS keep|new: the floor under HTTP probing. Asks COUNT ports of
// 127.0.0.1, each once an interval, spread evenly, with one epoll; looks at the status line only.
// Runs until SIGTERM, then prints: ASKED PASSED.
#include "common.h"
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>

static const char KEPT[] = "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUser-Agent: floor\r\n\r\n";
static const char ONCE[] = "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUser-Agent: floor\r\nConnection: close\r\n\r\n";
static volatile sig_atomic_t over;
static int epoll, keep, *fds;
static long port, passed;

static void end(int signal) {
    (void)signal;
    over = 1;
}

static void drop(long n) {
    close(fds[n]);
    fds[n] = -1;
}

static void ask(long n) {
    if (fds[n] < 0) {
        struct sockaddr_in at = {
            .sin_family = AF_INET, .sin_port = htons(port + n), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        fds[n] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        // Level-triggered read is all: over loopback a request fits the buffer of a connection
        // that is established by the time connect returns.
        struct epoll_event event = {.events = EPOLLIN, .data.u64 = n};
        if (fds[n] < 0 || (connect(fds[n], (void *)&at, sizeof at) && errno != EINPROGRESS)
            || epoll_ctl(epoll, EPOLL_CTL_ADD, fds[n], &event)) {
            if (fds[n] >= 0) drop(n);
            return;
        }
    }
    const char *request = keep ? KEPT : ONCE;
    if (send(fds[n], request, strlen(request), MSG_NOSIGNAL) < 0) drop(n);
}

int main(int argc, char **argv) {
    if (argc != 5) return fprintf(stderr, "usage: prober PORT COUNT INTERVAL_MS keep|new\n"), 100;
    port = number(argv[1]), keep = !strcmp(argv[4], "keep");
    long count = number(argv[2]), asked = 0;
    int64_t step = number(argv[3]) * 1000000LL / count, due = now_ns() + 100000000;
    struct rlimit files = {count + 64, count + 64};
    setrlimit(RLIMIT_NOFILE, &files);
    sigaction(SIGTERM, &(struct sigaction){.sa_handler = end}, NULL);
    epoll = epoll_create1(EPOLL_CLOEXEC), fds = malloc(count * sizeof *fds);
    for (long n = 0; n < count; n++) fds[n] = -1;
    while (!over) {
        int64_t wait = due - now_ns();
        struct epoll_event ready[128];
        int found = epoll_wait(epoll, ready, 128, wait > 0 ? (wait + 999999) / 1000000 : 0);
        for (int i = 0; i < found; i++) {
            long n = ready[i].data.u64;
            char answer[1024];
            ssize_t got = read(fds[n], answer, sizeof answer);
            if (got > 12 && !memcmp(answer, "HTTP/1.1 200", 12)) passed++;
            if (got <= 0 || !keep) drop(n);
        }
        for (int64_t now = now_ns(); due <= now; due += step) ask(asked++ % count);
    }
    printf("%ld %ld\n", asked, passed);
}
