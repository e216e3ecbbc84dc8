/* libjpeg's accurate integer inverse DCT in vectors of 16-bit numbers, two blocks at a time. */

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

/* What even and odd inputs add to the outputs. */
typedef struct {
    Sums even[4], odd[4];
} Halves;

static inline void combine(const Halves *halves, __m256i *v, int shift) {
    for (int i = 0; i < 4; i++) {
        v[i] = shifted(plus(halves->even[i], halves->odd[3 - i]), shift);
        v[7 - i] = shifted(minus(halves->even[i], halves->odd[3 - i]), shift);
    }
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
    combine(&(Halves){{e0, e1, e2, e3}, {o0, o1, o2, o3}}, v, shift);
}

/* The first pass where the last four rows are 0. */
static inline void idct_pair_of_four(__m256i *v) {
    const __m256i rounding = _mm256_set1_epi32(1 << 10);
    const Sums half = {rounding, rounding};
    const Halves halves = {
        {plus(half, sums_of(v[0], v[2], 8192, 4433 + 6270)), plus(half, sums_of(v[0], v[2], 8192, 4433)),
         plus(half, sums_of(v[0], v[2], 8192, -4433)), plus(half, sums_of(v[0], v[2], 8192, -4433 - 6270))},
        {sums_of(v[1], v[3], 9633 - 7373, 9633 - 16069), sums_of(v[1], v[3], 9633 - 3196, 9633 - 20995),
         sums_of(v[1], v[3], 9633, 9633 - 16069 + 25172 - 20995), sums_of(v[1], v[3], 9633 - 3196 + 12299 - 7373, 9633)},
    };
    combine(&halves, v, 11);
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

static inline int are_last_rows_zero(const Transform *first, const Transform *second) {
    __m256i any = _mm256_setzero_si256();
    for (int i = 4; i < 8; i++) {
        any = _mm256_or_si256(any, load_two(first->numbers + 8 * i, second->numbers + 8 * i));
    }
    return _mm256_testz_si256(any, any);
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
    for (int i = 0; i < 4; i++) {
        v[i] = dequantised(first, second, i, &beyond);
    }
    if (are_last_rows_zero(first, second)) {
        idct_pair_of_four(v);
    } else {
        for (int i = 4; i < 8; i++) {
            v[i] = dequantised(first, second, i, &beyond);
        }
        idct_pair_1d(v, 11);
    }
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

#endif
