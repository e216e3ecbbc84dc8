/* Sixteen lanes, and transposing bytes, in the vector extensions of GCC and Clang. */

typedef uint8_t u8x16 __attribute__((vector_size(16)));
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

/* Interleaving rows i and i + 8 transposes after four rounds. */
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
