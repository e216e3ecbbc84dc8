/* From samples of components to rows of red, green and blue, by libjpeg's triangle filter and its arithmetic. */

/* Buffers for a row of a component at the image's resolution, doubled in width by the triangle filter if needed. */
typedef struct {
    int16_t *sums; /* of two rows, 3 to 1, with one more entry on each side */
    uint8_t *row;
} Wide;

static const uint8_t *samples_row(const Samples *samples, int y) {
    int inside = clamp(y, 0, samples->height - 1);
    return samples->rows + (size_t)(inside & samples->turn) * samples->stride;
}

/* Doubles the width: [2 * count] from count + 2 sums. Adding a bias and shifting by `bits` turns a sum into a level. */
static void widen(const int16_t *sums, int count, int low_bias, int high_bias, int bits, uint8_t *out) {
    for (int i = 0; i < count; i++) {
        int own = 3 * sums[i + 1];
        out[2 * i] = (uint8_t)((own + sums[i] + low_bias) >> bits);
        out[2 * i + 1] = (uint8_t)((own + sums[i + 2] + high_bias) >> bits);
    }
}

/* Chroma samples `left` to `left + count - 1` of image row y, at the image's resolution: uint8 [2 * count], or [count]
 * if the width is not doubled. `near` is the nearer neighbouring row, for when rows are filtered, too. */
static void chroma_row(const Blocks *jpeg, const Samples *samples, int y, int left, int count, const Wide *wide) {
    int narrow = samples->width <= 2, own_y = y / jpeg->down, near_y = y % 2 == 0 ? own_y - 1 : own_y + 1;
    const uint8_t *own = samples_row(samples, own_y) - samples->left, *near = samples_row(samples, near_y) - samples->left;
    if (jpeg->across == 1 && jpeg->down == 2) {
        int bias = y % 2 == 0 ? 1 : 2;
        for (int i = 0; i < count; i++) {
            wide->row[i] = (uint8_t)((3 * own[left + i] + near[left + i] + bias) >> 2);
        }
    } else if (jpeg->across == 1) {
        memcpy(wide->row, own + left, (size_t)count);
    } else if (narrow) {
        for (int i = 0; i < count; i++) {
            wide->row[2 * i] = wide->row[2 * i + 1] = own[left + i];
        }
    } else {
        int weight = jpeg->down == 2 ? 3 : 1, last = samples->width - 1;
        int begin = left > 0 ? left - 1 : 0, end = left + count <= last ? left + count : last;
        int16_t *sums = wide->sums + 1 - left;
        for (int x = begin; x <= end; x++) {
            sums[x] = (int16_t)(weight * own[x] + (jpeg->down == 2 ? near[x] : 0));
        }
        sums[left - 1] = left > 0 ? sums[left - 1] : sums[0];
        sums[left + count] = left + count <= last ? sums[left + count] : sums[last];
        widen(wide->sums, count, jpeg->down == 2 ? 8 : 1, jpeg->down == 2 ? 7 : 2, jpeg->down == 2 ? 4 : 2, wide->row);
    }
}

static inline uint8_t level(int value) { return (uint8_t)(value < 0 ? 0 : value > 255 ? 255 : value); }

static void colour_row(const uint8_t *luma, const uint8_t *blue, const uint8_t *red, int count, uint8_t *const *out) {
    uint8_t *r = out[0], *g = out[1], *b = out[2];
    for (int i = 0; i < count; i++) {
        int y = luma[i], cb = blue[i] - 128, cr = red[i] - 128;
        r[i] = level(y + ((91881 * cr + 32768) >> 16));
        g[i] = level(y + ((-22554 * cb - 46802 * cr + 32768) >> 16));
        b[i] = level(y + ((116130 * cb + 32768) >> 16));
    }
}

