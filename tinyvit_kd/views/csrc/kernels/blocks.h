/* Blocks of sequential JPEG files with one scan, one row of MCUs after another. Only those that a region needs are
 * transformed.
 */

#include "../pixels.h"
#include "../stream.h"

/* A component's samples. Two rows of MCUs are kept, which take turns. */
typedef struct {
    uint8_t *rows;
    size_t stride;
    int left;          /* position of the first sample in the whole component */
    int width, height; /* of the component in the image */
    int turn;          /* row y is at rows + (y & turn) * stride */
} Samples;

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

typedef struct {
    const Header *header;
    Stream stream;
    Bits bits;
    Huffman tables[2][4];
    Samples samples[3];
    int across, down;       /* the largest sampling factors */
    int columns, rows;      /* of MCUs */
    int left, top, right;   /* MCUs that are transformed */
    int interval, segment, at, end; /* MCUs in a restart interval; the interval that is read, its next MCU, its end */
    int last[3];            /* latest DC coefficients */
    int blocks[3], wide[3]; /* blocks of each component in an MCU, and in a row of an MCU */
    Mcu mcu;
} Blocks;

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

static int tables_new(Blocks *jpeg) {
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
static int samples_new(Blocks *jpeg, const Region *wanted) {
    const Header *header = jpeg->header;
    int width = 8 * jpeg->across;
    jpeg->left = (wanted->left > 2 ? wanted->left - 2 : 0) / width;
    jpeg->top = (wanted->top > 2 ? wanted->top - 2 : 0) / (8 * jpeg->down);
    jpeg->right = ceil_div(wanted->left + wanted->width + 2, width);
    jpeg->right = jpeg->right < jpeg->columns ? jpeg->right : jpeg->columns;
    for (int i = 0; i < header->components; i++) {
        const Component *own = &header->component[i];
        Samples *samples = &jpeg->samples[i];
        samples->left = jpeg->left * own->across * 8;
        samples->width = ceil_div(header->width * own->across, jpeg->across);
        samples->height = ceil_div(header->height * own->down, jpeg->down);
        samples->turn = 16 * own->down - 1;
        samples->stride = (size_t)(jpeg->right - jpeg->left) * own->across * 8;
        samples->rows = malloc(samples->stride * (size_t)own->down * 16 + PIXELS_SLACK);
        if (samples->rows == NULL) {
            return 0;
        }
    }
    return 1;
}

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
static inline int read_block(Blocks *jpeg, const Component *own, int *dc, int16_t *numbers, Pending *pending) {
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

static int skip_mcu(Blocks *jpeg) {
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
static int read_mcu(Blocks *jpeg, int column, int row) {
    Mcu *mcu = &jpeg->mcu;
    int count = 0;
    for (int i = 0; i < jpeg->header->components; i++) {
        const Component *own = &jpeg->header->component[i];
        const Samples *samples = &jpeg->samples[i];
        uint8_t *to = samples->rows + (size_t)(row * own->down * 8 & samples->turn) * samples->stride +
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

static void start_segment(Blocks *jpeg, int segment) {
    int total = jpeg->columns * jpeg->rows;
    jpeg->segment = segment;
    jpeg->at = segment * jpeg->interval;
    jpeg->end = jpeg->interval < total - jpeg->at ? jpeg->at + jpeg->interval : total;
    jpeg->bits = (Bits){jpeg->stream.bytes + jpeg->stream.segments[segment], 0, 0};
    memset(jpeg->last, 0, sizeof jpeg->last);
}

/* Reads MCUs up to number `stop`, which are all in one restart interval. */
static int read_mcus(Blocks *jpeg, int stop) {
    const uint8_t *start = jpeg->stream.bytes + jpeg->stream.segments[jpeg->segment];
    size_t length = jpeg->stream.segments[jpeg->segment + 1] - jpeg->stream.segments[jpeg->segment];
    int column = jpeg->at % jpeg->columns, row = jpeg->at / jpeg->columns;
    for (; jpeg->at < stop; jpeg->at++) {
        int needed = row >= jpeg->top && column >= jpeg->left && column < jpeg->right;
        if (!(needed ? read_mcu(jpeg, column, row) : skip_mcu(jpeg)) || (size_t)(jpeg->bits.next - start) > length + 8) {
            return 0;
        }
        if (++column == jpeg->columns) {
            column = 0;
            row++;
        }
    }
    ptrdiff_t left = (ptrdiff_t)(8 * length) - (8 * (jpeg->bits.next - start) - jpeg->bits.count);
    return left >= 0 && (stop < jpeg->end || left < 8);
}

/* Reads rows of MCUs up to number `row`. */
static int read_row(Blocks *jpeg, int row) {
    int stop = (row + 1) * jpeg->columns;
    while (jpeg->at < stop) {
        if (jpeg->at == jpeg->end) {
            start_segment(jpeg, jpeg->segment + 1);
        }
        if (!read_mcus(jpeg, stop < jpeg->end ? stop : jpeg->end)) {
            return 0;
        }
    }
    return 1;
}

static void blocks_close(Blocks *jpeg) {
    stream_close(&jpeg->stream);
    for (int i = 0; i < 3; i++) {
        free(jpeg->samples[i].rows);
    }
}

/* Ready to read the blocks of a region; the restart intervals above it are passed over. Returns 0 if it is another kind of
 * file; to be closed in either case. */
static int blocks_open(Blocks *jpeg, const uint8_t *data, size_t size, const Header *header, const Region *wanted) {
    memset(&jpeg->stream, 0, sizeof jpeg->stream);
    memset(jpeg->samples, 0, sizeof jpeg->samples);
    memset(&jpeg->mcu, 0, sizeof jpeg->mcu);
    if (!header->plain_scan || !space_is_known(header)) {
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
    int mcus = jpeg->columns * jpeg->rows;
    jpeg->interval = header->restarts > 0 ? header->restarts : mcus;
    if (!tables_new(jpeg) || !stream_open(data, size, header, ceil_div(mcus, jpeg->interval), &jpeg->stream) ||
        !samples_new(jpeg, wanted)) {
        return 0;
    }
    start_segment(jpeg, jpeg->top * jpeg->columns / jpeg->interval);
    return 1;
}
