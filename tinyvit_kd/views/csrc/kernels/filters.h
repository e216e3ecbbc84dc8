/* Operations that use a pixel's neighbours. They read `in` and write `out`, planes of size x size. */

/* Pillow's SMOOTH kernel (3 x 3, with five times the weight in the middle) in float32, summed in its order; then the
 * blend. */
static void sharpness_row(const uint8_t *above, const uint8_t *row, const uint8_t *below, uint8_t *out, int size,
                          float factor) {
    const float one = 1.0f / 13.0f, five = 5.0f / 13.0f;
    for (int x = 1; x < size - 1; x++) {
        float sum = 0.5f;
        sum += (float)below[x - 1] * one + (float)below[x] * one + (float)below[x + 1] * one;
        sum += (float)row[x - 1] * one + (float)row[x] * five + (float)row[x + 1] * one;
        sum += (float)above[x - 1] * one + (float)above[x] * one + (float)above[x + 1] * one;
        sum = sum > 255.0f ? 255.0f : sum;
        out[x] = blended((int)sum, row[x], factor);
    }
}

/* Pixels at the border are not smoothed, so no factor changes them. */
static void sharpness(const uint8_t *in, uint8_t *out, int size, float factor) {
    memcpy(out, in, (size_t)size * (size_t)size);
    for (int y = 1; y < size - 1; y++) {
        const uint8_t *row = in + (size_t)y * size;
        sharpness_row(row - size, row, row + size, out + (size_t)y * size, size, factor);
    }
}

/* Gwosdek et al., 2011: the box filter that, applied `passes` times, is nearest to the Gaussian. Pillow's arithmetic. */
static float box_radius(float radius, int passes) {
    float variance = radius * radius / (float)passes;
    float length = (float)sqrt(12.0 * (double)variance + 1.0);
    float whole = (float)floor(((double)length - 1.0) / 2.0);
    float part = (2 * whole + 1) * (whole * (whole + 1) - 3 * variance);
    part /= 6 * (variance - (whole + 1) * (whole + 1));
    return whole + part;
}

typedef struct {
    int radius;
    uint32_t full, far; /* weights of whole and of partly covered pixels, with 24 fractional bits */
} BoxFilter;

static BoxFilter box_filter(float radius) {
    BoxFilter box;
    box.radius = (int)radius;
    box.full = (uint32_t)((float)(1 << 24) / (radius * 2 + 1));
    box.far = ((1 << 24) - (uint32_t)(box.radius * 2 + 1) * box.full) / 2;
    return box;
}

static inline int clamp(int value, int low, int high) { return value < low ? low : value > high ? high : value; }

/* One pass down the columns of a plane; rows outside the plane repeat its first or last row. */
static void box_pass(const BoxFilter *box, const uint8_t *in, uint8_t *out, int size) {
    for (int y = 0; y < size; y++) {
        const uint8_t *before = in + (size_t)clamp(y - box->radius - 1, 0, size - 1) * size;
        const uint8_t *after = in + (size_t)clamp(y + box->radius + 1, 0, size - 1) * size;
        uint8_t *to = out + (size_t)y * size;
        for (int x = 0; x < size; x++) {
            uint32_t sum = 0;
            for (int k = y - box->radius; k <= y + box->radius; k++) {
                sum += in[(size_t)clamp(k, 0, size - 1) * size + x];
            }
            to[x] = (uint8_t)((sum * box->full + ((uint32_t)before[x] + after[x]) * box->far + (1 << 23)) >> 24);
        }
    }
}

static void transpose_plane(const uint8_t *in, uint8_t *out, int size) {
    int whole = size / 16 * 16;
    for (int y = 0; y < whole; y += 16) {
        for (int x = 0; x < whole; x += 16) {
            transpose_16x16(in + (size_t)y * size + x, (size_t)size, out + (size_t)x * size + y, (size_t)size);
        }
    }
    for (int y = 0; y < size; y++) {
        for (int x = y < whole ? whole : 0; x < size; x++) {
            out[(size_t)x * size + y] = in[(size_t)y * size + x];
        }
    }
}

/* Three passes along the rows, then three down the columns. The result is in `plane`; both are overwritten. */
static void gaussian_blur(uint8_t *plane, uint8_t *spare, int size, float radius) {
    BoxFilter box = box_filter(box_radius(radius, 3));
    for (int axis = 0; axis < 2; axis++) {
        transpose_plane(plane, spare, size);
        box_pass(&box, spare, plane, size);
        box_pass(&box, plane, spare, size);
        box_pass(&box, spare, plane, size);
    }
}
