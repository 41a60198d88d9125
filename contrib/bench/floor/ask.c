// ask SOCKET COUNT PAUSE_US REQUEST END: asks a line-based server on a Unix socket COUNT times, one
// after another with a pause between, and prints the median, the 99th percentile and the longest
// time to the whole answer in ns, and the length of the last answer.
//
// An answer is whole when it ends with END and a line feed, END at the beginning of a line; an
// empty END: when it ends with any line feed.
#include "common.h"
#include <sys/socket.h>
#include <sys/un.h>

static int ascending(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return x < y ? -1 : x > y;
}

int main(int argc, char **argv) {
    if (argc != 6) return fprintf(stderr, "usage: ask SOCKET COUNT PAUSE_US REQUEST END\n"), 100;
    static char answer[16 << 20], request[65536];
    long count = number(argv[2]), pause_us = number(argv[3]);
    size_t asked = snprintf(request, sizeof request, "%s\n", argv[4]), end = strlen(argv[5]);
    int64_t *times = calloc(count, sizeof *times);
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    snprintf(at.sun_path, sizeof at.sun_path, "%s", argv[1]);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (void *)&at, sizeof at)) die(argv[1]);
    size_t length = 0;
    for (long n = 0; n < count; n++) {
        if (pause_us) usleep(pause_us);
        int64_t from = now_ns();
        if (write(fd, request, asked) != (ssize_t)asked) die("write");
        for (length = 0;;) {
            ssize_t got = read(fd, answer + length, sizeof answer - length);
            if (got <= 0) {
                fprintf(stderr, "ask: closed after %zu bytes of answer %ld\n", length, n);
                return 1;
            }
            length += got;
            if (answer[length - 1] != '\n' || length < end + 1) continue;
            size_t last = length - 1 - end;
            if (!end || (!memcmp(answer + last, argv[5], end) && (!last || answer[last - 1] == '\n'))) break;
        }
        times[n] = now_ns() - from;
    }
    qsort(times, count, sizeof *times, ascending);
    printf("%lld %lld %lld %zu\n", (long long)times[count / 2], (long long)times[count * 99 / 100],
           (long long)times[count - 1], length);
}
