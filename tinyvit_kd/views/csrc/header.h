/* Which JPEG files may be decoded natively. */
#ifndef VIEWS_HEADER_H
#define VIEWS_HEADER_H

#include <stddef.h>
#include <stdint.h>

typedef struct {
    int id, across, down; /* sampling factors */
    int quantization, dc, ac; /* indexes of its tables */
} Component;

/* The tables for decoding a sequential file; pointers point into the file. */
typedef struct {
    uint16_t quantization[4][64]; /* in row order, not in the file's zigzag order */
    const uint8_t *huffman[2][4]; /* DC, AC: numbers of codes by length (16), then symbols; NULL if not defined */
    int known_quantizations;      /* one bit per table */
} Tables;

typedef struct {
    int width, height;
    int components;   /* 1 or 3 */
    int progressive;
    int single_scan;  /* the first scan holds all components of a sequential file */
    int restarts;     /* MCUs between restart markers, or 0 */
    int jfif, adobe;  /* markers from which libjpeg guesses the colour space; adobe is Adobe's transform, or -1 */
    int plain_scan;   /* the first scan has the usual form for sequential files */
    Component component[3];
    Tables tables;
    int doubtful;     /* Pillow's own header parser may refuse this file */
    size_t scan;      /* where the first scan's coded data starts */
} Header;

/* Returns 1 if everything up to the first scan is usual, else 0. */
int header_parse(const uint8_t *data, size_t size, Header *header);

/* Returns 1 if the first marker after the scan's coded data, other than restarts, is the end of the image. */
int scan_ends_image(const uint8_t *data, size_t size, const Header *header);

extern const uint8_t NATURAL_ORDER[64];

#endif
