/* Which JPEG files the fast decoder may touch. */
#ifndef VIEWS_HEADER_H
#define VIEWS_HEADER_H

#include <stddef.h>
#include <stdint.h>

typedef struct {
    int id, across, down; /* sampling factors */
    int quantization, dc, ac; /* numbers of tables */
} Component;

/* The tables that a sequential file is decoded with; pointers go into the file. */
typedef struct {
    uint16_t quantization[4][64]; /* rows of frequencies, not the file's zigzag */
    const uint8_t *huffman[2][4]; /* DC, AC: 16 numbers of codes by length, then symbols; NULL where not defined */
    int known_quantizations;      /* a bit for each */
} Tables;

typedef struct {
    int width, height;
    int components;   /* 1 or 3 */
    int progressive;
    int single_scan;  /* the first scan holds all components of a sequential file */
    int restarts;     /* MCUs between restart markers, or 0 */
    int jfif, adobe;  /* markers that libjpeg guesses the colour space by; the second is Adobe's transform, or -1 */
    int plain_scan;   /* the first scan is as sequential files have it */
    Component component[3];
    Tables tables;
    int doubtful;     /* Pillow's own header parser may refuse what stands here */
    size_t scan;      /* where the first scan's coded data starts */
} Header;

/* 1 where everything up to the first scan is ordinary, else 0. */
int header_parse(const uint8_t *data, size_t size, Header *header);

/* 1 where the scan's coded data is followed by the end of the image and nothing else. */
int scan_ends_image(const uint8_t *data, size_t size, const Header *header);

extern const uint8_t NATURAL_ORDER[64];

#endif
