/* libjpeg's accurate integer inverse DCT ("islow"): with vectors of 16-bit numbers, two blocks at a time; else one block, of
 * which eight columns at a time.
 */

/* A block of coefficients, what they are multiplied by, and the place of its 8 x 8 levels. */
typedef struct {
    const int16_t *numbers, *quantization;
    uint8_t *to;
    size_t stride;
} Transform;

#if defined(VIEWS_AVX512) || defined(VIEWS_AVX2)


/* a * x + b * y of 16-bit numbers: 32-bit sums, those of each half's first four numbers and those of its last four. */
typedef struct {
    __m256i low, high;
} Sums;

static inline Sums sums_of(__m256i x, __m256i y, int a, int b) {
    const __m256i factors = _mm256_set1_epi32((int)((uint32_t)(uint16_t)b << 16 | (uint16_t)a));
    return (Sums){_mm256_madd_epi16(_mm256_unpacklo_epi16(x, y), factors), _mm256_madd_epi16(_mm256_unpackhi_epi16(x, y), factors)};
}

static inline Sums plus(Sums a, Sums b) { return (Sums){_mm256_add_epi32(a.low, b.low), _mm256_add_epi32(a.high, b.high)}; }

static inline Sums minus(Sums a, Sums b) { return (Sums){_mm256_sub_epi32(a.low, b.low), _mm256_sub_epi32(a.high, b.high)}; }

static inline __m256i shifted(Sums sums, int shift) {
    return _mm256_packs_epi32(_mm256_srai_epi32(sums.low, shift), _mm256_srai_epi32(sums.high, shift));
}

/* One dimension, in place. Constants have 13 fractional bits; the results are rounded and shifted down by `shift`. Sums of
 * two inputs must fit into 16 bits. */
static inline void idct_pair_1d(__m256i *v, int shift) {
    const __m256i rounding = _mm256_set1_epi32(1 << (shift - 1));
    const Sums half = {rounding, rounding};
    Sums t0 = plus(sums_of(v[0], v[4], 8192, 8192), half), t1 = plus(sums_of(v[0], v[4], 8192, -8192), half);
    Sums t2 = sums_of(v[2], v[6], 4433, 4433 - 15137), t3 = sums_of(v[2], v[6], 4433 + 6270, 4433);
    Sums e0 = plus(t0, t3), e3 = minus(t0, t3), e1 = plus(t1, t2), e2 = minus(t1, t2);
    __m256i s3 = _mm256_add_epi16(v[7], v[3]), s4 = _mm256_add_epi16(v[5], v[1]);
    Sums z3 = sums_of(s3, s4, 9633 - 16069, 9633), z4 = sums_of(s3, s4, 9633, 9633 - 3196);
    Sums o0 = plus(z3, sums_of(v[7], v[1], 2446 - 7373, -7373)), o3 = plus(z4, sums_of(v[7], v[1], -7373, 12299 - 7373));
    Sums o1 = plus(z4, sums_of(v[5], v[3], 16819 - 20995, -20995)), o2 = plus(z3, sums_of(v[5], v[3], -20995, 25172 - 20995));
    v[0] = shifted(plus(e0, o3), shift);
    v[7] = shifted(minus(e0, o3), shift);
    v[1] = shifted(plus(e1, o2), shift);
    v[6] = shifted(minus(e1, o2), shift);
    v[2] = shifted(plus(e2, o1), shift);
    v[5] = shifted(minus(e2, o1), shift);
    v[3] = shifted(plus(e3, o0), shift);
    v[4] = shifted(minus(e3, o0), shift);
}

/* Of each block. */
static inline void transpose_pair(__m256i *v) {
    __m256i a[8], b[8];
    for (int i = 0; i < 4; i++) { /* 16-bit numbers of rows i and i + 4 */
        a[2 * i] = _mm256_unpacklo_epi16(v[i], v[i + 4]);
        a[2 * i + 1] = _mm256_unpackhi_epi16(v[i], v[i + 4]);
    }
    for (int i = 0; i < 4; i++) {
        b[2 * i] = _mm256_unpacklo_epi16(a[i], a[i + 4]);
        b[2 * i + 1] = _mm256_unpackhi_epi16(a[i], a[i + 4]);
    }
    for (int i = 0; i < 4; i++) {
        v[2 * i] = _mm256_unpacklo_epi16(b[i], b[i + 4]);
        v[2 * i + 1] = _mm256_unpackhi_epi16(b[i], b[i + 4]);
    }
}

/* Has the highest bit of a 16-bit number where that does not fit into 15 bits. */
static inline __m256i beyond_15_bits(__m256i v) { return _mm256_add_epi16(v, _mm256_set1_epi16(16384)); }

/* Whether one of these bits is set in some 16-bit number. */
static inline int has_bits(__m256i v, int bits) { return !_mm256_testz_si256(v, _mm256_set1_epi16((short)bits)); }

static inline __m256i load_two(const int16_t *first, const int16_t *second) {
    __m256i low = _mm256_castsi128_si256(_mm_loadu_si128((const __m128i *)first));
    return _mm256_inserti128_si256(low, _mm_loadu_si128((const __m128i *)second), 1);
}

/* Row i of two blocks. Something but the lowest bits of *beyond is set where a product does not fit into 15 bits: numbers
 * have at most 13, and a product of 15 bits without its lowest 14 is 0 or -1. */
static inline __m256i dequantised(const Transform *first, const Transform *second, int i, __m256i *beyond) {
    __m256i numbers = load_two(first->numbers + 8 * i, second->numbers + 8 * i);
    __m256i factors = load_two(first->quantization + 8 * i, second->quantization + 8 * i);
    __m256i high = _mm256_mulhi_epi16(_mm256_slli_epi16(numbers, 2), factors);
    *beyond = _mm256_or_si256(*beyond, _mm256_add_epi16(high, _mm256_set1_epi16(1)));
    return _mm256_mullo_epi16(numbers, factors);
}

static inline void store_two_rows(const Transform *block, int row, __m128i levels) {
    _mm_storel_epi64((__m128i *)(block->to + (size_t)row * block->stride), levels);
    _mm_storeh_pd((double *)(block->to + (size_t)(row + 1) * block->stride), _mm_castsi128_pd(levels));
}

/* From columns of 16-bit numbers to rows of levels, two in each half of a vector. */
static inline void levels_of(const __m256i *columns, __m256i *rows) {
    /* Bytes of columns 2i and 2i + 1 in turn; then four columns; then all of them. */
    const __m256i turns = _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 8, 1, 9, 2, 10, 3, 11, 4, 12, 5, 13, 6, 14, 7, 15));
    __m256i two[4], four[4];
    for (int i = 0; i < 4; i++) {
        __m256i packed = _mm256_packs_epi16(columns[2 * i], columns[2 * i + 1]);
        two[i] = _mm256_shuffle_epi8(_mm256_xor_si256(packed, _mm256_set1_epi8((char)128)), turns);
    }
    for (int i = 0; i < 2; i++) {
        four[i] = _mm256_unpacklo_epi16(two[2 * i], two[2 * i + 1]);
        four[2 + i] = _mm256_unpackhi_epi16(two[2 * i], two[2 * i + 1]);
    }
    for (int i = 0; i < 2; i++) {
        rows[2 * i] = _mm256_unpacklo_epi32(four[2 * i], four[2 * i + 1]);
        rows[2 * i + 1] = _mm256_unpackhi_epi32(four[2 * i], four[2 * i + 1]);
    }
}

/* Returns 0 if versions of libjpeg would differ: if a number that is transformed does not fit into 15 bits. Sums of two that
 * do fit into 16, as its vector code assumes. */
static inline int idct_pair(const Transform *first, const Transform *second) {
    __m256i v[8], rows[4], beyond = _mm256_setzero_si256(), beyond_again = beyond;
    for (int i = 0; i < 8; i++) {
        v[i] = dequantised(first, second, i, &beyond);
    }
    idct_pair_1d(v, 11);
    for (int i = 0; i < 8; i++) {
        beyond_again = _mm256_or_si256(beyond_again, beyond_15_bits(v[i]));
    }
    transpose_pair(v);
    idct_pair_1d(v, 18);
    levels_of(v, rows);
    for (int i = 0; i < 4; i++) {
        store_two_rows(first, 2 * i, _mm256_castsi256_si128(rows[i]));
        store_two_rows(second, 2 * i, _mm256_extracti128_si256(rows[i], 1));
    }
    return !has_bits(beyond, ~1) && !has_bits(beyond_again, 1 << 15);
}

#else

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
