/* Sequential JPEG files with one scan. Only the blocks that a region needs are transformed, and rows below it are not
 * read. The arithmetic is libjpeg's, with its accurate inverse DCT and its triangle filter for upsampling.
 */

#include "../pixels.h"
#include "../stream.h"

typedef struct {
    uint8_t *rows; /* samples of all blocks that are transformed */
    size_t stride;
    int left, top; /* position of the first sample in the whole component */
    int width, height; /* of the component in the image */
} Samples;

typedef struct {
    const Header *header;
    Stream stream;
    Bits bits;
    Huffman tables[2][4];
    Samples samples[3];
    int across, down;       /* the largest sampling factors */
    int columns, rows;      /* of MCUs */
    int left, top, right, bottom; /* MCUs that are transformed; those below are not read */
    int last[3];            /* latest DC coefficients */
    int blocks[3], wide[3]; /* blocks of each component in an MCU, and in a row of an MCU */
} Baseline;

static int ceil_div(int value, int by) { return (value + by - 1) / by; }

/* Whether the colour space is one that libjpeg does not have to guess. */
static int space_is_known(const Header *header) {
    const Component *own = header->component;
    if (header->components == 1) {
        return own[0].across == 1 && own[0].down == 1;
    }
    int numbered = own[0].id == 1 && own[1].id == 2 && own[2].id == 3;
    int usual = own[0].across >= 1 && own[0].across <= 2 && own[0].down >= 1 && own[0].down <= 2;
    for (int i = 1; i < 3; i++) {
        usual = usual && own[i].across == 1 && own[i].down == 1;
    }
    return usual && numbered && (header->jfif || header->adobe == -1 || header->adobe == 1);
}

static int tables_new(Baseline *jpeg) {
    const Header *header = jpeg->header;
    const Tables *tables = &header->tables;
    int made[2] = {0, 0};
    for (int i = 0; i < header->components; i++) {
        const Component *own = &header->component[i];
        int numbers[2] = {own->dc, own->ac};
        if (own->quantization > 3 || !(tables->known_quantizations >> own->quantization & 1)) {
            return 0;
        }
        for (int kind = 0; kind < 2; kind++) {
            int number = numbers[kind];
            if (tables->huffman[kind][number] == NULL) {
                return 0;
            }
            if (!(made[kind] >> number & 1) && !huffman_new(&jpeg->tables[kind][number], tables->huffman[kind][number], kind == 0)) {
                return 0;
            }
            made[kind] |= 1 << number;
        }
    }
    return 1;
}

/* Room for the blocks around the region, plus two pixels on each side, because upsampling uses neighbours. */
static int samples_new(Baseline *jpeg, const Region *wanted) {
    const Header *header = jpeg->header;
    int width = 8 * jpeg->across, height = 8 * jpeg->down;
    jpeg->left = (wanted->left > 2 ? wanted->left - 2 : 0) / width;
    jpeg->top = (wanted->top > 2 ? wanted->top - 2 : 0) / height;
    jpeg->right = ceil_div(wanted->left + wanted->width + 2, width);
    jpeg->bottom = ceil_div(wanted->top + wanted->height + 2, height);
    jpeg->right = jpeg->right < jpeg->columns ? jpeg->right : jpeg->columns;
    jpeg->bottom = jpeg->bottom < jpeg->rows ? jpeg->bottom : jpeg->rows;
    for (int i = 0; i < header->components; i++) {
        const Component *own = &header->component[i];
        Samples *samples = &jpeg->samples[i];
        samples->left = jpeg->left * own->across * 8;
        samples->top = jpeg->top * own->down * 8;
        samples->width = ceil_div(header->width * own->across, jpeg->across);
        samples->height = ceil_div(header->height * own->down, jpeg->down);
        samples->stride = (size_t)(jpeg->right - jpeg->left) * own->across * 8;
        samples->rows = malloc(samples->stride * (size_t)(jpeg->bottom - jpeg->top) * own->down * 8 + PIXELS_SLACK);
        if (samples->rows == NULL) {
            return 0;
        }
    }
    return 1;
}

enum { MOST_BLOCKS = 6 }; /* in an MCU */

/* A block whose coefficients have been read, and the place of its samples. */
typedef struct {
    int last;  /* index of its last coefficient, or -1 */
    int first; /* DC, dequantised */
    uint32_t wide;
    uint8_t *to;
    size_t stride;
} Pending;

typedef struct {
    int16_t numbers[MOST_BLOCKS][64]; /* all 0 except between reading and transforming */
    Pending pending[MOST_BLOCKS];
} Mcu;

/* Transform a block to samples; its coefficients are 0 again afterwards. */
static inline int transform(const Pending *pending, int16_t *numbers) {
    int done;
    if (pending->last == 0) {
        return idct_level(pending->first, pending->to, pending->stride);
    }
    if (pending->last < 0 || pending->wide > 32767 || pending->first > 16383 || pending->first < -16384) {
        return 0;
    }
    numbers[0] = (int16_t)pending->first;
    done = idct_block(numbers, pending->to, pending->stride);
    memset(numbers, 0, 64 * sizeof *numbers);
    return done;
}

/* Read a block up to its last coefficient. */
static inline int read_block(Baseline *jpeg, const Component *own, int *dc, int16_t *numbers, Pending *pending) {
    const Huffman *ac = &jpeg->tables[1][own->ac];
    Block block = {numbers, jpeg->header->tables.quantization[own->quantization], 0};
    Bits bits = jpeg->bits; /* a copy, which stays in registers */
    int difference, found = read_dc(&jpeg->tables[0][own->dc], &bits, &difference);
    *dc += difference;
    if (!found || *dc > 4095 || *dc < -4095) {
        return 0;
    }
    pending->last = read_ac(ac, &bits, &block);
    pending->first = *dc * block.quantization[0];
    pending->wide = block.wide;
    jpeg->bits = bits;
    return pending->last >= 0;
}

static int skip_mcu(Baseline *jpeg) {
    Bits bits = jpeg->bits;
    for (int i = 0; i < jpeg->header->components; i++) {
        const Component *own = &jpeg->header->component[i];
        for (int k = 0; k < jpeg->blocks[i]; k++) {
            int difference, found = read_dc(&jpeg->tables[0][own->dc], &bits, &difference);
            jpeg->last[i] += difference;
            if (!found || jpeg->last[i] > 4095 || jpeg->last[i] < -4095 || read_ac(&jpeg->tables[1][own->ac], &bits, NULL) < 0) {
                return 0;
            }
        }
    }
    jpeg->bits = bits;
    return 1;
}

/* All blocks are read before the first is transformed; else the transform would wait for the latest store. */
static int read_mcu(Baseline *jpeg, int column, int row, Mcu *mcu) {
    int count = 0;
    for (int i = 0; i < jpeg->header->components; i++) {
        const Component *own = &jpeg->header->component[i];
        const Samples *samples = &jpeg->samples[i];
        uint8_t *to = samples->rows + (size_t)(row - jpeg->top) * jpeg->blocks[i] / jpeg->wide[i] * 8 * samples->stride +
                      (size_t)(column - jpeg->left) * jpeg->wide[i] * 8;
        for (int k = 0; k < jpeg->blocks[i]; k++, count++) {
            Pending *pending = &mcu->pending[count];
            pending->to = to + (size_t)(k / jpeg->wide[i]) * 8 * samples->stride + (size_t)(k % jpeg->wide[i]) * 8;
            pending->stride = samples->stride;
            if (!read_block(jpeg, own, &jpeg->last[i], mcu->numbers[count], pending)) {
                return 0;
            }
        }
    }
    for (int k = 0; k < count; k++) {
        if (!transform(&mcu->pending[k], mcu->numbers[k])) {
            return 0;
        }
    }
    return 1;
}

/* Reads the part of a restart interval down to the region's last row; skips intervals that end above the region. */
static int read_segment_blocks(Baseline *jpeg, int segment, int begin, int end) {
    Mcu mcu = {0};
    const uint8_t *start = jpeg->stream.bytes + jpeg->stream.segments[segment];
    size_t length = jpeg->stream.segments[segment + 1] - jpeg->stream.segments[segment];
    int stop = jpeg->bottom * jpeg->columns < end ? jpeg->bottom * jpeg->columns : end;
    int column = begin % jpeg->columns, row = begin / jpeg->columns;
    if (end <= jpeg->top * jpeg->columns || begin >= stop) {
        return 1;
    }
    jpeg->bits = (Bits){start, 0, 0};
    memset(jpeg->last, 0, sizeof jpeg->last);
    for (int i = begin; i < stop; i++) {
        int needed = row >= jpeg->top && column >= jpeg->left && column < jpeg->right;
        if (!(needed ? read_mcu(jpeg, column, row, &mcu) : skip_mcu(jpeg)) || (size_t)(jpeg->bits.next - start) > length + 8) {
            return 0;
        }
        if (++column == jpeg->columns) {
            column = 0;
            row++;
        }
    }
    ptrdiff_t left = (ptrdiff_t)(8 * length) - (8 * (jpeg->bits.next - start) - jpeg->bits.count);
    return left >= 0 && (stop < end || left < 8);
}

static int read_blocks(Baseline *jpeg) {
    int total = jpeg->columns * jpeg->rows, interval = jpeg->header->restarts > 0 ? jpeg->header->restarts : total;
    for (int i = 0; i < jpeg->stream.count; i++) {
        int begin = i * interval, end = begin + interval < total ? begin + interval : total;
        if (!read_segment_blocks(jpeg, i, begin, end)) {
            return 0;
        }
    }
    return 1;
}

/* Buffers for a row of a component at the image's resolution, doubled in width by the triangle filter if needed. */
typedef struct {
    int16_t *sums; /* of two rows, 3 to 1, with one more entry on each side */
    uint8_t *row;
} Wide;

static const uint8_t *samples_row(const Samples *samples, int y) {
    int inside = clamp(y, 0, samples->height - 1);
    return samples->rows + (size_t)(inside - samples->top) * samples->stride;
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
static void chroma_row(const Baseline *jpeg, const Samples *samples, int y, int left, int count, const Wide *wide) {
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

static int colour_rows(const Baseline *jpeg, const Region *region, Pixels *pixels) {
    const Samples *samples = jpeg->samples;
    int left = region->left / jpeg->across, end = ceil_div(region->left + region->width, jpeg->across), count = end - left;
    size_t room = 2 * (size_t)count + 64;
    uint8_t *memory = malloc(2 * room + sizeof(int16_t) * room);
    if (memory == NULL) {
        return 0;
    }
    Wide wide[2] = {{(int16_t *)memory, memory + sizeof(int16_t) * room}, {(int16_t *)memory, memory + (sizeof(int16_t) + 1) * room}};
    for (int y = 0; y < region->height; y++) {
        uint8_t *out[3];
        const uint8_t *luma = samples_row(&samples[0], region->top + y) - samples[0].left + region->left;
        int skip = region->left - left * jpeg->across;
        for (int i = 0; i < 3; i++) {
            out[i] = pixels->planes[i] + (size_t)y * pixels->stride;
        }
        for (int i = 0; i < 2; i++) {
            chroma_row(jpeg, &samples[i + 1], region->top + y, left, count, &wide[i]);
        }
        colour_row(luma, wide[0].row + skip, wide[1].row + skip, region->width, out);
    }
    free(memory);
    return 1;
}

/* Grey images, whose three planes are one. */
static void grey_rows(const Baseline *jpeg, const Region *region, Pixels *pixels) {
    for (int y = 0; y < region->height; y++) {
        const uint8_t *row = samples_row(&jpeg->samples[0], region->top + y) - jpeg->samples[0].left;
        memcpy(pixels->planes[0] + (size_t)y * pixels->stride, row + region->left, (size_t)region->width);
    }
}

static int pixels_new(const Baseline *jpeg, const Region *region, Pixels *pixels) {
    int planes = jpeg->header->components;
    size_t plane = (size_t)region->width * region->height;
    pixels->region = *region;
    pixels->stride = (size_t)region->width;
    pixels->planes[0] = malloc(plane * planes + PIXELS_SLACK);
    for (int i = 1; i < 3 && pixels->planes[0] != NULL; i++) {
        pixels->planes[i] = pixels->planes[0] + (planes == 3 ? i * plane : 0);
    }
    return pixels->planes[0] != NULL;
}

static int decode_all(Baseline *jpeg, const Region *wanted, Pixels *pixels) {
    if (!samples_new(jpeg, wanted) || !read_blocks(jpeg) || !pixels_new(jpeg, wanted, pixels)) {
        return 0;
    }
    if (jpeg->header->components == 1) {
        grey_rows(jpeg, wanted, pixels);
        return 1;
    }
    return colour_rows(jpeg, wanted, pixels);
}

static int decode_baseline(const uint8_t *data, size_t size, const Header *header, Region wanted, Pixels *pixels) {
    Baseline *jpeg;
    int done = 0;
    if (!header->plain_scan || !space_is_known(header)) {
        return 0;
    }
    jpeg = malloc(sizeof *jpeg);
    if (jpeg == NULL) {
        return 0;
    }
    jpeg->header = header;
    jpeg->across = header->components == 1 ? 1 : header->component[0].across;
    jpeg->down = header->components == 1 ? 1 : header->component[0].down;
    jpeg->columns = ceil_div(header->width, 8 * jpeg->across);
    jpeg->rows = ceil_div(header->height, 8 * jpeg->down);
    for (int i = 0; i < header->components; i++) {
        jpeg->wide[i] = header->component[i].across;
        jpeg->blocks[i] = header->component[i].across * header->component[i].down;
    }
    memset(jpeg->samples, 0, sizeof jpeg->samples);
    memset(pixels, 0, sizeof *pixels);
    int mcus = jpeg->columns * jpeg->rows;
    if (tables_new(jpeg) &&
        stream_open(data, size, header, header->restarts > 0 ? ceil_div(mcus, header->restarts) : 1, &jpeg->stream)) {
        done = decode_all(jpeg, &wanted, pixels);
        stream_close(&jpeg->stream);
    }
    for (int i = 0; i < 3; i++) {
        free(jpeg->samples[i].rows);
    }
    free(jpeg);
    if (!done) {
        free(pixels->planes[0]);
        pixels->planes[0] = NULL;
    }
    return done;
}
