/* The least that any server could do with a stream: lines from stdin (a pipe), each as one server-sent event to stdout (a socket),
 * in HTTP's chunks. It looks into no line.
 *
 *     copy            all that one read gave in one write
 *     copy each       one write for every event
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define READ 65536
static char in[READ * 2], out[READ * 8], head[16];

static int send_chunk(size_t size) {
    size_t length = sprintf(head, "%zx\r\n", size);
    memcpy(out + 16 - length, head, length);
    memcpy(out + 16 + size, "\r\n", 2);
    char *data = out + 16 - length;
    for (size_t left = length + size + 2; left;) {
        ssize_t written = write(1, data, left);
        if (written < 0) return -1;
        data += written;
        left -= written;
    }
    return 0;
}

int main(int argc, char **argv) {
    (void)argv;
    size_t held = 0;
    for (ssize_t got; (got = read(0, in + held, READ)) > 0;) {
        size_t size = 0;
        char *line = in, *end = in + held + got;
        for (char *newline; (newline = memchr(line, '\n', end - line)); line = newline + 1) {
            memcpy(out + 16 + size, "data: ", 6);
            memcpy(out + 16 + size + 6, line, newline - line);
            memcpy(out + 16 + size + 6 + (newline - line), "\n\n", 2);
            size += 8 + (newline - line);
            if (argc > 1 && size) {
                if (send_chunk(size)) return 1;
                size = 0;
            }
        }
        held = end - line;
        memmove(in, line, held);
        if (size && send_chunk(size)) return 1;
    }
    return 0;
}
