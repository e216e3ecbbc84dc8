/* A strict parser of a JPEG file's markers.
 *
 * Anything unusual is left to the reference renderer. A file may be decoded in part only if it would be accepted as a
 * whole, and the parser ensures that: see scan_ends_image.
 */
#include "header.h"

#include <string.h>

enum { SOF0 = 0xC0, SOF1 = 0xC1, SOF2 = 0xC2, DHT = 0xC4, RST0 = 0xD0, RST7 = 0xD7, SOI = 0xD8, EOI = 0xD9 };
enum { SOS = 0xDA, DQT = 0xDB, DRI = 0xDD, APP0 = 0xE0, APP15 = 0xEF, COM = 0xFE };

const uint8_t NATURAL_ORDER[64] = {
    0,  1,  8,  16, 9,  2,  3,  10, 17, 24, 32, 25, 18, 11, 4,  5,  12, 19, 26, 33, 40, 48,
    41, 34, 27, 20, 13, 6,  7,  14, 21, 28, 35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23,
    30, 37, 44, 51, 58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54, 47, 55, 62, 63,
};

typedef struct {
    const uint8_t *bytes; /* after the length */
    size_t length;
} Segment;

typedef struct {
    int frames, dots_per_inch, exif;
} Seen;

static int be16(const uint8_t *bytes) { return bytes[0] << 8 | bytes[1]; }

static int starts(const Segment *segment, const char *text, size_t length) {
    return segment->length >= length && memcmp(segment->bytes, text, length) == 0;
}

static int read_frame(int marker, const Segment *segment, Header *header) {
    const uint8_t *bytes = segment->bytes;
    if (segment->length < 6 || bytes[0] != 8) {
        return 0;
    }
    header->height = be16(bytes + 1);
    header->width = be16(bytes + 3);
    header->components = bytes[5];
    header->progressive = marker == SOF2;
    for (size_t i = 0; i < 3 && 9 + 3 * i <= segment->length; i++) {
        const uint8_t *own = bytes + 6 + 3 * i;
        header->component[i] = (Component){own[0], own[1] >> 4, own[1] & 15, own[2], 0, 0};
    }
    return header->width > 0 && header->height > 0 && (bytes[5] == 1 || bytes[5] == 3) &&
           segment->length == 6 + 3 * (size_t)bytes[5];
}

/* Returns 0 if libjpeg would not read it like this. */
static int read_quantization(const Segment *segment, Tables *tables) {
    const uint8_t *bytes = segment->bytes, *end = bytes + segment->length;
    while (bytes < end) {
        int number = *bytes & 15, wide = *bytes >> 4 ? 1 : 0;
        if (number > 3 || end - ++bytes < 64 << wide) {
            return 0;
        }
        for (int k = 0; k < 64; k++, bytes += 1 + wide) {
            tables->quantization[number][NATURAL_ORDER[k]] = (uint16_t)(wide ? be16(bytes) : *bytes);
        }
        tables->known_quantizations |= 1 << number;
    }
    return 1;
}

static int read_huffman(const Segment *segment, Tables *tables) {
    const uint8_t *bytes = segment->bytes, *end = bytes + segment->length;
    while (bytes < end) {
        int number = *bytes & 15, kind = *bytes >> 4, symbols = 0;
        if (number > 3 || kind > 1 || end - ++bytes < 16) {
            return 0;
        }
        for (int i = 0; i < 16; i++) {
            symbols += bytes[i];
        }
        if (symbols > 256 || end - bytes < 16 + symbols) {
            return 0;
        }
        tables->huffman[kind][number] = bytes;
        bytes += 16 + symbols;
    }
    return 1;
}

/* Which tables the components of a scan use, if it is the only scan of a sequential file. */
static void read_scan(const Segment *segment, Header *header) {
    const uint8_t *bytes = segment->bytes;
    int count = header->components, plain = segment->length == 4 + 2 * (size_t)count && bytes[0] == count;
    header->single_scan = !header->progressive && segment->length > 0 && bytes[0] == count;
    for (int i = 0; plain && i < count; i++) {
        plain = bytes[1 + 2 * i] == header->component[i].id && (bytes[2 + 2 * i] & 0xCC) == 0;
        header->component[i].dc = bytes[2 + 2 * i] >> 4;
        header->component[i].ac = bytes[2 + 2 * i] & 15;
    }
    plain = plain && bytes[1 + 2 * count] == 0 && bytes[2 + 2 * count] == 63 && bytes[3 + 2 * count] == 0;
    header->plain_scan = plain && header->single_scan;
}

/* Pillow parses Photoshop's blocks, and refuses the whole file if the length of a name is missing. */
static int photoshop_is_harmless(const Segment *segment) {
    const uint8_t *bytes = segment->bytes;
    size_t offset = 14;
    while (offset + 4 <= segment->length && memcmp(bytes + offset, "8BIM", 4) == 0) {
        offset += 6;
        if (offset > segment->length) {
            return 1;
        }
        if (offset == segment->length) {
            return 0;
        }
        offset += 1 + (size_t)bytes[offset];
        offset += offset & 1;
        if (offset + 4 > segment->length) {
            return 1;
        }
        offset += 4 + ((size_t)be16(bytes + offset) << 16 | (size_t)be16(bytes + offset + 2));
        offset += offset & 1;
    }
    return 1;
}

/* Returns 0 if the file must be left to Pillow. */
static int read_application(int marker, const Segment *segment, Header *header, Seen *seen) {
    switch (marker) {
    case APP0:
        if (starts(segment, "JFIF", 4)) {
            header->jfif |= segment->length >= 14 && segment->bytes[4] == 0;
            seen->dots_per_inch |= segment->length >= 12 && (segment->bytes[7] == 1 || segment->bytes[7] == 2);
            return segment->length >= 12;
        }
        return 1;
    case APP0 + 1:
        seen->exif |= starts(segment, "Exif\0", 6);
        return 1;
    case APP0 + 2:
        if (starts(segment, "MPF", 4)) {
            return 0;
        }
        header->doubtful |= starts(segment, "ICC_PROFILE", 12) && segment->length < 14;
        return 1;
    case APP0 + 13:
        header->doubtful |= starts(segment, "Photoshop 3.0", 14) && !photoshop_is_harmless(segment);
        return 1;
    case APP0 + 14:
        header->adobe = starts(segment, "Adobe", 5) && segment->length >= 12 ? segment->bytes[11] : header->adobe;
        return !starts(segment, "Adobe", 5) || segment->length >= 12;
    default:
        return 1;
    }
}

static int read_segment(int marker, const Segment *segment, Header *header, Seen *seen) {
    switch (marker) {
    case SOF0:
    case SOF1:
    case SOF2:
        return seen->frames++ == 0 && read_frame(marker, segment, header);
    case DRI:
        header->restarts = segment->length == 2 ? be16(segment->bytes) : 0;
        return segment->length == 2;
    case DHT:
        return read_huffman(segment, &header->tables);
    case DQT:
        return read_quantization(segment, &header->tables);
    case COM:
        return 1;
    default:
        return marker >= APP0 && marker <= APP15 && read_application(marker, segment, header, seen);
    }
}

int header_parse(const uint8_t *data, size_t size, Header *header) {
    Seen seen = {0, 0, 0};
    size_t place = 2;
    memset(header, 0, sizeof *header);
    header->adobe = -1;
    if (size < 4 || data[0] != 0xFF || data[1] != SOI) {
        return 0;
    }
    while (place + 4 <= size && data[place] == 0xFF) {
        int marker = data[place + 1], length = be16(data + place + 2);
        Segment segment = {data + place + 4, (size_t)length - 2};
        place += 2 + (size_t)length;
        if (length < 2 || place > size) {
            return 0;
        }
        if (marker == SOS) {
            header->scan = place;
            read_scan(&segment, header);
            /* Pillow reads the resolution from EXIF if JFIF does not give it. */
            header->doubtful |= seen.exif && !seen.dots_per_inch;
            return seen.frames == 1;
        }
        if (!read_segment(marker, &segment, header, &seen)) {
            return 0;
        }
    }
    return 0;
}

/* Pillow raises an error if libjpeg reports an error, or if the file ends before the last row. It ignores libjpeg's
 * warnings. Inside a scan's coded data, libjpeg only gives warnings; and if the first marker after it (other than
 * restarts) is the end of the image, no error can follow. So rows that no view needs need not be read. */
int scan_ends_image(const uint8_t *data, size_t size, const Header *header) {
    const uint8_t *place = data + header->scan, *end = data + size;
    while ((place = memchr(place, 0xFF, (size_t)(end - place))) != NULL && place + 1 < end) {
        int marker = place[1];
        if (marker == EOI) {
            return 1;
        }
        if (marker != 0 && !(header->restarts && marker >= RST0 && marker <= RST7)) {
            return 0;
        }
        place += 2;
    }
    return 0;
}
