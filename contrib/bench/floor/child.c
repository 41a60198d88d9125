// child FIFO NAME: the least that can be supervised. Reports that it runs, then waits for ever.
#include "common.h"

int main(int argc, char **argv) {
    int64_t at = now_ns();
    if (argc == 3) report(argv[1], 'R', argv[2], at, 0);
    for (;;) pause();
}
