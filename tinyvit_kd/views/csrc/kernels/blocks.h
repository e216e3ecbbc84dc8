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

enum { MOST_BLOCKS = 6, ENOUGH = 6, MOST_WAITING = ENOUGH - 1 + MOST_BLOCKS }; /* in an MCU; until they are transformed */

/* How a block of an MCU is read, and where its samples go. */
typedef struct {
    int component;
    const Huffman *dc, *ac;
    const int16_t *quantization;
    uint8_t *to; /* in the first column of the first row of MCUs */
    size_t stride, next_column, next_row;
} Plan;

/* Blocks that have been read. */
typedef struct {
    int16_t numbers[MOST_WAITING][64]; /* all 0 except between reading and transforming */
    Transform blocks[MOST_WAITING];
    int count;
} Waiting;

typedef struct {
    const Header *header;
    Stream stream;
    Bits bits;
    Huffman tables[2][4];
    int16_t quantization[3][64]; /* of each component */
    Samples samples[3];
    int across, down;       /* the largest sampling factors */
    int columns, rows;      /* of MCUs */
    int left, top, right;   /* MCUs that are transformed */
    int interval, segment, at, end; /* MCUs in a restart interval; the interval that is read, its next MCU, its end */
    int last[3];            /* latest DC coefficients */
    Plan plans[MOST_BLOCKS];
    int blocks;             /* in an MCU */
    Waiting waiting;
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
        samples->stride = (size_t)(jpeg->right - jpeg->left) * own->across * 8 + 64;
        samples->rows = malloc(samples->stride * (size_t)own->down * 16 + PIXELS_SLACK);
        if (samples->rows == NULL) {
            return 0;
        }
    }
    return 1;
}

/* Factors above 32767 make any number too wide, and so does 32767. */
static void quantization_new(int16_t *to, const uint16_t *from) {
    for (int i = 0; i < 64; i++) {
        to[i] = (int16_t)(from[i] < 32767 ? from[i] : 32767);
    }
}

static void plan_blocks(Blocks *jpeg) {
    jpeg->blocks = 0;
    for (int i = 0; i < jpeg->header->components; i++) {
        const Component *own = &jpeg->header->component[i];
        const Samples *samples = &jpeg->samples[i];
        quantization_new(jpeg->quantization[i], jpeg->header->tables.quantization[own->quantization]);
        for (int k = 0; k < own->across * own->down; k++) {
            uint8_t *to = samples->rows + (size_t)(k / own->across) * 8 * samples->stride + (size_t)(k % own->across) * 8;
            jpeg->plans[jpeg->blocks++] = (Plan){i, &jpeg->tables[0][own->dc], &jpeg->tables[1][own->ac], jpeg->quantization[i], to,
                                                 samples->stride, (size_t)own->across * 8, (size_t)own->down * 8 * samples->stride};
        }
    }
}

/* Transform the blocks that wait, two at a time. All coefficients are 0 again afterwards. Returns 0 for wild numbers. */
static int transform_waiting(Waiting *waiting) {
    int done = 1;
    for (int k = 0; k < waiting->count; k += 2) {
        const Transform *first = &waiting->blocks[k], *second = k + 1 < waiting->count ? first + 1 : first;
        done &= idct_pair(first, second);
    }
    memset(waiting->numbers, 0, sizeof *waiting->numbers * (size_t)waiting->count);
    waiting->count = 0;
    return done;
}

/* Read a DC coefficient into the latest one of its component. */
static inline int read_level(const Plan *plan, Bits *bits, int *last) {
    int difference, found = read_dc(plan->dc, bits, &difference);
    *last += difference;
    return found && *last <= 4095 && *last >= -4095;
}

/* Read a block up to its last coefficient. If it has but one, its levels are written; else it waits. */
static inline int read_block(const Plan *plan, Bits *bits, int *last, uint8_t *to, Waiting *waiting) {
    int16_t *numbers = waiting->numbers[waiting->count];
    int index;
    if (!read_level(plan, bits, last) || (index = read_ac(plan->ac, bits, numbers)) < 0) {
        return 0;
    }
    if (index == 0) {
        return idct_level(*last * plan->quantization[0], to, plan->stride);
    }
    numbers[0] = (int16_t)*last;
    waiting->blocks[waiting->count++] = (Transform){numbers, plan->quantization, to, plan->stride};
    return 1;
}

static int skip_mcu(Blocks *jpeg) {
    Bits bits = jpeg->bits; /* a copy, which stays in registers */
    for (const Plan *plan = jpeg->plans; plan < jpeg->plans + jpeg->blocks; plan++) {
        if (!read_level(plan, &bits, &jpeg->last[plan->component]) || read_ac(plan->ac, &bits, NULL) < 0) {
            return 0;
        }
    }
    jpeg->bits = bits;
    return 1;
}

/* Several blocks are read before the first is transformed; else the transform would wait for the latest store. */
static int read_mcu(Blocks *jpeg, int column, int row) {
    Bits bits = jpeg->bits;
    for (const Plan *plan = jpeg->plans; plan < jpeg->plans + jpeg->blocks; plan++) {
        uint8_t *to = plan->to + (size_t)(row & 1) * plan->next_row + (size_t)(column - jpeg->left) * plan->next_column;
        if (!read_block(plan, &bits, &jpeg->last[plan->component], to, &jpeg->waiting)) {
            return 0;
        }
    }
    jpeg->bits = bits;
    return jpeg->waiting.count < ENOUGH || transform_waiting(&jpeg->waiting);
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
    return left >= 0 && (stop < jpeg->end || left < 8) && transform_waiting(&jpeg->waiting);
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
    memset(&jpeg->waiting, 0, sizeof jpeg->waiting);
    if (!header->plain_scan || !space_is_known(header)) {
        return 0;
    }
    jpeg->header = header;
    jpeg->across = header->components == 1 ? 1 : header->component[0].across;
    jpeg->down = header->components == 1 ? 1 : header->component[0].down;
    jpeg->columns = ceil_div(header->width, 8 * jpeg->across);
    jpeg->rows = ceil_div(header->height, 8 * jpeg->down);
    int mcus = jpeg->columns * jpeg->rows;
    jpeg->interval = header->restarts > 0 ? header->restarts : mcus;
    if (!tables_new(jpeg) || !stream_open(data, size, header, ceil_div(mcus, jpeg->interval), &jpeg->stream) ||
        !samples_new(jpeg, wanted)) {
        return 0;
    }
    plan_blocks(jpeg);
    start_segment(jpeg, jpeg->top * jpeg->columns / jpeg->interval);
    return 1;
}
