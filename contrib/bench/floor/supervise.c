// supervise COUNT FIFO CHILD: the floor under a supervisor. Keeps COUNT children alive with
// clone3, a pidfd each and one epoll, and does nothing else; SIGTERM ends them all, then itself.
#include "common.h"
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>

// musl brings no kernel headers; clone3(2).
#ifndef P_PIDFD
#define P_PIDFD 3
#endif
#ifndef CLONE_PIDFD
#define CLONE_PIDFD 0x1000
#endif
struct clone_request {
    uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls;
};

static char **names, *fifo, *program;
static int epoll, *pidfds;
static sigset_t none;

static void start(long n) {
    int pidfd = -1;
    struct clone_request args = {
        .flags = CLONE_PIDFD, .pidfd = (uintptr_t)&pidfd, .exit_signal = SIGCHLD};
    long pid = syscall(SYS_clone3, &args, sizeof args);
    if (pid < 0) die("clone3");
    if (pid == 0) {
        char *argv[] = {program, fifo, names[n], NULL}, *env[] = {NULL};
        sigprocmask(SIG_SETMASK, &none, NULL);
        execve(program, argv, env);
        _exit(127);
    }
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = n};
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, pidfd, &event)) die("epoll_ctl");
    pidfds[n] = pidfd;
}

int main(int argc, char **argv) {
    if (argc != 4) return fprintf(stderr, "usage: supervise COUNT FIFO CHILD\n"), 100;
    long count = number(argv[1]), left = count;
    int stopping = 0;
    fifo = argv[2], program = argv[3];
    struct rlimit files = {count + 64, count + 64};
    setrlimit(RLIMIT_NOFILE, &files);
    sigset_t term;
    sigemptyset(&none), sigemptyset(&term), sigaddset(&term, SIGTERM);
    sigprocmask(SIG_BLOCK, &term, NULL);
    int signals = signalfd(-1, &term, SFD_CLOEXEC | SFD_NONBLOCK);
    epoll = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = count};
    if (signals < 0 || epoll < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, signals, &event)) die("epoll");
    pidfds = calloc(count, sizeof *pidfds), names = calloc(count, sizeof *names);
    for (long n = 0; n < count; n++) {
        if (asprintf(&names[n], "s%ld", n) < 0) die("asprintf");
        start(n);
    }
    while (left) {
        struct epoll_event ready[64];
        int found = epoll_wait(epoll, ready, 64, -1);
        if (found < 0 && errno != EINTR) die("epoll_wait");
        for (int i = 0; i < found; i++) {
            long n = ready[i].data.u64;
            if (n == count) {
                struct signalfd_siginfo got;
                if (read(signals, &got, sizeof got) != sizeof got) continue;
                stopping = 1;
                for (long each = 0; each < count; each++)
                    syscall(SYS_pidfd_send_signal, pidfds[each], SIGTERM, NULL, 0);
                continue;
            }
            siginfo_t end;
            if (waitid(P_PIDFD, pidfds[n], &end, WEXITED)) die("waitid");
            epoll_ctl(epoll, EPOLL_CTL_DEL, pidfds[n], NULL);
            close(pidfds[n]);
            if (stopping) left--;
            else start(n);
        }
    }
    return 0;
}
