/* A CLI that has all its answer ready: writes a file to stdout, one line a write, as the real ones do; further arguments are not read.
 *
 *     pour FILE [PAUSE_US]    with PAUSE_US, so long a pause after every line; -1: the file's head alone, then silence
 */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static void write_all(const char *data, size_t size) {
    while (size) {
        ssize_t written = write(1, data, size);
        if (written < 0) exit(1);
        data += written;
        size -= written;
    }
}

int main(int argc, char **argv) {
    struct stat facts;
    int file = open(argv[1], O_RDONLY);
    if (file < 0 || fstat(file, &facts)) return 2;
    const char *line = mmap(NULL, facts.st_size, PROT_READ, MAP_PRIVATE, file, 0), *end = line + facts.st_size;
    int pause_us = argc > 2 ? atoi(argv[2]) : 0;
    for (const char *next; line < end; line = next) {
        next = (const char *)memchr(line, '\n', end - line) + 1;
        write_all(line, next - line);
        if (pause_us < 0) pause();
        if (pause_us) usleep(pause_us);
    }
    return 0;
}
