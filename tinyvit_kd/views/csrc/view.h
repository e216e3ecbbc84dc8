/* From decoded pixels and a view's parameters to the view. */
#ifndef VIEWS_VIEW_H
#define VIEWS_VIEW_H

#include <stddef.h>
#include <stdint.h>

#include "pixels.h"
#include "weights.h"

/* The operations, numbered as in tinyvit_kd/views/native.py. */
typedef enum {
    AUTO_CONTRAST,
    EQUALIZE,
    INVERT,
    AFFINE, /* six numbers: output to input coordinates */
    TURN,   /* quarter turns, counterclockwise */
    POSTERIZE,
    SOLARIZE,
    SOLARIZE_ADD,
    COLOUR,
    CONTRAST,
    BRIGHTNESS,
    SHARPNESS,
    GAUSSIAN_BLUR,
} Kind;

typedef enum { ERASE_CONST, ERASE_RAND, ERASE_PIXEL } EraseMode;

/* Larger views are refused, and larger files are left to Pillow, whose pixels may be MAX_PIXELS_SIDE wide and high. */
enum { MAX_SIDE = 1 << 14, MAX_PIXELS_SIDE = 1 << 16 };

enum { GROUP_ROWS = 16 }; /* rows that are resized together */

enum { PARAMS_HEAD = 11, PARAMS_OPERATION = 7, PARAMS_BOX = 5 };

typedef struct {
    int kind;
    double values[6];
} Operation;

typedef struct {
    int left, top, width, height;
    size_t noise_offset;
} Box;

/* The crop is resized to full_width x full_height, of which the view is the square with its corner at (from_x, from_y). */
typedef struct {
    int left, top, width, height;
    int full_width, full_height, from_x, from_y;
    int flip;
    int operations, boxes;
    const double *rest; /* operations, then boxes */
    Side across, down;  /* how the crop's columns and rows are resized */
    Region used;        /* the part of the image that the view is made of: the crop, or less if the view shows less */
} View;

/* Pillow 13 resizes columns first where they lose much more than rows do. */
static inline int view_is_vertical_first(const View *view) {
    int less_width = view->width - view->full_width, less_height = view->height - view->full_height;
    return less_height > 0 && less_height > 2 * less_width;
}

/* What all views of a spec have in common. */
typedef struct {
    int size;
    int bicubic; /* else bilinear */
    uint8_t fill[3];
    EraseMode erase_mode;
    const uint8_t *noise; /* [3, noise_length] */
    size_t noise_length;
} Style;

/* Writes the view, uint8 [3, size, size], of the rows of its `used` region; returns 0 if memory is short or rows are missing. */
typedef int RenderView(const Style *style, const View *view, Rows *rows, uint8_t *out);

/* Mixes `count` levels of two views into out; weight is own's, in 1/65536. */
typedef void MixLevels(const uint8_t *own, const uint8_t *partner, size_t count, int weight, uint8_t *out);

/* The pixel code, compiled for one instruction set. */
typedef struct {
    const char *name;
    RenderView *render;
    DecodeRegion *decode; /* of sequential files */
    OpenRows *open;       /* of sequential files */
    MixLevels *mix;
} Processor;

extern const Processor PROCESSOR_BASELINE;
#if defined(__x86_64__) && defined(__GNUC__)
#define VIEWS_X86 1
extern const Processor PROCESSOR_AVX2, PROCESSOR_AVX512;
#endif

#endif
