// server PORT COUNT FIFO NAME: answers HTTP on COUNT ports of 127.0.0.1 from PORT on; a connection
// is kept unless the request says close.
//
// Reports R when it listens and A when it has answered for the first time. SIGUSR1: it hangs, with
// its ports bound and connections accepted by the kernel. SIGUSR2: it reports C with the number of
// requests answered so far.
#include "common.h"
#include <arpa/inet.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>

#define LISTENER (1ULL << 32)
static const char ANSWER[] = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
static const char LAST_ANSWER[] = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok";
static volatile sig_atomic_t asked;

static void hang(int signal) {
    (void)signal;
    for (;;) pause();
}

static void count(int signal) {
    (void)signal;
    asked = 1;
}

int main(int argc, char **argv) {
    if (argc != 5) return fprintf(stderr, "usage: server PORT COUNT FIFO NAME\n"), 100;
    long port = number(argv[1]), ports = number(argv[2]), answered = 0;
    const char *fifo = argv[3], *name = argv[4];
    struct rlimit files = {65536, 65536};
    setrlimit(RLIMIT_NOFILE, &files);
    signal(SIGUSR1, hang);
    sigaction(SIGUSR2, &(struct sigaction){.sa_handler = count}, NULL);
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    for (long n = 0; n < ports; n++) {
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), on = 1;
        struct sockaddr_in at = {
            .sin_family = AF_INET, .sin_port = htons(port + n), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
        struct epoll_event event = {.events = EPOLLIN, .data.u64 = LISTENER | fd};
        if (fd < 0 || bind(fd, (void *)&at, sizeof at) || listen(fd, 128)
            || epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event)) die("listen");
    }
    report(fifo, 'R', name, now_ns(), 0);
    for (;;) {
        struct epoll_event ready[128];
        int found = epoll_wait(epoll, ready, 128, -1);
        if (asked) {
            asked = 0;
            report(fifo, 'C', name, now_ns(), answered);
        }
        for (int i = 0; i < found; i++) {
            int fd = (int)ready[i].data.u64;
            if (ready[i].data.u64 & LISTENER) {
                int peer = accept4(fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
                struct epoll_event event = {.events = EPOLLIN, .data.u64 = peer};
                if (peer >= 0) epoll_ctl(epoll, EPOLL_CTL_ADD, peer, &event);
                continue;
            }
            // A probe's request comes in one piece.
            char request[4096];
            ssize_t got = read(fd, request, sizeof request - 1);
            if (got < 0 && errno == EAGAIN) continue;
            if (got <= 0) {
                close(fd);
                continue;
            }
            request[got] = 0;
            int last = strcasestr(request, "\r\nconnection: close") || strstr(request, " HTTP/1.0\r\n");
            ssize_t sent = last ? write(fd, LAST_ANSWER, sizeof LAST_ANSWER - 1)
                                : write(fd, ANSWER, sizeof ANSWER - 1);
            if (sent < 0 || last) close(fd);
            if (++answered == 1) report(fifo, 'A', name, now_ns(), 0);
        }
    }
}
