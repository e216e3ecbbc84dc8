/* Pillow's antialiased resize: weights in 22-bit fixed point, two passes, rounded to bytes in between.
 *
 * For the horizontal pass, groups of sixteen rows are transposed. So both passes use the same loop: a weighted sum of
 * vectors that are a stride apart.
 */

enum { GROUP = GROUP_ROWS, PIXEL = 3 * GROUP }; /* a column of a transposed group: 16 rows of three channels */

static inline i32x16 weighted(u8x16 bytes, int32_t weight) {
    return widen_u8(bytes) * weight;
}

static inline void store_rounded(uint8_t *to, i32x16 sum) {
    store_u8(to, narrow_u8(sum >> PRECISION));
}

/* to[i] = sum over k of from[k * stride + i] * weights[k], for a multiple of 16 values of i. */
static void weigh(const uint8_t *from, size_t stride, const int32_t *weights, int count, uint8_t *to, int length) {
    const i32x16 half = (i32x16){0} + (1 << (PRECISION - 1));
    int i = 0;
    for (; i + PIXEL <= length; i += PIXEL) {
        i32x16 a = half, b = half, c = half;
        const uint8_t *in = from + i;
        for (int k = 0; k < count; k++, in += stride) {
            a += weighted(load_u8(in), weights[k]);
            b += weighted(load_u8(in + LANES), weights[k]);
            c += weighted(load_u8(in + 2 * LANES), weights[k]);
        }
        store_rounded(to + i, a);
        store_rounded(to + i + LANES, b);
        store_rounded(to + i + 2 * LANES, c);
    }
    for (; i < length; i += LANES) {
        i32x16 a = half;
        const uint8_t *in = from + i;
        for (int k = 0; k < count; k++, in += stride) {
            a += weighted(load_u8(in), weights[k]);
        }
        store_rounded(to + i, a);
    }
}

/* Transpose up to sixteen rows of three planes to [width][3][16]; if there are fewer, the last one is repeated. */
static void turn_rows(Source source, int count, int width, uint8_t *turned) {
    uint8_t block[GROUP * 2 * GROUP];
    for (int channel = 0; channel < 3; channel++) {
        const uint8_t *plane = source.planes[channel];
        uint8_t *to = turned + channel * GROUP;
        for (int x = 0; x < width; x += 2 * GROUP, to += 2 * GROUP * PIXEL) {
            const uint8_t *from = plane + x;
            size_t stride = source.stride;
            for (int i = 0; count < GROUP && i < GROUP; i++) {
                int row = i < count ? i : count - 1;
                memcpy(block + i * 2 * GROUP, plane + (size_t)row * source.stride + x, 2 * GROUP);
            }
            if (count < GROUP) {
                from = block;
                stride = 2 * GROUP;
            }
            transpose_16x32(from, stride, to, to + GROUP * PIXEL, PIXEL);
        }
    }
}

/* How rows are resized, sixteen at a time. */
typedef struct {
    const Weights *weights;
    int width, size, flip, padded; /* of the input; of the output, and rounded up to whole groups */
    uint8_t *turned, *resized;     /* transposed input and output; the first must be freed */
} Across;

static int across_new(Across *across, const View *view, const Weights *weights, int size) {
    int width = view->used.width, padded = round_up(size, GROUP);
    uint8_t *turned = malloc((size_t)(width + padded + 3 * GROUP) * PIXEL);
    if (turned == NULL) {
        return 0;
    }
    *across = (Across){weights, width, size, view->flip, padded, turned, turned + (size_t)(width + 2 * GROUP) * PIXEL};
    memset(across->resized, 0, (size_t)padded * PIXEL);
    return 1;
}

/* Resize up to sixteen rows to sixteen, `padded` apart, in planes that are `plane` apart. */
static void resize_group(const Across *across, Source source, int count, uint8_t *to, size_t plane) {
    const Weights *weights = across->weights;
    turn_rows(source, count, across->width, across->turned);
    for (int i = 0; i < across->size; i++) {
        const int32_t *own = weights->weights + (size_t)i * (size_t)weights->taps;
        uint8_t *column = across->resized + (size_t)(across->flip ? across->size - 1 - i : i) * PIXEL;
        weigh(across->turned + (size_t)weights->first[i] * PIXEL, PIXEL, own, weights->count[i], column, PIXEL);
    }
    for (int x = 0; x < across->padded; x += GROUP) {
        const uint8_t *pixels = across->resized + (size_t)x * PIXEL;
        uint8_t *red = to + x, *green = red + plane, *blue = green + plane;
        transpose_16x32(pixels, PIXEL, red, green, (size_t)across->padded);
        transpose_16x16(pixels + 2 * GROUP, PIXEL, blue, (size_t)across->padded);
    }
}

/* Resize columns: rows a stride apart to `size` rows `to_stride` apart; `length` is a multiple of 16. */
static void resize_columns(const uint8_t *from, size_t stride, const Weights *weights, int size, uint8_t *to,
                           size_t to_stride, int length) {
    for (int i = 0; i < size; i++) {
        const int32_t *own = weights->weights + (size_t)i * (size_t)weights->taps;
        weigh(from + (size_t)weights->first[i] * stride, stride, own, weights->count[i], to + (size_t)i * to_stride, length);
    }
}

static void copy_planes(const uint8_t *planes, int rows, int padded, int size, uint8_t *out) {
    for (int channel = 0; channel < 3; channel++) {
        for (int y = 0; y < size; y++, out += size) {
            memcpy(out, planes + ((size_t)channel * rows + y) * padded, (size_t)size);
        }
    }
}

static int resize_horizontal_first(Rows *rows, int height, const Across *across, const Weights *down, uint8_t *out) {
    int size = across->size, padded = across->padded, done = 1;
    size_t plane = (size_t)round_up(height, GROUP) * padded, square = (size_t)padded * padded;
    uint8_t *planes = malloc(3 * (plane + square));
    if (planes == NULL) {
        return 0;
    }
    uint8_t *squares = planes + 3 * plane;
    for (int top = 0; done && top < height; top += GROUP) {
        Source source;
        int count = height - top < GROUP ? height - top : GROUP;
        done = rows->fetch(rows, top, count, &source);
        if (done) {
            resize_group(across, source, count, planes + (size_t)top * padded, plane);
        }
    }
    for (int channel = 0; done && channel < 3; channel++) {
        uint8_t *to = padded == size ? out : squares;
        resize_columns(planes + channel * plane, (size_t)padded, down, size, to + channel * square, (size_t)padded, padded);
    }
    if (done && padded != size) {
        copy_planes(squares, padded, padded, size, out);
    }
    free(planes);
    return done;
}

static int resize_vertical_first(Rows *rows, const Across *across, const Weights *down, uint8_t *out) {
    int size = across->size, padded = across->padded, length = round_up(across->width, GROUP), done = 1;
    size_t plane = (size_t)length * size, square = (size_t)padded * padded;
    uint8_t *planes = malloc(3 * plane + GROUP + 3 * square);
    if (planes == NULL) {
        return 0;
    }
    uint8_t *squares = planes + 3 * plane + GROUP;
    for (int i = 0; done && i < size; i++) {
        Source source;
        done = rows->fetch(rows, down->first[i], down->count[i], &source);
        for (int channel = 0; done && channel < 3; channel++) {
            const int32_t *own = down->weights + (size_t)i * (size_t)down->taps;
            uint8_t *to = planes + channel * plane + (size_t)i * length;
            weigh(source.planes[channel], source.stride, own, down->count[i], to, length);
        }
    }
    for (int top = 0; done && top < size; top += GROUP) {
        const uint8_t *row = planes + (size_t)top * length;
        const Source source = {{row, row + plane, row + 2 * plane}, (size_t)length};
        resize_group(across, source, size - top < GROUP ? size - top : GROUP, squares + (size_t)top * padded, square);
    }
    if (done) {
        copy_planes(squares, padded, padded, size, out);
    }
    free(planes);
    return done;
}

/* The view's part of the resized crop, mirrored if the view is flipped: planes uint8 [3, size, size]. */
static int resize_crop(Rows *rows, const View *view, int size, uint8_t *out) {
    Weights across_weights, down;
    Across across;
    int done = 0;
    if (!weights_new(&across_weights, &view->across)) {
        return 0;
    }
    if (weights_new(&down, &view->down)) {
        if (across_new(&across, view, &across_weights, size)) {
            done = view_is_vertical_first(view) ? resize_vertical_first(rows, &across, &down, out)
                                                : resize_horizontal_first(rows, view->used.height, &across, &down, out);
            free(across.turned);
        }
        weights_free(&down);
    }
    weights_free(&across_weights);
    return done;
}
