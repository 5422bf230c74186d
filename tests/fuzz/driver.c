/*
 * Runs a fuzz target without libFuzzer: every file of the corpus folder, then seeded mutations of
 * them and of nothing. NABATA_SEED replays, NABATA_FUZZ_RUNS sets how many mutations (default
 * 20000).
 */
#include "base/bytes.h"
#include "base/random.h"

#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { INPUT_SIZE_MAX = 1 << 16 };

struct corpus {
    struct nb_buf *inputs;
    size_t count, capacity;
};

static void corpus_load(struct corpus *c, const char *folder)
{
    c->inputs = nb_grow(c->inputs, &c->capacity, 1, sizeof *c->inputs);
    c->inputs[c->count++] = (struct nb_buf){0};
    DIR *dir = opendir(folder);
    if (dir == NULL) {
        return; /* no corpus yet: mutations of nothing */
    }
    for (struct dirent *e = readdir(dir); e != NULL; e = readdir(dir)) {
        char *path = nb_sprintf("%s/%s", folder, e->d_name);
        FILE *f = e->d_name[0] == '.' ? NULL : fopen(path, "rb");
        if (f != NULL) {
            struct nb_buf input = {0};
            uint8_t *room = nb_buf_extend(&input, INPUT_SIZE_MAX);
            input.len = fread(room, 1, INPUT_SIZE_MAX, f);
            (void)fclose(f);
            c->inputs = nb_grow(c->inputs, &c->capacity, c->count + 1, sizeof *c->inputs);
            c->inputs[c->count++] = input;
        }
        nb_free(path);
    }
    (void)closedir(dir);
}

static void mutate(struct nb_random *r, struct nb_buf *b, const struct corpus *c)
{
    uint64_t steps = 1 + nb_random_below(r, 8);
    for (uint64_t i = 0; i < steps; i++) {
        size_t at = b->len == 0 ? 0 : nb_random_below(r, b->len);
        switch (nb_random_below(r, 6)) {
        case 0: /* a byte of its own */
            if (b->len != 0) {
                b->data[at] = (uint8_t)nb_random_u64(r);
            }
            break;
        case 1: /* a bit turned */
            if (b->len != 0) {
                b->data[at] ^= (uint8_t)(1u << nb_random_below(r, 8));
            }
            break;
        case 2: /* cut short */
            b->len = at;
            break;
        case 3: { /* a few bytes more */
            uint64_t extra = 1 + nb_random_below(r, 16);
            for (uint64_t k = 0; k < extra; k++) {
                uint8_t byte = (uint8_t)nb_random_u64(r);
                nb_buf_append(b, &byte, 1);
            }
            break;
        }
        case 4: { /* the tail of another input */
            const struct nb_buf *other = &c->inputs[nb_random_below(r, c->count)];
            if (other->len != 0 && b->len < INPUT_SIZE_MAX) {
                size_t from = nb_random_below(r, other->len);
                b->len = at;
                nb_buf_append(b, other->data + from, other->len - from);
            }
            break;
        }
        default: /* an extreme byte */
            if (b->len != 0) {
                b->data[at] = (uint8_t[]){0, 0xff, 0x7f, 0x80}[nb_random_below(r, 4)];
            }
            break;
        }
    }
}

int main(int argc, char **argv)
{
    struct corpus c = {0};
    corpus_load(&c, argc > 1 ? argv[1] : "");
    const char *given = getenv("NABATA_SEED");
    uint64_t seed = given != NULL ? strtoull(given, NULL, 0) : nb_random_entropy() >> 16;
    const char *runs_given = getenv("NABATA_FUZZ_RUNS");
    uint64_t runs = runs_given != NULL ? strtoull(runs_given, NULL, 10) : 20000;
    (void)fprintf(stderr, "NABATA_SEED=%" PRIu64 " corpus=%zu runs=%" PRIu64 "\n", seed, c.count,
                  runs);
    for (size_t i = 0; i < c.count; i++) {
        (void)LLVMFuzzerTestOneInput(c.inputs[i].data, c.inputs[i].len);
    }
    struct nb_random r;
    nb_random_init(&r, seed);
    struct nb_buf b = {0};
    for (uint64_t i = 0; i < runs; i++) {
        const struct nb_buf *from = &c.inputs[nb_random_below(&r, c.count)];
        nb_buf_clear(&b);
        nb_buf_append(&b, from->data, from->len);
        mutate(&r, &b, &c);
        /* A copy of its exact size, so that a sanitizer sees a read past its end. */
        uint8_t *exact = nb_alloc(b.len == 0 ? 1 : b.len);
        if (b.len != 0) {
            memcpy(exact, b.data, b.len);
        }
        (void)LLVMFuzzerTestOneInput(exact, b.len);
        nb_free(exact);
    }
    nb_buf_deinit(&b);
    for (size_t i = 0; i < c.count; i++) {
        nb_buf_deinit(&c.inputs[i]);
    }
    nb_free(c.inputs);
    return 0;
}
