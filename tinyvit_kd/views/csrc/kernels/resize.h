/* Pillow's antialiased resize: weights in 22-bit fixed point, two passes, rounded to bytes in between.
 *
 * For the horizontal pass, groups of sixteen rows are transposed. So both passes use the same loop: a weighted sum of
 * vectors that are a stride apart.
 */

enum { PRECISION = 22, GROUP = LANES, PIXEL = 3 * GROUP }; /* a column of a transposed group: 16 rows of three channels */

typedef struct {
    int taps;      /* slots per output */
    int *first;    /* index of the first input of each output */
    int *count;
    int32_t *weights;
} Weights;

static inline double bilinear_weight(double x) {
    x = fabs(x);
    return x < 1.0 ? 1.0 - x : 0.0;
}

static inline double bicubic_weight(double x) {
    const double a = -0.5;
    x = fabs(x);
    if (x < 1.0) {
        return ((a + 2.0) * x - (a + 3.0)) * x * x + 1;
    }
    return x < 2.0 ? (((x - 5) * x + 8) * x - 4) * a : 0.0;
}

/* Weights of `count` outputs from number `from` on, of `out` in all. */
static int weights_new(Weights *weights, int in, int out, int from, int count, int bicubic) {
    double scale = (double)(float)in / out, stretch = scale < 1.0 ? 1.0 : scale;
    double support = (bicubic ? 2.0 : 1.0) * stretch, inverse = 1.0 / stretch;
    int taps = (int)ceil(support) * 2 + 1;
    double *exact = malloc(sizeof(double) * (size_t)taps);
    weights->taps = taps;
    weights->first = malloc(sizeof(int) * 2 * (size_t)count + sizeof(int32_t) * (size_t)taps * (size_t)count);
    if (exact == NULL || weights->first == NULL) {
        free(exact);
        free(weights->first);
        return 0;
    }
    weights->count = weights->first + count;
    weights->weights = (int32_t *)(weights->count + count);
    for (int i = 0; i < count; i++) {
        double centre = 0.0 + (from + i + 0.5) * scale, sum = 0.0;
        int first = (int)(centre - support + 0.5), end = (int)(centre + support + 0.5);
        first = first < 0 ? 0 : first;
        end = end > in ? in : end;
        for (int k = 0; k < end - first; k++) {
            double x = (k + first - centre + 0.5) * inverse;
            exact[k] = bicubic ? bicubic_weight(x) : bilinear_weight(x);
            sum += exact[k];
        }
        for (int k = 0; k < end - first; k++) {
            double weight = (sum != 0.0 ? exact[k] / sum : exact[k]) * (1 << PRECISION);
            weights->weights[i * taps + k] = (int32_t)(weight < 0 ? -0.5 + weight : 0.5 + weight);
        }
        weights->first[i] = first;
        weights->count[i] = end - first;
    }
    free(exact);
    return 1;
}

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

/* Transpose sixteen rows of three planes to [width][3][16]; if there are fewer, the last one is repeated. */
static void turn_rows(Source source, int top, int height, int width, uint8_t *turned) {
    uint8_t block[GROUP * GROUP];
    for (int channel = 0; channel < 3; channel++) {
        const uint8_t *plane = source.planes[channel];
        uint8_t *to = turned + channel * GROUP;
        for (int x = 0; x < width; x += GROUP, to += GROUP * PIXEL) {
            if (top + GROUP <= height) {
                transpose_16x16(plane + (size_t)top * source.stride + x, source.stride, to, PIXEL);
                continue;
            }
            for (int i = 0; i < GROUP; i++) {
                int row = top + i < height ? top + i : height - 1;
                memcpy(block + i * GROUP, plane + (size_t)row * source.stride + x, GROUP);
            }
            transpose_16x16(block, GROUP, to, PIXEL);
        }
    }
}

/* Resize rows: planes [height, width] to planes [height rounded up, padded size]. */
static int resize_rows(Source source, int width, int height, const Weights *weights, int size, int flip, uint8_t *planes) {
    int padded = round_up(size, GROUP), rows = round_up(height, GROUP);
    uint8_t *turned = malloc((size_t)(width + padded + 2 * GROUP) * PIXEL);
    if (turned == NULL) {
        return 0;
    }
    uint8_t *resized = turned + (size_t)(width + GROUP) * PIXEL;
    memset(resized, 0, (size_t)padded * PIXEL);
    for (int top = 0; top < rows; top += GROUP) {
        turn_rows(source, top, height, width, turned);
        for (int i = 0; i < size; i++) {
            const int32_t *own = weights->weights + (size_t)i * (size_t)weights->taps;
            uint8_t *to = resized + (size_t)(flip ? size - 1 - i : i) * PIXEL;
            weigh(turned + (size_t)weights->first[i] * PIXEL, PIXEL, own, weights->count[i], to, PIXEL);
        }
        for (int channel = 0; channel < 3; channel++) {
            uint8_t *plane = planes + ((size_t)channel * rows + top) * padded;
            for (int x = 0; x < padded; x += GROUP) {
                transpose_16x16(resized + (size_t)x * PIXEL + channel * GROUP, PIXEL, plane + x, (size_t)padded);
            }
        }
    }
    free(turned);
    return 1;
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

static int resize_horizontal_first(Source source, const View *view, const Weights *across, const Weights *down, int size,
                                   uint8_t *out) {
    int padded = round_up(size, GROUP), rows = round_up(view->height, GROUP);
    size_t plane = (size_t)rows * padded, square = (size_t)padded * padded;
    uint8_t *planes = malloc(3 * (plane + square));
    if (planes == NULL) {
        return 0;
    }
    uint8_t *squares = planes + 3 * plane;
    int done = resize_rows(source, view->width, view->height, across, size, view->flip, planes);
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

static int resize_vertical_first(Source source, const View *view, const Weights *across, const Weights *down, int size,
                                 uint8_t *out) {
    int padded = round_up(size, GROUP), length = round_up(view->width, GROUP);
    size_t plane = (size_t)length * size;
    uint8_t *rows = malloc(3 * plane + GROUP + 3 * (size_t)padded * padded);
    if (rows == NULL) {
        return 0;
    }
    uint8_t *squares = rows + 3 * plane + GROUP;
    Source halfway = {{rows, rows + plane, rows + 2 * plane}, (size_t)length};
    for (int channel = 0; channel < 3; channel++) {
        uint8_t *to = rows + channel * plane;
        resize_columns(source.planes[channel], source.stride, down, size, to, (size_t)length, length);
    }
    int done = resize_rows(halfway, view->width, size, across, size, view->flip, squares);
    if (done) {
        copy_planes(squares, padded, padded, size, out);
    }
    free(rows);
    return done;
}

/* The view's part of the resized crop, mirrored if the view is flipped: planes uint8 [3, size, size]. */
static int resize_crop(Source source, const View *view, int size, int bicubic, uint8_t *out) {
    Weights across, down;
    int less_width = view->width - view->full_width, less_height = view->height - view->full_height;
    int vertical_first = less_height > 0 && less_height > 2 * less_width, done = 0;
    if (!weights_new(&across, view->width, view->full_width, view->from_x, size, bicubic)) {
        return 0;
    }
    if (weights_new(&down, view->height, view->full_height, view->from_y, size, bicubic)) {
        done = vertical_first ? resize_vertical_first(source, view, &across, &down, size, out)
                              : resize_horizontal_first(source, view, &across, &down, size, out);
        free(down.first);
    }
    free(across.first);
    return done;
}
