// echo SOCKET REPLY_FILE: the floor under a control socket. Answers each line on a Unix stream
// socket with the content of REPLY_FILE. Runs until SIGTERM.
#include "common.h"
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>

int main(int argc, char **argv) {
    if (argc != 3) return fprintf(stderr, "usage: echo SOCKET REPLY_FILE\n"), 100;
    static char reply[1 << 20], line[65536];
    int file = open(argv[2], O_RDONLY | O_CLOEXEC);
    ssize_t length = read(file, reply, sizeof reply);
    if (length < 0) die(argv[2]);
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    snprintf(at.sun_path, sizeof at.sun_path, "%s", argv[1]);
    int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN, .data.fd = listener};
    if (bind(listener, (void *)&at, sizeof at) || listen(listener, 128)
        || epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event)) die(argv[1]);
    for (;;) {
        struct epoll_event ready[64];
        int found = epoll_wait(epoll, ready, 64, -1);
        for (int i = 0; i < found; i++) {
            int fd = ready[i].data.fd;
            if (fd == listener) {
                event.data.fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
                if (event.data.fd >= 0) epoll_ctl(epoll, EPOLL_CTL_ADD, event.data.fd, &event);
                continue;
            }
            ssize_t got = read(fd, line, sizeof line);
            if (got <= 0) {
                close(fd);
                continue;
            }
            for (char *end = memchr(line, '\n', got); end; end = memchr(end + 1, '\n', line + got - end - 1))
                if (send(fd, reply, length, MSG_NOSIGNAL) < 0) break;
        }
    }
}
