#include "views.h"

#include <stdlib.h>

#include "decode.h"

/* MAX_AFFINE times MAX_SIDE is a coordinate that fits an int. A blur adds up MAX_BLUR pixels one by one. */
enum { MAX_NUMBER = 1 << 30, MAX_AFFINE = 1 << 15, MAX_BLUR = 1 << 8 };

static int is_within(double value, double low, double high) { return value >= low && value <= high; }

static int is_number(double value) { return is_within(value, -MAX_NUMBER, MAX_NUMBER); }

static int operation_fits(const double *numbers) {
    if (!is_within(numbers[0], 0, GAUSSIAN_BLUR) || numbers[0] != (int)numbers[0]) {
        return 0;
    }
    switch ((Kind)numbers[0]) {
    case AFFINE:
        for (int i = 1; i < PARAMS_OPERATION; i++) {
            if (!is_within(numbers[i], -MAX_AFFINE, MAX_AFFINE)) {
                return 0;
            }
        }
        return 1;
    case TURN: return is_within(numbers[1], 0, 3);
    case SOLARIZE_ADD: return is_within(numbers[1], 0, MAX_NUMBER);
    case GAUSSIAN_BLUR: return is_within(numbers[1], 0, MAX_BLUR);
    default: return is_number(numbers[1]);
    }
}

static int operations_fit(const View *view) {
    for (int i = 0; i < view->operations; i++) {
        if (!operation_fits(view->rest + (ptrdiff_t)i * PARAMS_OPERATION)) {
            return 0;
        }
    }
    return 1;
}

static int boxes_fit(const View *view, const Style *style) {
    const double *box = view->rest + (ptrdiff_t)view->operations * PARAMS_OPERATION;
    for (int i = 0; i < view->boxes; i++, box += PARAMS_BOX) {
        if (!(box[0] >= 0 && box[1] >= 0 && box[2] >= 0 && box[3] >= 0 && box[0] + box[2] <= style->size &&
              box[1] + box[3] <= style->size && box[4] >= 0 && box[4] < (double)style->noise_length)) {
            return 0;
        }
    }
    return 1;
}

static void plan_resizing(View *view, const Style *style) {
    view->across = (Side){view->width, view->full_width, view->from_x, style->size, style->bicubic};
    view->down = (Side){view->height, view->full_height, view->from_y, style->size, style->bicubic};
    Span columns = weights_span(&view->across), rows = weights_span(&view->down);
    view->used = (Region){view->left + columns.first, view->top + rows.first, columns.end - columns.first, rows.end - rows.first};
}

/* Reads one view and advances past it; returns 0 if the numbers do not describe a view of the image. */
static int read_view(const double **place, const double *end, const Header *header, const Style *style, View *view) {
    const double *head = *place;
    if (end - head < PARAMS_HEAD) {
        return 0;
    }
    for (int i = 0; i < PARAMS_HEAD; i++) {
        if (!(head[i] >= 0 && is_number(head[i]))) {
            return 0;
        }
    }
    *view = (View){(int)head[0], (int)head[1], (int)head[2], (int)head[3], (int)head[4], (int)head[5], (int)head[6], (int)head[7],
                   (int)head[8], (int)head[9], (int)head[10], head + PARAMS_HEAD, {0}, {0}, {0}};
    ptrdiff_t length = (ptrdiff_t)view->operations * PARAMS_OPERATION + (ptrdiff_t)view->boxes * PARAMS_BOX;
    if (end - view->rest < length || view->width < 1 || view->height < 1 ||
        view->left > header->width - view->width || view->top > header->height - view->height ||
        view->from_x > view->full_width - style->size || view->from_y > view->full_height - style->size) {
        return 0;
    }
    *place = view->rest + length;
    plan_resizing(view, style);
    return operations_fit(view) && boxes_fit(view, style);
}

static int read_views(const Params *params, const Header *header, const Style *style, int count, View *views) {
    const double *place = params->numbers, *end = place + params->count;
    for (int i = 0; i < count; i++) {
        if (!read_view(&place, end, header, style, &views[i])) {
            return 0;
        }
    }
    return place == end;
}

/* The smallest region that contains what all views are made of. */
static Region bounding(const View *views, int count) {
    int left = MAX_NUMBER, top = MAX_NUMBER, right = 0, bottom = 0;
    for (const View *view = views; view < views + count; view++) {
        const Region *used = &view->used;
        left = used->left < left ? used->left : left;
        top = used->top < top ? used->top : top;
        right = used->left + used->width > right ? used->left + used->width : right;
        bottom = used->top + used->height > bottom ? used->top + used->height : bottom;
    }
    return (Region){left, top, right - left, bottom - top};
}

/* Copy the whole of an image that is given as RGB. */
static int copy_pixels(const Image *image, Pixels *pixels) {
    size_t plane = (size_t)image->width * (size_t)image->height;
    uint8_t *planes = malloc(3 * plane + PIXELS_SLACK);
    if (planes == NULL) {
        return 0;
    }
    const uint8_t *pixel = image->data;
    for (size_t i = 0; i < plane; i++, pixel += 3) {
        planes[i] = pixel[0];
        planes[plane + i] = pixel[1];
        planes[2 * plane + i] = pixel[2];
    }
    *pixels = (Pixels){{planes, planes + plane, planes + 2 * plane}, (size_t)image->width, {0, 0, image->width, image->height}};
    return 1;
}

static int is_within_side(const Header *header, int side) { return header->width <= side && header->height <= side; }

static int is_jpeg(const Image *image) { return image->width == 0 && image->height == 0; }

/* `several`: for several views; else our own decoder has been tried already. */
static int pixels_of(const Image *image, const Header *header, const Processor *processor, int several, Region wanted, Pixels *pixels) {
    if (!is_jpeg(image)) {
        return copy_pixels(image, pixels);
    }
    return (several && processor->decode(image->data, image->bytes, header, wanted, pixels)) ||
           decode_region(image->data, image->bytes, header, wanted, pixels);
}

/* Rows that are all in memory. */
typedef struct {
    Rows rows;
    Source first;
} PixelRows;

static int fetch_pixels(Rows *rows, int top, int count, Source *found) {
    const Source *first = &((PixelRows *)rows)->first;
    size_t offset = (size_t)top * first->stride;
    (void)count;
    *found = (Source){{first->planes[0] + offset, first->planes[1] + offset, first->planes[2] + offset}, first->stride};
    return 1;
}

static PixelRows rows_of(const Pixels *pixels, const Region *used) {
    size_t row = (size_t)(used->top - pixels->region.top), column = (size_t)(used->left - pixels->region.left);
    size_t offset = row * pixels->stride + column;
    const Source first = {{pixels->planes[0] + offset, pixels->planes[1] + offset, pixels->planes[2] + offset}, pixels->stride};
    return (PixelRows){{fetch_pixels, NULL}, first};
}

static size_t bytes_of_view(const Style *style) { return 3 * (size_t)style->size * (size_t)style->size; }

/* A view whose rows are decoded as they are needed, so that the pixels are never all in memory. */
static int render_one(const Image *image, const Header *header, const Style *style, const Processor *processor, const View *view, uint8_t *out) {
    /* Columns first needs the rows of one output at a time, and moves them up where there is no room for the next ones. */
    int room = view_is_vertical_first(view) ? weights_taps(&view->down) + GROUP_ROWS : GROUP_ROWS;
    Rows *rows = processor->open(image->data, image->bytes, header, view->used, room);
    int done = rows != NULL && processor->render(style, view, rows, out);
    if (rows != NULL) {
        rows->close(rows);
    }
    return done;
}

static int render_all(const Image *image, const Header *header, const Style *style, const Processor *processor,
                      const View *views, int count, uint8_t *out) {
    Pixels pixels;
    int done = 1;
    if (is_jpeg(image) && count == 1 && render_one(image, header, style, processor, views, out)) {
        return 1;
    }
    if (!pixels_of(image, header, processor, count > 1, bounding(views, count), &pixels)) {
        return 0;
    }
    for (int i = 0; done && i < count; i++) {
        PixelRows rows = rows_of(&pixels, &views[i].used);
        done = processor->render(style, &views[i], &rows.rows, out + (size_t)i * bytes_of_view(style));
    }
    free(pixels.planes[0]);
    return done;
}

static int style_fits(const Style *style) {
    return style->size >= 1 && style->size <= MAX_SIDE && style->noise_length >= 1 &&
           style->erase_mode >= ERASE_CONST && style->erase_mode <= ERASE_PIXEL;
}

static int is_sound(const Image *image, const Params *params, const Style *style, const Out *out) {
    int width = image->width, height = image->height;
    return width >= 0 && height >= 0 && (is_jpeg(image) || image->bytes == 3 * (size_t)width * (size_t)height) && style_fits(style) &&
           (uintptr_t)params->numbers % _Alignof(double) == 0 &&
           out->bytes > 0 && out->bytes % bytes_of_view(style) == 0 && out->bytes / bytes_of_view(style) <= MAX_NUMBER;
}

Outcome views_render(const Image *image, const Params *params, const Style *style, const Processor *processor, const Out *out) {
    Header header = {.width = image->width, .height = image->height};
    if (!is_sound(image, params, style, out)) {
        return VIEWS_INVALID;
    }
    int count = (int)(out->bytes / bytes_of_view(style));
    View *views = malloc(sizeof(View) * (size_t)count);
    if (views == NULL) {
        return VIEWS_NO_MEMORY;
    }
    int done = (is_jpeg(image) ? views_header(image->data, image->bytes, &header) : is_within_side(&header, MAX_PIXELS_SIDE)) &&
               read_views(params, &header, style, count, views) &&
               render_all(image, &header, style, processor, views, count, out->views);
    free(views);
    return done ? VIEWS_MADE : VIEWS_LEFT;
}

int views_header(const uint8_t *data, size_t bytes, Header *header) {
    return header_parse(data, bytes, header) && is_within_side(header, MAX_SIDE);
}

int views_decode(const uint8_t *data, size_t bytes, DecodeRegion *decode, Region wanted, Pixels *pixels) {
    Header header;
    return views_header(data, bytes, &header) && wanted.left >= 0 && wanted.top >= 0 && wanted.width > 0 && wanted.height > 0 &&
           wanted.left <= header.width - wanted.width && wanted.top <= header.height - wanted.height &&
           decode(data, bytes, &header, wanted, pixels);
}
