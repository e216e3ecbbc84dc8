/* A whole view: crop and resize, then operations in their order, then erased boxes. */

/* Two sets of planes. An operation that needs both writes its result to the spare set and swaps them. */
typedef struct {
    uint8_t *current, *spare;
} Planes;

static void swap(Planes *planes) {
    uint8_t *other = planes->spare;
    planes->spare = planes->current;
    planes->current = other;
}

static void apply_levels(uint8_t *levels, size_t count, const Operation *operation) {
    double value = operation->values[0];
    for (int channel = 0; channel < 3; channel++) {
        uint8_t *plane = levels + channel * count;
        switch (operation->kind) {
        case AUTO_CONTRAST: auto_contrast(plane, count); break;
        case EQUALIZE: equalize(plane, count); break;
        case INVERT: invert(plane, count); break;
        case POSTERIZE: posterize(plane, count, (int)value); break;
        case SOLARIZE: solarize(plane, count, (int)value); break;
        case SOLARIZE_ADD: solarize_add(plane, count, (int)value); break;
        default: blend_with_level(plane, count, 0, (float)value); break; /* BRIGHTNESS */
        }
    }
}

static void apply_filter(Planes *planes, int size, const Operation *operation) {
    size_t count = (size_t)size * size;
    for (int channel = 0; channel < 3; channel++) {
        uint8_t *in = planes->current + channel * count, *out = planes->spare + channel * count;
        if (operation->kind == SHARPNESS) {
            sharpness(in, out, size, (float)operation->values[0]);
        } else if (operation->values[0] != 0) {
            gaussian_blur(in, out, size, (float)operation->values[0]);
        }
    }
    if (operation->kind == SHARPNESS) {
        swap(planes);
    }
}

static int apply_operation(Planes *planes, const Style *style, const Operation *operation) {
    size_t count = (size_t)style->size * style->size;
    Canvas canvas = {style->size, style->bicubic, style->fill};
    switch (operation->kind) {
    case AFFINE:
        if (!affine(planes->current, planes->spare, &canvas, operation->values)) {
            return 0;
        }
        swap(planes);
        return 1;
    case TURN:
        turn(planes->current, planes->spare, style->size, (int)operation->values[0]);
        swap(planes);
        return 1;
    case COLOUR: colour(planes->current, count, (float)operation->values[0]); return 1;
    case CONTRAST: contrast(planes->current, count, (float)operation->values[0]); return 1;
    case SHARPNESS:
    case GAUSSIAN_BLUR: apply_filter(planes, style->size, operation); return 1;
    default: apply_levels(planes->current, count, operation); return 1;
    }
}

/* Copies `count` entries of the noise table from `start`, wrapping around. */
static void copy_noise(uint8_t *to, const uint8_t *noise, size_t length, size_t start, size_t count) {
    start %= length;
    while (count > 0) {
        size_t part = count < length - start ? count : length - start;
        memcpy(to, noise + start, part);
        to += part;
        count -= part;
        start = 0;
    }
}

static void erase(uint8_t *out, const Style *style, const Box *box) {
    for (int channel = 0; channel < 3; channel++) {
        const uint8_t *noise = style->noise + channel * style->noise_length;
        uint8_t level = style->erase_mode == ERASE_CONST ? style->fill[channel] : noise[box->noise_offset];
        for (int y = 0; y < box->height; y++) {
            uint8_t *to = out + ((size_t)channel * style->size + box->top + y) * style->size + box->left;
            if (style->erase_mode == ERASE_PIXEL) {
                size_t start = box->noise_offset + (size_t)y * box->width;
                copy_noise(to, noise, style->noise_length, start, (size_t)box->width);
            } else {
                memset(to, level, (size_t)box->width);
            }
        }
    }
}

static Operation read_operation(const double *numbers) {
    Operation operation;
    operation.kind = (int)numbers[0];
    memcpy(operation.values, numbers + 1, sizeof operation.values);
    return operation;
}

static Box read_box(const double *numbers) {
    Box box = {(int)numbers[0], (int)numbers[1], (int)numbers[2], (int)numbers[3], (size_t)numbers[4]};
    return box;
}

static int render_view(const Style *style, const View *view, Rows *rows, uint8_t *out) {
    size_t bytes = 3 * (size_t)style->size * style->size;
    uint8_t *spare = view->operations > 0 ? malloc(bytes) : out;
    Planes planes = {out, spare};
    const double *rest = view->rest;
    int done = spare != NULL && resize_crop(rows, view, style->size, planes.current);
    for (int i = 0; done && i < view->operations; i++, rest += PARAMS_OPERATION) {
        Operation operation = read_operation(rest);
        done = apply_operation(&planes, style, &operation);
    }
    if (done && planes.current != out) {
        memcpy(out, planes.current, bytes);
    }
    for (int i = 0; done && i < view->boxes; i++, rest += PARAMS_BOX) {
        Box box = read_box(rest);
        erase(out, style, &box);
    }
    if (spare != out) {
        free(spare);
    }
    return done;
}
