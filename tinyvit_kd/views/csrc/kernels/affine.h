/* Pillow's affine transform with bilinear or bicubic interpolation, in the same double arithmetic.
 *
 * The centre of an output pixel is mapped to input coordinates. If these lie outside the image, the pixel gets the fill
 * colour. Taps outside the image repeat its border. Results are truncated.
 */

enum { CHUNK = 32, MARGIN = 4 };

typedef struct {
    int size, bicubic;
    const uint8_t *fill;
} Canvas;

static inline double cubic(double a, double b, double c, double d, double t) {
    double p2 = -a + c, p3 = 2 * (a - b) + c - d, p4 = -a + b - c + d;
    return b + t * (p2 + t * (p3 + t * p4));
}

static inline double linear(double a, double b, double t) { return a + (b - a) * t; }

static inline uint8_t cut_off(double value) {
    value = value < 0.0 ? 0.0 : value;
    value = value > 255.0 ? 255.0 : value;
    return (uint8_t)(int)value;
}

/* Positions of an output row's pixels in the input: coordinate (x + .5 + slant) + shift along the row. */
typedef struct {
    int begin, end;  /* the pixels that lie inside the image */
    int offset;      /* input index minus output index, if it is the same for all pixels */
    int uniform;     /* whether it is */
    int whole;       /* whether, in addition, all fractions are 0 */
    int *index;      /* [size] */
    double *fraction;
} Line;

static void line_place(Line *line, int size, double slant, double shift) {
    int begin = 0, end = size, same = 1, whole = 1;
    for (int x = 0; x < size; x++) {
        double at = (x + 0.5 + slant + shift) - 0.5, low = floor(at);
        line->index[x] = (int)low - x;
        line->fraction[x] = at - low;
    }
    while (begin < end && !(begin + 0.5 + slant + shift >= 0.0)) {
        begin++;
    }
    while (end > begin && !(end - 1 + 0.5 + slant + shift < size)) {
        end--;
    }
    line->offset = begin < end ? line->index[begin] : 0;
    for (int x = begin; x < end; x++) {
        same &= line->index[x] == line->offset;
        whole &= line->fraction[x] == 0.0;
    }
    line->begin = begin;
    line->end = end;
    line->uniform = same;
    line->whole = same && whole;
}

static void line_bicubic(const Line *line, const uint8_t *in, uint8_t *out) {
    const double *fraction = line->fraction;
    for (int x = line->begin; x < line->end; x++) {
        const uint8_t *taps = in + x;
        out[x] = cut_off(cubic(taps[-1], taps[0], taps[1], taps[2], fraction[x]));
    }
}

static void line_bilinear(const Line *line, const uint8_t *in, uint8_t *out) {
    for (int x = line->begin; x < line->end; x++) {
        out[x] = cut_off(linear(in[x], in[x + 1], line->fraction[x]));
    }
}

static void line_scattered(const Line *line, const Canvas *canvas, const uint8_t *in, uint8_t *out) {
    for (int x = line->begin; x < line->end; x++) {
        const uint8_t *taps = in + x + line->index[x];
        double t = line->fraction[x];
        out[x] = cut_off(canvas->bicubic ? cubic(taps[-1], taps[0], taps[1], taps[2], t) : linear(taps[0], taps[1], t));
    }
}

/* `in` has MARGIN bytes before and after the row, which repeat its border. */
static void line_render(const Line *line, const Canvas *canvas, const uint8_t *in, uint8_t *out, uint8_t fill) {
    memset(out, fill, (size_t)line->begin);
    memset(out + line->end, fill, (size_t)(canvas->size - line->end));
    if (line->begin == line->end) {
        return;
    }
    if (line->whole) {
        memcpy(out + line->begin, in + line->offset + line->begin, (size_t)(line->end - line->begin));
    } else if (!line->uniform) {
        line_scattered(line, canvas, in, out);
    } else if (canvas->bicubic) {
        line_bicubic(line, in + line->offset, out);
    } else {
        line_bilinear(line, in + line->offset, out);
    }
}

/* Every row stays a row; pixel (x, y) comes from x + .5 + slope * (y + .5) + shift. */
static int shear_rows(const uint8_t *in, uint8_t *out, const Canvas *canvas, double slope, double shift) {
    int size = canvas->size;
    size_t count = (size_t)size * size;
    Line line;
    uint8_t *padded = malloc((sizeof(double) + sizeof(int) + 1) * (size_t)(size + 2 * MARGIN));
    if (padded == NULL) {
        return 0;
    }
    line.fraction = (double *)padded;
    line.index = (int *)(line.fraction + size + 2 * MARGIN);
    padded = (uint8_t *)(line.index + size + 2 * MARGIN);
    for (int y = 0; y < size; y++) {
        line_place(&line, size, slope * (y + 0.5), shift);
        for (int channel = 0; channel < 3; channel++) {
            const uint8_t *row = in + channel * count + (size_t)y * size;
            memset(padded, row[0], MARGIN);
            memcpy(padded + MARGIN, row, (size_t)size);
            memset(padded + MARGIN + size, row[size - 1], MARGIN);
            line_render(&line, canvas, padded + MARGIN, out + channel * count + (size_t)y * size, canvas->fill[channel]);
        }
    }
    free(line.fraction);
    return 1;
}

/* The same along columns, by transposing planes before and after. `in` is overwritten. */
static int shear_columns(uint8_t *in, uint8_t *out, const Canvas *canvas, double slope, double shift) {
    size_t count = (size_t)canvas->size * canvas->size;
    uint8_t *spare = malloc(3 * count);
    int done = spare != NULL;
    for (int channel = 0; done && channel < 3; channel++) {
        transpose_plane(in + channel * count, spare + channel * count, canvas->size);
    }
    done = done && shear_rows(spare, in, canvas, slope, shift);
    for (int channel = 0; done && channel < 3; channel++) {
        transpose_plane(in + channel * count, out + channel * count, canvas->size);
    }
    free(spare);
    return done;
}

/* Pack the three channels into one word per pixel, with a border of MARGIN repeated pixels. */
static void pack(const uint8_t *planes, uint32_t *packed, int size) {
    int pitch = size + 2 * MARGIN;
    size_t count = (size_t)size * size;
    for (int y = 0; y < pitch; y++) {
        const uint8_t *red = planes + (size_t)clamp(y - MARGIN, 0, size - 1) * size;
        uint32_t *to = packed + (size_t)y * pitch;
        for (int x = 0; x < size; x++) {
            to[MARGIN + x] = red[x] | (uint32_t)red[count + x] << 8 | (uint32_t)red[2 * count + x] << 16;
        }
        for (int x = 0; x < MARGIN; x++) {
            to[x] = to[MARGIN];
            to[MARGIN + size + x] = to[MARGIN + size - 1];
        }
    }
}

typedef struct {
    int32_t place[CHUNK]; /* index, in the packed image, of the pixel above and to the left of the point */
    double across[CHUNK], down[CHUNK];
    uint8_t inside[CHUNK];
    uint32_t taps[16][CHUNK];
} Chunk;

static void chunk_place(Chunk *chunk, const double *matrix, int size, int left, int y) {
    int pitch = size + 2 * MARGIN;
    double bx = matrix[1] * (y + 0.5), by = matrix[4] * (y + 0.5);
    for (int i = 0; i < CHUNK; i++) {
        double x_in = matrix[0] * (left + i + 0.5) + bx + matrix[2], y_in = matrix[3] * (left + i + 0.5) + by + matrix[5];
        int inside = x_in >= 0.0 && x_in < size && y_in >= 0.0 && y_in < size;
        double x_at = inside ? x_in - 0.5 : 0.0, y_at = inside ? y_in - 0.5 : 0.0;
        double x_low = floor(x_at), y_low = floor(y_at);
        chunk->inside[i] = (uint8_t)inside;
        chunk->across[i] = x_at - x_low;
        chunk->down[i] = y_at - y_low;
        chunk->place[i] = ((int)y_low + MARGIN) * pitch + (int)x_low + MARGIN;
    }
}

static void chunk_gather(Chunk *chunk, const uint32_t *packed, int pitch, int count) {
    for (int i = 0; i < CHUNK; i++) {
        const uint32_t *from = packed + chunk->place[i] - (count == 4 ? pitch + 1 : 0);
        for (int row = 0; row < count; row++, from += pitch) {
            for (int column = 0; column < count; column++) {
                chunk->taps[4 * row + column][i] = from[column];
            }
        }
    }
}

static void chunk_bicubic(const Chunk *chunk, int channel, uint8_t *out) {
    for (int i = 0; i < CHUNK; i++) {
        double rows[4];
        for (int row = 0; row < 4; row++) {
            int a = chunk->taps[4 * row][i] >> (8 * channel) & 255, b = chunk->taps[4 * row + 1][i] >> (8 * channel) & 255;
            int c = chunk->taps[4 * row + 2][i] >> (8 * channel) & 255, d = chunk->taps[4 * row + 3][i] >> (8 * channel) & 255;
            rows[row] = cubic(a, b, c, d, chunk->across[i]);
        }
        out[i] = cut_off(cubic(rows[0], rows[1], rows[2], rows[3], chunk->down[i]));
    }
}

static void chunk_bilinear(const Chunk *chunk, int channel, uint8_t *out) {
    for (int i = 0; i < CHUNK; i++) {
        double rows[2];
        for (int row = 0; row < 2; row++) {
            int a = chunk->taps[4 * row][i] >> (8 * channel) & 255, b = chunk->taps[4 * row + 1][i] >> (8 * channel) & 255;
            rows[row] = linear(a, b, chunk->across[i]);
        }
        out[i] = cut_off(linear(rows[0], rows[1], chunk->down[i]));
    }
}

static void chunk_store(const Chunk *chunk, const Canvas *canvas, int left, int y, uint8_t *out) {
    int size = canvas->size, count = size - left < CHUNK ? size - left : CHUNK;
    uint8_t values[CHUNK];
    for (int channel = 0; channel < 3; channel++) {
        if (canvas->bicubic) {
            chunk_bicubic(chunk, channel, values);
        } else {
            chunk_bilinear(chunk, channel, values);
        }
        for (int i = 0; i < CHUNK; i++) {
            values[i] = chunk->inside[i] ? values[i] : canvas->fill[channel];
        }
        memcpy(out + ((size_t)channel * size + y) * size + left, values, (size_t)count);
    }
}

static int affine_general(const uint8_t *in, uint8_t *out, const Canvas *canvas, const double *matrix) {
    int size = canvas->size, pitch = size + 2 * MARGIN;
    uint32_t *packed = malloc(sizeof(uint32_t) * (size_t)pitch * pitch);
    Chunk chunk;
    if (packed == NULL) {
        return 0;
    }
    pack(in, packed, size);
    for (int y = 0; y < size; y++) {
        for (int left = 0; left < size; left += CHUNK) {
            chunk_place(&chunk, matrix, size, left, y);
            chunk_gather(&chunk, packed, pitch, canvas->bicubic ? 4 : 2);
            chunk_store(&chunk, canvas, left, y, out);
        }
    }
    free(packed);
    return 1;
}

/* `in` may be overwritten. */
static int affine(uint8_t *in, uint8_t *out, const Canvas *canvas, const double *m) {
    if (m[0] == 1 && m[3] == 0 && m[4] == 1 && m[5] == 0) {
        return shear_rows(in, out, canvas, m[1], m[2]);
    }
    if (m[0] == 1 && m[1] == 0 && m[2] == 0 && m[4] == 1) {
        return shear_columns(in, out, canvas, m[3], m[5]);
    }
    return affine_general(in, out, canvas, m);
}

/* Quarter turns, counterclockwise. */
static void turn(const uint8_t *in, uint8_t *out, int size, int quarters) {
    size_t count = (size_t)size * size;
    for (int channel = 0; channel < 3; channel++) {
        const uint8_t *from = in + channel * count;
        for (int y = 0; y < size; y++) {
            for (int x = 0; x < size; x++) {
                int row = quarters == 0 ? y : quarters == 1 ? x : quarters == 2 ? size - 1 - y : size - 1 - x;
                int column = quarters == 0 ? x : quarters == 1 ? size - 1 - y : quarters == 2 ? size - 1 - x : y;
                out[channel * count + (size_t)y * size + x] = from[(size_t)row * size + column];
            }
        }
    }
}
