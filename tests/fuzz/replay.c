/*
 * replay.c - Run a fuzz target over every file of its corpus folder, without a fuzzer.
 *
 * So that what a fuzzer once found is tried again by every `make test`, also where
 * clang is not installed.
 */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static int replay(const char *path) {
    FILE *f = fopen(path, "rb");
    if (!f) return -1;
    fseek(f, 0, SEEK_END);
    const long bytes = ftell(f);
    rewind(f);
    uint8_t *data = malloc(bytes > 0 ? (size_t)bytes : 1); // exact: overreads are seen
    if (!data || fread(data, 1, (size_t)bytes, f) != (size_t)bytes) abort();
    fclose(f);
    LLVMFuzzerTestOneInput(data, (size_t)bytes);
    free(data);
    return 0;
}

int main(int argc, char **argv) {
    int files = 0;
    for (int i = 1; i < argc; i++) {
        DIR *dir = opendir(argv[i]);
        if (!dir) {
            fprintf(stderr, "no corpus at %s\n", argv[i]);
            return 1;
        }
        for (struct dirent *e; (e = readdir(dir));) {
            char path[4096];
            if (e->d_name[0] == '.') continue;
            snprintf(path, sizeof(path), "%s/%s", argv[i], e->d_name);
            fprintf(stderr, "%s\n", path);
            if (replay(path)) return 1;
            files++;
        }
        closedir(dir);
    }
    printf("%d files\n", files);
    return files > 0 ? 0 : 1;
}
