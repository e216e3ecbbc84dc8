/* Rows of sequential JPEG files with one scan. What lies below the last row that is asked for is not read. */

typedef struct {
    Rows rows; /* first, because whoever has this has the rest */
    Blocks blocks;
    Region region;
    int left, count; /* the samples of a component of half the width that a row is made of */
    Wide wide[2];
    uint8_t *planes[3]; /* of the rows that are held, `room` at most; those of a grey image are one */
    size_t stride;
    int room, top, end;
} Baseline;

/* Row y of the region, whose blocks are read; the next one must not be above it. */
static void decode_row(Baseline *jpeg, int y, uint8_t *const *out) {
    const Blocks *blocks = &jpeg->blocks;
    const Samples *samples = blocks->samples;
    const Region *region = &jpeg->region;
    const uint8_t *luma = samples_row(&samples[0], region->top + y) - samples[0].left + region->left;
    int skip = region->left - jpeg->left * blocks->across;
    if (blocks->header->components == 1) {
        memcpy(out[0], luma, (size_t)region->width);
        return;
    }
    for (int i = 0; i < 2; i++) {
        chroma_row(blocks, &samples[i + 1], region->top + y, jpeg->left, jpeg->count, &jpeg->wide[i]);
    }
    colour_row(luma, jpeg->wide[0].row + skip, jpeg->wide[1].row + skip, region->width, out);
}

/* Reads what row y of the region is made of. Upsampling may use the chroma row below it. */
static int read_for_row(Baseline *jpeg, int y) {
    Blocks *blocks = &jpeg->blocks;
    int row = (jpeg->region.top + y + (blocks->down == 2)) / (8 * blocks->down);
    return read_row(blocks, row < blocks->rows ? row : blocks->rows - 1);
}

/* Rows from `top` on are moved to the beginning if there is no room for `end`. */
static void make_room(Baseline *jpeg, int top, int end) {
    int planes = jpeg->blocks.header->components;
    if (end - jpeg->top <= jpeg->room) {
        return;
    }
    for (int i = 0; i < planes && top < jpeg->end; i++) {
        memmove(jpeg->planes[i], jpeg->planes[i] + (size_t)(top - jpeg->top) * jpeg->stride, (size_t)(jpeg->end - top) * jpeg->stride);
    }
    jpeg->top = top;
    jpeg->end = jpeg->end > top ? jpeg->end : top;
}

static int fetch_decoded(Rows *rows, int top, int count, Source *found) {
    Baseline *jpeg = (Baseline *)rows;
    make_room(jpeg, top, top + count);
    for (; jpeg->end < top + count; jpeg->end++) {
        uint8_t *out[3];
        for (int i = 0; i < 3; i++) {
            out[i] = jpeg->planes[i] + (size_t)(jpeg->end - jpeg->top) * jpeg->stride;
        }
        if (!read_for_row(jpeg, jpeg->end)) {
            return 0;
        }
        decode_row(jpeg, jpeg->end, out);
    }
    for (int i = 0; i < 3; i++) {
        found->planes[i] = jpeg->planes[i] + (size_t)(top - jpeg->top) * jpeg->stride;
    }
    found->stride = jpeg->stride;
    return 1;
}

static void close_baseline(Rows *rows) {
    Baseline *jpeg = (Baseline *)rows;
    blocks_close(&jpeg->blocks);
    free(jpeg->wide[0].sums);
    free(jpeg->planes[0]);
    free(jpeg);
}

/* Room for a row of each component at the image's resolution. */
static int wide_new(Baseline *jpeg) {
    const Region *region = &jpeg->region;
    jpeg->left = region->left / jpeg->blocks.across;
    jpeg->count = ceil_div(region->left + region->width, jpeg->blocks.across) - jpeg->left;
    size_t room = 2 * (size_t)jpeg->count + 64;
    int16_t *sums = malloc((sizeof(int16_t) + 2) * room);
    if (sums == NULL) {
        return 0;
    }
    uint8_t *row = (uint8_t *)(sums + room);
    jpeg->wide[0] = (Wide){sums, row};
    jpeg->wide[1] = (Wide){sums, row + room};
    return 1;
}

static int planes_new(Baseline *jpeg) {
    int planes = jpeg->blocks.header->components;
    size_t plane = jpeg->stride * (size_t)jpeg->room;
    jpeg->planes[0] = malloc(plane * (size_t)planes + PIXELS_SLACK);
    for (int i = 1; i < 3 && jpeg->planes[0] != NULL; i++) {
        jpeg->planes[i] = jpeg->planes[0] + (planes == 3 ? (size_t)i * plane : 0);
    }
    return jpeg->planes[0] != NULL;
}

static Rows *open_baseline(const uint8_t *data, size_t size, const Header *header, Region wanted, int room) {
    Baseline *jpeg = malloc(sizeof *jpeg);
    if (jpeg == NULL) {
        return NULL;
    }
    jpeg->rows = (Rows){fetch_decoded, close_baseline};
    jpeg->region = wanted;
    jpeg->wide[0].sums = NULL;
    jpeg->planes[0] = NULL;
    jpeg->stride = (size_t)round_up(wanted.width, COLOURS);
    jpeg->room = room < wanted.height ? room : wanted.height;
    jpeg->top = jpeg->end = 0;
    if (blocks_open(&jpeg->blocks, data, size, header, &jpeg->region) && wide_new(jpeg) && planes_new(jpeg)) {
        return &jpeg->rows;
    }
    close_baseline(&jpeg->rows);
    return NULL;
}

static int decode_baseline(const uint8_t *data, size_t size, const Header *header, Region wanted, Pixels *pixels) {
    Baseline *jpeg = (Baseline *)open_baseline(data, size, header, wanted, wanted.height);
    Source all;
    memset(pixels, 0, sizeof *pixels);
    if (jpeg == NULL) {
        return 0;
    }
    int done = fetch_decoded(&jpeg->rows, 0, wanted.height, &all);
    if (done) {
        *pixels = (Pixels){{jpeg->planes[0], jpeg->planes[1], jpeg->planes[2]}, jpeg->stride, wanted};
        jpeg->planes[0] = NULL; /* which are the caller's now */
    }
    close_baseline(&jpeg->rows);
    return done;
}
