/* libjpeg's accurate integer inverse DCT ("islow") for any processor, eight columns of a block at a time. */

/* A block of coefficients, what they are multiplied by, and the place of its 8 x 8 levels. */
typedef struct {
    const int16_t *numbers, *quantization;
    uint8_t *to;
    size_t stride;
} Transform;

static inline void store_level(uint8_t *to, size_t stride, int level) {
    for (int y = 0; y < 8; y++) {
        memset(to + (size_t)y * stride, level, 8);
    }
}

/* The levels of a block if all coefficients but the first are 0. */
static inline int idct_level(int first, uint8_t *to, size_t stride) {
    if (first < -4096 || first >= 4096) {
        return 0;
    }
    int level = ((first * 4 * (1 << 13) + (1 << 17)) >> 18) + 128;
    store_level(to, stride, level < 0 ? 0 : level > 255 ? 255 : level);
    return 1;
}

#if !defined(VIEWS_AVX512) && !defined(VIEWS_AVX2)

static inline i32x8 load_i16(const int16_t *from) {
    int32_t numbers[8];
    i32x8 wide;
    for (int i = 0; i < 8; i++) {
        numbers[i] = from[i];
    }
    memcpy(&wide, numbers, sizeof wide);
    return wide;
}

/* Clipped to 0..255. */
static inline void store_8_levels(uint8_t *to, i32x8 wide) {
    int32_t numbers[8];
    memcpy(numbers, &wide, sizeof numbers);
    for (int i = 0; i < 8; i++) {
        to[i] = (uint8_t)(numbers[i] < 0 ? 0 : numbers[i] > 255 ? 255 : numbers[i]);
    }
}

#define SHUFFLE8(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)

static inline void transpose_8x8(i32x8 *v) {
    i32x8 a[8], b[8];
    for (int i = 0; i < 4; i++) {
        a[2 * i] = SHUFFLE8(v[2 * i], v[2 * i + 1], 0, 8, 2, 10, 4, 12, 6, 14);
        a[2 * i + 1] = SHUFFLE8(v[2 * i], v[2 * i + 1], 1, 9, 3, 11, 5, 13, 7, 15);
    }
    for (int i = 0; i < 8; i += 4) {
        b[i] = SHUFFLE8(a[i], a[i + 2], 0, 1, 8, 9, 4, 5, 12, 13);
        b[i + 1] = SHUFFLE8(a[i + 1], a[i + 3], 0, 1, 8, 9, 4, 5, 12, 13);
        b[i + 2] = SHUFFLE8(a[i], a[i + 2], 2, 3, 10, 11, 6, 7, 14, 15);
        b[i + 3] = SHUFFLE8(a[i + 1], a[i + 3], 2, 3, 10, 11, 6, 7, 14, 15);
    }
    for (int i = 0; i < 4; i++) {
        v[i] = SHUFFLE8(b[i], b[i + 4], 0, 1, 2, 3, 8, 9, 10, 11);
        v[i + 4] = SHUFFLE8(b[i], b[i + 4], 4, 5, 6, 7, 12, 13, 14, 15);
    }
}

/* One dimension, in place. Constants have 13 fractional bits; the results are rounded and shifted down by `shift`. */
static inline void idct_1d(i32x8 *v, int shift) {
    const int32_t half = 1 << (shift - 1);
    i32x8 z1 = (v[2] + v[6]) * 4433;
    i32x8 t2 = z1 - v[6] * 15137, t3 = z1 + v[2] * 6270;
    i32x8 t0 = ((v[0] + v[4]) << 13) + half, t1 = ((v[0] - v[4]) << 13) + half;
    i32x8 e0 = t0 + t3, e3 = t0 - t3, e1 = t1 + t2, e2 = t1 - t2;
    i32x8 z3 = v[7] + v[3], z4 = v[5] + v[1], z5 = (z3 + z4) * 9633;
    i32x8 s1 = (v[7] + v[1]) * -7373, s2 = (v[5] + v[3]) * -20995;
    z3 = z3 * -16069 + z5;
    z4 = z4 * -3196 + z5;
    i32x8 o0 = v[7] * 2446 + s1 + z3, o1 = v[5] * 16819 + s2 + z4;
    i32x8 o2 = v[3] * 25172 + s2 + z3, o3 = v[1] * 12299 + s1 + z4;
    v[0] = (e0 + o3) >> shift;
    v[7] = (e0 - o3) >> shift;
    v[1] = (e1 + o2) >> shift;
    v[6] = (e1 - o2) >> shift;
    v[2] = (e2 + o1) >> shift;
    v[5] = (e2 - o1) >> shift;
    v[3] = (e3 + o0) >> shift;
    v[4] = (e3 - o0) >> shift;
}

/* Not 0 if some number does not fit into 15 bits. Otherwise sums of two fit into 16, as libjpeg's vector code assumes. */
static inline i32x8 beyond_14_bits(const i32x8 *v) {
    i32x8 any = {0};
    for (int i = 0; i < 8; i++) {
        any |= (v[i] + 16384) & ~32767;
    }
    return any;
}

static inline int is_zero(i32x8 v) {
    int64_t words[4];
    memcpy(words, &v, sizeof words);
    return (words[0] | words[1] | words[2] | words[3]) == 0;
}

static inline int idct_one(const Transform *block) {
    i32x8 v[8], wide;
    for (int i = 0; i < 8; i++) {
        v[i] = load_i16(block->numbers + 8 * i) * load_i16(block->quantization + 8 * i);
    }
    wide = beyond_14_bits(v);
    idct_1d(v, 11);
    wide |= beyond_14_bits(v);
    transpose_8x8(v);
    idct_1d(v, 18);
    transpose_8x8(v);
    for (int i = 0; i < 8; i++) {
        store_8_levels(block->to + (size_t)i * block->stride, v[i] + 128);
    }
    return is_zero(wide);
}

/* Returns 0 if versions of libjpeg would differ. */
static inline int idct_pair(const Transform *first, const Transform *second) { return idct_one(first) & idct_one(second); }

#endif
