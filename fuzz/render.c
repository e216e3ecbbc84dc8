/* What libFuzzer calls: an input is an image, whose last bytes say which views are made of it.
 *
 * All instruction sets must make the same bytes, whatever stood before in the memory they are given, and both JPEG
 * decoders, where both take a file, the same pixels. The sanitizers see the rest.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "decode.h"
#include "draws.h"
#include "mix.h"
#include "processors.h"
#include "views.h"

enum { MOST_PIXELS = 40000 };

static const char *const NAMES[] = {"baseline", "avx2", "avx512"};
enum { PROCESSORS = 3 };

/* The sources are compiled with -Dmalloc=fuzzed_malloc. */
static uint8_t memory_pattern;
static int allocations_left = -1; /* until one fails; none does below 0 */

void *fuzzed_malloc(size_t size) {
    if (allocations_left == 0) {
        return NULL;
    }
    allocations_left -= allocations_left > 0;
    void *memory = malloc(size);
    if (memory != NULL) {
        memset(memory, memory_pattern, size);
    }
    return memory;
}

static void require(int holds, const char *what) {
    if (!holds) {
        fprintf(stderr, "FOUND: %s\n", what);
        abort();
    }
}

static uint8_t *new_bytes(size_t size) {
    uint8_t *bytes = malloc(size + (size == 0));
    require(bytes != NULL, "no memory for the harness itself");
    return bytes;
}

/* In an array of just its size, so that the first number behind it is noticed. */
static double *exact_copy(const Numbers *numbers) {
    double *copy = (double *)new_bytes(sizeof(double) * numbers->count);
    memcpy(copy, numbers->list, sizeof(double) * numbers->count);
    return copy;
}

static uint8_t *new_noise(size_t length) {
    uint8_t *noise = new_bytes(3 * length);
    for (size_t i = 0; i < 3 * length; i++) {
        noise[i] = (uint8_t)(i * 37 ^ i >> 3);
    }
    return noise;
}

/* The same views by every processor, from memory with other bytes and into other bytes. */
static void check_views(Draw *from, const Image *image, const Numbers *numbers, const Style *style, int count) {
    size_t bytes = 3 * (size_t)style->size * (size_t)style->size * (size_t)count, offset = (size_t)below(from, 33);
    int failing = one_in(from, 12) ? below(from, 24) : -1;
    double *params = exact_copy(numbers);
    uint8_t *outs[PROCESSORS] = {NULL};
    Outcome outcomes[PROCESSORS];
    int first = -1;
    for (int i = 0; i < PROCESSORS; i++) {
        const Processor *processor = processor_named(NAMES[i]);
        if (processor == NULL) {
            continue;
        }
        outs[i] = new_bytes(offset + bytes);
        memset(outs[i], 0x11 * (i + 1), offset + bytes);
        memory_pattern = (uint8_t)(0x55 * i);
        allocations_left = failing;
        const Out out = {outs[i] + offset, bytes};
        outcomes[i] = views_render(image, &(Params){params, numbers->count}, style, processor, &out);
        allocations_left = -1;
        for (size_t k = 0; k < offset; k++) {
            require(outs[i][k] == 0x11 * (i + 1), "bytes before the views were written to");
        }
        first = first < 0 ? i : first;
        require(outcomes[i] == outcomes[first], "one processor makes views that another one does not");
        require(outcomes[i] != VIEWS_MADE || memcmp(outs[i] + offset, outs[first] + offset, bytes) == 0,
                "processors make different views, or do not write all of them");
    }
    for (int i = 0; i < PROCESSORS; i++) {
        free(outs[i]);
    }
    free(params);
}

/* A single view, whose rows are decoded as they are needed, is the same as two views of pixels that are decoded at once. */
static void check_rows(const Image *image, const Numbers *numbers, const Style *style) {
    size_t bytes = 3 * (size_t)style->size * (size_t)style->size;
    Numbers twice = *numbers;
    if (2 * numbers->count > MOST_NUMBERS) {
        return;
    }
    add_all(&twice, numbers->list, (int)numbers->count);
    double *params = exact_copy(&twice);
    uint8_t *alone = new_bytes(bytes), *together = new_bytes(2 * bytes);
    const Processor *processor = processor_named("");
    Outcome one = views_render(image, &(Params){params, numbers->count}, style, processor, &(Out){alone, bytes});
    Outcome two = views_render(image, &(Params){params, twice.count}, style, processor, &(Out){together, 2 * bytes});
    require(one != VIEWS_MADE || two == VIEWS_MADE, "a view is made alone, and not beside another");
    require(one != VIEWS_MADE || (memcmp(alone, together, bytes) == 0 && memcmp(alone, together + bytes, bytes) == 0),
            "a view is another one beside another");
    free(alone);
    free(together);
    free(params);
}

static void try_views(Draw *from, const Image *image, int width, int height) {
    Style style = draw_style(from);
    uint8_t *noise = new_noise(style.noise_length);
    Numbers numbers = {{0}, 0};
    int count = one_in(from, 3) ? 1 + below(from, MOST_VIEWS) : 1;
    for (int i = 0; i < count; i++) {
        add_view(from, &numbers, width, height, &style);
    }
    for (int i = one_in(from, 4) ? 1 + below(from, 3) : 0; i > 0; i--) {
        spoil(from, &numbers);
    }
    if (one_in(from, 64)) {
        style.size = below(from, 5) - 2;
    }
    if (one_in(from, 64)) {
        style.noise_length = 0;
    }
    style.noise = noise;
    check_views(from, image, &numbers, &style, style.size > 0 ? count : 1);
    if (count == 1 && style.size > 0 && one_in(from, 4)) {
        check_rows(image, &numbers, &style);
    }
    free(noise);
}

/* The part that was asked for, without what a decoder adds around it: uint8 [3, height, width]. */
static uint8_t *cut_out(const Pixels *pixels, const Region *wanted) {
    const Region *region = &pixels->region;
    require(region->left <= wanted->left && region->top <= wanted->top &&
                region->left + region->width >= wanted->left + wanted->width &&
                region->top + region->height >= wanted->top + wanted->height, "less was decoded than was asked for");
    uint8_t *planes = new_bytes(3 * (size_t)wanted->width * (size_t)wanted->height), *to = planes;
    for (int channel = 0; channel < 3; channel++) {
        for (int y = 0; y < wanted->height; y++, to += wanted->width) {
            size_t row = (size_t)(wanted->top - region->top + y);
            memcpy(to, pixels->planes[channel] + row * pixels->stride + (wanted->left - region->left), (size_t)wanted->width);
        }
    }
    return planes;
}

static uint8_t *decoded(const uint8_t *data, size_t size, DecodeRegion *decode, Region wanted) {
    Pixels pixels;
    if (!views_decode(data, size, decode, wanted, &pixels)) {
        return NULL;
    }
    uint8_t *planes = cut_out(&pixels, &wanted);
    free(pixels.planes[0]);
    return planes;
}

static void try_decoders(Draw *from, const uint8_t *data, size_t size, const Header *header) {
    int width = 1 + up_to(from, header->width - 1), height = 1 + up_to(from, header->height - 1);
    Region wanted = {up_to(from, header->width - width), up_to(from, header->height - height), width, height};
    if (one_in(from, 16)) {
        const int strange[] = {-1, 0, 1, header->width, header->height, 1 << 30, -2147483647 - 1, 2147483647};
        ((int *[]){&wanted.left, &wanted.top, &wanted.width, &wanted.height}[below(from, 4)])[0] = strange[below(from, 8)];
    }
    size_t bytes = 3 * (size_t)wanted.width * (size_t)wanted.height;
    memory_pattern = 0xC3;
    uint8_t *general = decoded(data, size, decode_region, wanted);
    int makes = -1;
    for (int i = 0; i < PROCESSORS; i++) {
        const Processor *processor = processor_named(NAMES[i]);
        if (processor == NULL) {
            continue;
        }
        memory_pattern = (uint8_t)(0x55 * i);
        uint8_t *own = decoded(data, size, processor->decode, wanted);
        makes = makes < 0 ? own != NULL : makes;
        require(makes == (own != NULL), "one processor decodes what another one does not");
        require(own == NULL || general == NULL || memcmp(own, general, bytes) == 0, "the decoders differ");
        free(own);
    }
    free(general);
    if (one_in(from, 16)) {
        decode_coefficients(data, size);
    }
}

static void expect_mixed(const Pair *pair, const uint8_t *own, int size, int weight, const int *box, uint8_t *expected) {
    for (int i = 0; i < (int)pair->count; i++) {
        int x = i % size, y = i / size % size;
        int inside = box != NULL && x >= box[0] && x < box[2] && y >= box[1] && y < box[3];
        int64_t sum = (int64_t)own[i] * weight + (int64_t)pair->partner[i] * (65536 - weight) + 32768;
        expected[i] = box == NULL ? (uint8_t)(sum >> 16) : inside ? pair->partner[i] : own[i];
    }
}

static void try_mixing(Draw *from) {
    int size = 1 + below(from, 30), in_place = below(from, 2), cut = below(from, 2), weight = below(from, 65537);
    int box[4] = {below(from, size + 3) - 1, below(from, size + 3) - 1, below(from, size + 3) - 1, below(from, size + 3) - 1};
    size_t count = 3 * (size_t)size * (size_t)size;
    uint8_t *own = new_bytes(count), *partner = new_bytes(count), *out = new_bytes(count), *expected = new_bytes(count);
    if (one_in(from, 8)) {
        weight = (int[]){0, 65536, -1, 65537, 1 << 30, -(1 << 30)}[below(from, 6)];
    }
    int fits = cut ? box[0] >= 0 && box[1] >= 0 && box[2] >= box[0] && box[3] >= box[1] && box[2] <= size && box[3] <= size
                   : weight >= 0 && weight <= 65536;
    for (int i = 0; i < PROCESSORS; i++) {
        const Processor *processor = processor_named(NAMES[i]);
        Draw levels = *from;
        for (size_t k = 0; k < count; k++) {
            own[k] = (uint8_t)draw(&levels);
            partner[k] = (uint8_t)(draw(&levels) >> 8);
        }
        const Pair pair = {own, partner, in_place ? own : out, count};
        if (fits) {
            expect_mixed(&pair, own, size, weight, cut ? box : NULL, expected);
        }
        if (processor == NULL) {
            continue;
        }
        int done = cut ? cutmix(&pair, size, box) : mixup(&pair, weight, processor);
        require(done == fits, "numbers of a mix were taken that do not fit, or refused though they do");
        require(!done || memcmp(pair.out, expected, count) == 0, "a mixed view is not what its formula says");
    }
    free(own);
    free(partner);
    free(out);
    free(expected);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    Draw from = draw_by_input(data, size);
    Header header;
    if (one_in(&from, 16)) {
        try_mixing(&from);
    }
    if (views_header(data, size, &header)) {
        if (header.width * header.height <= MOST_PIXELS) {
            const Image image = {data, size, 0, 0};
            try_decoders(&from, data, size, &header);
            try_views(&from, &image, header.width, header.height);
        }
    } else if (size >= 3 && one_in(&from, 16)) {
        int width = 1 + below(&from, size > 300 ? 100 : (int)size / 3), height = (int)((size < 6000 ? size : 6000) / 3) / width;
        const Image image = {data, 3 * (size_t)width * (size_t)height, width, height};
        try_views(&from, &image, width, height > 0 ? height : 1);
    }
    return 0;
}
