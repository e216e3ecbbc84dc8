/* Parameters of views that follow from a few bytes of the input: sound ones, and ones that must be refused. */
#ifndef FUZZ_DRAWS_H
#define FUZZ_DRAWS_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "view.h"

enum { TAIL = 16, MOST_NUMBERS = 256, MOST_VIEWS = 3, MOST_SIDE = 80, MOST_NOISE = 97 };

typedef struct {
    uint64_t state;
} Draw;

/* SplitMix64. */
static uint64_t draw(Draw *from) {
    uint64_t z = from->state += 0x9E3779B97F4A7C15u;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return z ^ z >> 31;
}

static int below(Draw *from, int count) { return (int)(draw(from) % (uint64_t)count); }

static int one_in(Draw *from, int count) { return below(from, count) == 0; }

static double between(Draw *from, double low, double high) { return low + (high - low) * ((double)(draw(from) >> 11) * 0x1p-53); }

/* By the last bytes alone for half of the inputs, so that a change of the image leaves its views as they are; by all
 * bytes for the others, so that there are always other views. */
static Draw draw_by_input(const uint8_t *data, size_t size) {
    Draw from = {0};
    int by_all = size > 0 && data[size - 1] & 1;
    for (size_t i = size > TAIL && !by_all ? size - TAIL : 0; i < size; i++) {
        from.state = (from.state ^ data[i]) * 0x100000001B3u;
    }
    draw(&from);
    return from;
}

typedef struct {
    double list[MOST_NUMBERS];
    size_t count;
} Numbers;

static void add(Numbers *numbers, double number) {
    if (numbers->count < MOST_NUMBERS) {
        numbers->list[numbers->count++] = number;
    }
}

static void add_all(Numbers *numbers, const double *list, int count) {
    for (int i = 0; i < count; i++) {
        add(numbers, list[i]);
    }
}

static void add_affine(Draw *from, Numbers *numbers, int size) {
    double slope = between(from, -1.5, 1.5), shift = between(from, -1.5 * size, 1.5 * size), angle = between(from, -7, 7);
    if (one_in(from, 3)) {
        slope = 0;
    }
    if (one_in(from, 3)) {
        /* A little more or less than a whole, so that rounding decides which pixels are next to a point. */
        shift = floor(shift) + (below(from, 3) - 1) * between(from, 0, 1e-14);
        slope = one_in(from, 2) ? 0 : slope;
    }
    const double rows[] = {AFFINE, 1, slope, shift, 0, 1, 0}, columns[] = {AFFINE, 1, 0, 0, slope, 1, shift};
    const double any[] = {AFFINE, cos(angle), sin(angle), shift, -sin(angle), cos(angle) + slope, between(from, -size, size)};
    const double *const kinds[] = {rows, columns, any};
    add_all(numbers, kinds[below(from, 3)], PARAMS_OPERATION);
}

static void add_operation(Draw *from, Numbers *numbers, int size) {
    int kind = below(from, GAUSSIAN_BLUR + 1);
    double factors[] = {0, 1, 0.5, -1, 255, 256, between(from, 0, 3), between(from, 0, 9), between(from, 0, 257)};
    double value = factors[below(from, 9)];
    if (kind == AFFINE) {
        add_affine(from, numbers, size);
        return;
    }
    if (kind == GAUSSIAN_BLUR) {
        value = fabs(value) / (one_in(from, 4) ? 4 : 64);
    }
    const double operation[PARAMS_OPERATION] = {kind, kind == TURN ? below(from, 4) : value};
    add_all(numbers, operation, PARAMS_OPERATION);
}

/* 0 to `most`, which is what stands at limits. */
static int up_to(Draw *from, int most) { return one_in(from, 4) ? most : below(from, most + 1); }

static void add_box(Draw *from, Numbers *numbers, int size, int noise_length) {
    int left = up_to(from, size), top = up_to(from, size), width = up_to(from, size - left), height = up_to(from, size - top);
    const double box[PARAMS_BOX] = {left, top, width, height, up_to(from, noise_length - 1)};
    add_all(numbers, box, PARAMS_BOX);
}

/* A view of an image of width x height. */
static void add_view(Draw *from, Numbers *numbers, int width, int height, const Style *style) {
    int across = 1 + up_to(from, width - 1), down = 1 + up_to(from, height - 1), operations = below(from, 5), boxes = below(from, 3);
    int left = up_to(from, width - across), top = up_to(from, height - down);
    int from_x = one_in(from, 4) ? below(from, one_in(from, 4) ? 2000 : 40) : 0;
    int from_y = one_in(from, 4) ? below(from, one_in(from, 4) ? 2000 : 40) : 0;
    int full_width = style->size + from_x + (one_in(from, 4) ? below(from, one_in(from, 4) ? 2000 : 40) : 0);
    int full_height = style->size + from_y + (one_in(from, 4) ? below(from, one_in(from, 4) ? 2000 : 40) : 0);
    const double head[PARAMS_HEAD] = {left, top, across, down, full_width, full_height, from_x, from_y, below(from, 2), operations, boxes};
    add_all(numbers, head, PARAMS_HEAD);
    for (int i = 0; i < operations; i++) {
        add_operation(from, numbers, style->size);
    }
    for (int i = 0; i < boxes; i++) {
        add_box(from, numbers, style->size, (int)style->noise_length);
    }
}

/* One number becomes its neighbour or quite another one, or the last is lost, or one too many is there. */
static void spoil(Draw *from, Numbers *numbers) {
    const double strange[] = {NAN, INFINITY, -INFINITY, 1e300, -1e300, 0x1p30, -0x1p30, 0x1p31, -0x1p31, 0x1p62, -0.0, 1e-310, -1, 0.5,
                              13, 1e6, 254.5, -0.999, 0x1p15, 40};
    double bits;
    uint64_t word = draw(from);
    memcpy(&bits, &word, sizeof bits);
    if (one_in(from, 8)) {
        numbers->count -= numbers->count > 0;
    } else if (one_in(from, 8)) {
        add(numbers, between(from, 0, 9));
    } else if (numbers->count > 0) {
        double *place = &numbers->list[below(from, (int)numbers->count)];
        *place = one_in(from, 2) ? *place + below(from, 5) * 0.5 - 1 : one_in(from, 4) ? bits : strange[below(from, 20)];
    }
}

/* But for the noise itself. */
static Style draw_style(Draw *from) {
    Style style;
    style.size = 1 + below(from, one_in(from, 4) ? MOST_SIDE : 36);
    style.bicubic = below(from, 2);
    for (int i = 0; i < 3; i++) {
        style.fill[i] = (uint8_t)below(from, 256);
    }
    style.erase_mode = (EraseMode)below(from, 3);
    style.noise = NULL;
    style.noise_length = (size_t)(1 + below(from, MOST_NOISE));
    return style;
}

#endif
