/* Sixteen lanes, and transposed bytes, in the vector extensions of GCC and Clang. Intrinsics are used only for widening
 * and narrowing, for which GCC would generate scalar code.
 */

typedef uint8_t u8x16 __attribute__((vector_size(16)));
typedef uint8_t u8x32 __attribute__((vector_size(32)));
typedef int32_t i32x8 __attribute__((vector_size(32)));
typedef int32_t i32x16 __attribute__((vector_size(64)));

enum { LANES = 16 };

static inline int round_up(int value, int unit) { return (value + unit - 1) / unit * unit; }

static inline u8x16 load_u8(const uint8_t *from) {
    u8x16 bytes;
    memcpy(&bytes, from, sizeof bytes);
    return bytes;
}

static inline void store_u8(uint8_t *to, u8x16 bytes) { memcpy(to, &bytes, sizeof bytes); }

#define LOW(a, b) __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23)
#define HIGH(a, b) __builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31)

/* Four rounds of interleaving rows i and i + 8 transpose the block. */
static inline void transpose_16x16(const uint8_t *from, size_t from_stride, uint8_t *to, size_t to_stride) {
    u8x16 rows[16], next[16];
    for (int i = 0; i < 16; i++) {
        rows[i] = load_u8(from + (size_t)i * from_stride);
    }
    for (int round = 0; round < 4; round++) {
        for (int i = 0; i < 8; i++) {
            next[2 * i] = LOW(rows[i], rows[i + 8]);
            next[2 * i + 1] = HIGH(rows[i], rows[i + 8]);
        }
        memcpy(rows, next, sizeof rows);
    }
    for (int i = 0; i < 16; i++) {
        store_u8(to + (size_t)i * to_stride, rows[i]);
    }
}

#define LOW_TWO(a, b)                                                                                                           \
    __builtin_shufflevector(a, b, 0, 32, 1, 33, 2, 34, 3, 35, 4, 36, 5, 37, 6, 38, 7, 39, 16, 48, 17, 49, 18, 50, 19, 51, 20, \
                            52, 21, 53, 22, 54, 23, 55)
#define HIGH_TWO(a, b)                                                                                                          \
    __builtin_shufflevector(a, b, 8, 40, 9, 41, 10, 42, 11, 43, 12, 44, 13, 45, 14, 46, 15, 47, 24, 56, 25, 57, 26, 58, 27,   \
                            59, 28, 60, 29, 61, 30, 62, 31, 63)

/* Two blocks of 16 x 16 bytes that lie beside each other. Four rounds of interleaving rows i and i + 8 transpose them. */
static inline void transpose_16x32(const uint8_t *from, size_t from_stride, uint8_t *to, uint8_t *to_second, size_t to_stride) {
    u8x32 rows[16], next[16];
    for (int i = 0; i < 16; i++) {
        memcpy(&rows[i], from + (size_t)i * from_stride, sizeof rows[i]);
    }
    for (int round = 0; round < 4; round++) {
        for (int i = 0; i < 8; i++) {
            next[2 * i] = LOW_TWO(rows[i], rows[i + 8]);
            next[2 * i + 1] = HIGH_TWO(rows[i], rows[i + 8]);
        }
        memcpy(rows, next, sizeof rows);
    }
    for (int i = 0; i < 16; i++) {
        memcpy(to + (size_t)i * to_stride, &rows[i], 16);
        memcpy(to_second + (size_t)i * to_stride, (const uint8_t *)&rows[i] + 16, 16);
    }
}

/* Sixteen levels as 32-bit numbers. */
static inline i32x16 widen_u8(u8x16 bytes) {
#if defined(VIEWS_AVX512)
    return (i32x16)_mm512_cvtepu8_epi32((__m128i)bytes);
#elif defined(VIEWS_AVX2)
    i32x8 low = (i32x8)_mm256_cvtepu8_epi32((__m128i)bytes);
    i32x8 high = (i32x8)_mm256_cvtepu8_epi32(_mm_srli_si128((__m128i)bytes, 8));
    return __builtin_shufflevector(low, high, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
#else
    int32_t numbers[16];
    i32x16 wide;
    for (int i = 0; i < 16; i++) {
        numbers[i] = bytes[i];
    }
    memcpy(&wide, numbers, sizeof wide);
    return wide;
#endif
}

/* Clipped to 0..255. */
static inline u8x16 narrow_u8(i32x16 wide) {
#if defined(VIEWS_AVX512)
    __m512i positive = _mm512_max_epi32((__m512i)wide, _mm512_setzero_si512());
    return (u8x16)_mm512_cvtusepi32_epi8(positive);
#elif defined(VIEWS_AVX2)
    __m256i halves[2];
    memcpy(halves, &wide, sizeof halves);
    __m256i words = _mm256_permute4x64_epi64(_mm256_packs_epi32(halves[0], halves[1]), 0xD8);
    return (u8x16)_mm_packus_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
#else
    int32_t numbers[16];
    uint8_t bytes[16];
    memcpy(numbers, &wide, sizeof numbers);
    for (int i = 0; i < 16; i++) {
        bytes[i] = (uint8_t)(numbers[i] < 0 ? 0 : numbers[i] > 255 ? 255 : numbers[i]);
    }
    return load_u8(bytes);
#endif
}
