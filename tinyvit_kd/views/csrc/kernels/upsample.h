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

#if defined(VIEWS_AVX512) || defined(VIEWS_AVX2)
enum { COLOURS = 32 };

static inline __m256i widen_16(const uint8_t *from) { return _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)from)); }

/* (value * factor + 32768) >> 16, where twice the value is given. */
static inline __m256i scaled(__m256i twice, int factor) {
    __m256i product = _mm256_mulhi_epi16(twice, _mm256_set1_epi16((short)factor));
    return _mm256_srai_epi16(_mm256_add_epi16(product, _mm256_set1_epi16(1)), 1);
}

/* Sixteen pixels as red, green and blue of 16 bits: sums of 16-bit factors, and of whole differences for the rest of each. */
static inline void colour_16(const uint8_t *luma, const uint8_t *blue, const uint8_t *red, __m256i *rgb) {
    const __m256i middle = _mm256_set1_epi16(128), factors = _mm256_set1_epi32((int)(18734u << 16 | (uint16_t)-22554));
    const __m256i half = _mm256_set1_epi32(32768);
    __m256i y = widen_16(luma), cb = _mm256_sub_epi16(widen_16(blue), middle), cr = _mm256_sub_epi16(widen_16(red), middle);
    __m256i twice_cb = _mm256_add_epi16(cb, cb), twice_cr = _mm256_add_epi16(cr, cr);
    __m256i low = _mm256_madd_epi16(_mm256_unpacklo_epi16(cb, cr), factors);
    __m256i high = _mm256_madd_epi16(_mm256_unpackhi_epi16(cb, cr), factors);
    low = _mm256_srai_epi32(_mm256_add_epi32(low, half), 16);
    high = _mm256_srai_epi32(_mm256_add_epi32(high, half), 16);
    rgb[0] = _mm256_add_epi16(_mm256_add_epi16(y, cr), scaled(twice_cr, 91881 - 65536));
    rgb[1] = _mm256_add_epi16(_mm256_sub_epi16(y, cr), _mm256_packs_epi32(low, high));
    rgb[2] = _mm256_add_epi16(_mm256_add_epi16(y, twice_cb), scaled(twice_cb, 116130 - 131072));
}

static inline void colour_pixels(const uint8_t *luma, const uint8_t *blue, const uint8_t *red, uint8_t *const *out, int at) {
    __m256i left[3], right[3];
    colour_16(luma + at, blue + at, red + at, left);
    colour_16(luma + at + 16, blue + at + 16, red + at + 16, right);
    for (int i = 0; i < 3; i++) {
        __m256i levels = _mm256_permute4x64_epi64(_mm256_packus_epi16(left[i], right[i]), 0xD8);
        _mm256_storeu_si256((__m256i *)(out[i] + at), levels);
    }
}
#else
enum { COLOURS = 1 };

static inline uint8_t level(int value) { return (uint8_t)(value < 0 ? 0 : value > 255 ? 255 : value); }

static inline void colour_pixels(const uint8_t *luma, const uint8_t *blue, const uint8_t *red, uint8_t *const *out, int at) {
    int y = luma[at], cb = blue[at] - 128, cr = red[at] - 128;
    out[0][at] = level(y + ((91881 * cr + 32768) >> 16));
    out[1][at] = level(y + ((-22554 * cb - 46802 * cr + 32768) >> 16));
    out[2][at] = level(y + ((116130 * cb + 32768) >> 16));
}
#endif

/* All buffers have room for a whole number of COLOURS pixels. */
static void colour_row(const uint8_t *luma, const uint8_t *blue, const uint8_t *red, int count, uint8_t *const *out) {
    for (int i = 0; i < count; i += COLOURS) {
        colour_pixels(luma, blue, red, out, i);
    }
}
