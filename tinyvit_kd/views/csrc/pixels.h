/* Part of an image, as planes of red, green and blue: all of it at once, or row by row. */
#ifndef VIEWS_PIXELS_H
#define VIEWS_PIXELS_H

#include "header.h"

typedef struct {
    int left, top, width, height;
} Region;

enum { PIXELS_SLACK = 64 }; /* bytes after the last plane that may be read */

typedef struct {
    uint8_t *planes[3]; /* of the region; only the first must be freed, the others point into it or are equal to it */
    size_t stride;
    Region region;      /* what was decoded, which contains the wanted region */
} Pixels;

/* Returns 1, or 0 if this decoder cannot decode the file. */
typedef int DecodeRegion(const uint8_t *data, size_t size, const Header *header, Region wanted, Pixels *pixels);

typedef struct {
    const uint8_t *planes[3]; /* the first pixel of a row in each channel; 32 bytes past a row's end may be read */
    size_t stride;
} Source;

/* Hands out the rows of a region from top to bottom, so that not all of them need to be in memory. */
typedef struct Rows {
    /* Finds `count` rows from row `top` of the region on. Neither `top` nor `top + count` may be less than in the call
     * before. They are there until the next call. Returns 0 if they cannot be decoded. */
    int (*fetch)(struct Rows *rows, int top, int count, Source *found);
    void (*close)(struct Rows *rows);
} Rows;

/* With room for `room` rows, which no call of `fetch` may exceed. `header` must stay. Returns NULL if this decoder cannot
 * decode the file. */
typedef Rows *OpenRows(const uint8_t *data, size_t size, const Header *header, Region wanted, int room);

#endif
